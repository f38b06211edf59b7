//! The ConfigMap of MetalLB 0.9 (`config` key of `metallb-system/config`), as the pools and the advertisement that it means.

use crate::ObjectKey;
use crate::crd::{IpAddressPool, L2Advertisement};

/// The legacy configuration: its layer 2 pools, each announced everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LegacyConfig {
    /// Namespace and name of the ConfigMap.
    pub key: ObjectKey,
    /// Its pools, in order.
    pub pools: Vec<IpAddressPool>,
    /// What announces them: all layer 2 pools from all nodes.
    pub advertisement: L2Advertisement,
    /// Pools that could not be read, by name: what they were before stays until it is read again.
    pub broken: Vec<String>,
}
