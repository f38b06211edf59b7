//! The annotations of a Service that concern ferrolb, under both prefixes of MetalLB.
//!
//! `metallb.io/` wins over the older `metallb.universe.tf/`.

use std::net::IpAddr;

/// The prefixes, the one that wins first.
pub const PREFIXES: [&str; 2] = ["metallb.io/", "metallb.universe.tf/"];
/// Name, after a prefix, of the annotation that a controller writes beside the addresses: the pool that they come from.
pub const ALLOCATED_FROM: &str = "ip-allocated-from-pool";

/// What the annotations of a Service ask for, and what a controller noted there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceAnnotations {
    /// `address-pool`: take addresses from this pool only.
    pub pool: Option<String>,
    /// `loadBalancerIPs`: take exactly these, at most one per family.
    pub requested: Vec<IpAddr>,
    /// `allow-shared-ip`: Services with an equal key may share an address on disjoint ports.
    pub sharing_key: Option<String>,
    /// What is wrong with the request for addresses (in the annotations, or between them and `spec.loadBalancerIP`), in
    /// one sentence. Such a Service gets no new address ([`Reason::InvalidRequest`](crate::reason::Reason::InvalidRequest)),
    /// keeps what it has, and all else about it works; `pool`, `requested` and `sharing_key` hold what could be read.
    pub invalid: Option<String>,
    /// `ip-allocated-from-pool`: the pool that its addresses were taken from, as the controller wrote it.
    pub allocated_from: Option<String>,
}
