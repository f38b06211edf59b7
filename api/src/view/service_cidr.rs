//! The ServiceCIDR: a range from which the API server assigns ClusterIPs.

use ipnet::IpNet;

/// A ServiceCIDR.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceCidr {
    /// Name.
    pub name: String,
    /// `spec.cidrs`: at most one of each family.
    pub cidrs: Vec<IpNet>,
}
