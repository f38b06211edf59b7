//! IPAddressPool v1beta1: addresses for Services.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::crd::LabelSelector;
use crate::{Labels, ObjectKey};

/// An inclusive range of addresses of one family, `first <= last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AddressRange {
    /// First address.
    pub first: IpAddr,
    /// Last address, of the same family.
    pub last: IpAddr,
}

/// `spec.serviceAllocation`: which Services may use the pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceAllocation {
    /// Pools with a lower number are tried first; those with 0 or no number are tried last.
    pub priority: u32,
    /// Namespaces by name.
    pub namespaces: Vec<String>,
    /// Namespaces by label.
    pub namespace_selectors: Vec<LabelSelector>,
    /// Services by label.
    pub service_selectors: Vec<LabelSelector>,
}

/// A pool, from an IPAddressPool or from the legacy ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IpAddressPool {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.labels`, which advertisements select pools by; empty for legacy pools.
    pub labels: Labels,
    /// `spec.addresses`, parsed, in order. The ranges of a pool never overlap.
    pub ranges: Vec<AddressRange>,
    /// Whether Services that name no pool get addresses from this one.
    pub auto_assign: bool,
    /// Skip addresses that end in .0 or .255.
    pub avoid_buggy_ips: bool,
    /// Who may use the pool; `None`: everyone.
    pub allocation: Option<ServiceAllocation>,
    /// `metadata.creationTimestamp` of its object in seconds since 1970 UTC. `None` if no API server set it.
    pub created: Option<i64>,
}

impl IpAddressPool {
    /// Of two pools of one name, the one with the lesser seniority is in force: that of the older object, and of equally old ones
    /// that of the legacy ConfigMap, which in every migration was there first. It does not depend on what is in force already,
    /// because all nodes must come to it, whenever they started.
    pub fn seniority(&self, legacy: bool) -> (Option<i64>, bool) {
        (self.created, !legacy)
    }
}
