//! The Node: its addresses, pod ranges and labels, and what excludes it from load balancing.

use std::net::IpAddr;

use crate::Labels;
use ipnet::IpNet;

/// A Node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Name.
    pub name: String,
    /// `metadata.uid`; empty if it has none.
    pub uid: String,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `status.addresses` of type InternalIP, in order.
    pub internal_ips: Vec<IpAddr>,
    /// `status.addresses` of type ExternalIP, in order.
    pub external_ips: Vec<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// Condition `NetworkUnavailable` is True.
    pub network_unavailable: bool,
    /// Label `node.kubernetes.io/exclude-from-external-load-balancers` is set (any value).
    pub excluded: bool,
    /// `metadata.deletionTimestamp` is set, or the node carries the taint `ToBeDeletedByClusterAutoscaler`.
    pub leaving: bool,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
}
