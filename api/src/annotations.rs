//! The annotations that ferrolb uses: those of MetalLB, under both of its prefixes, and ferrolb's own.
//!
//! If both of MetalLB's are set, `metallb.io/` wins over the older `metallb.universe.tf/`.

use std::net::IpAddr;

use crate::scheduler::Scheduler;

/// The prefix of ferrolb's own.
pub const OWN_PREFIX: &str = "ferrolb.io/";
/// Of a Service, without the prefix: how its new connections are distributed.
pub const SCHEDULER: &str = "scheduler";
/// Of an EndpointSlice or a Pod, without the prefix: the share of its endpoints.
pub const WEIGHT: &str = "weight";

/// The prefixes in order of precedence.
pub const PREFIXES: [&str; 2] = ["metallb.io/", "metallb.universe.tf/"];
/// The annotation, without its prefix, in which a controller records the pool that the Service's addresses come from.
pub const ALLOCATED_FROM: &str = "ip-allocated-from-pool";
/// All annotations of a Service, without their prefix.
pub const NAMES: [&str; 4] = [
    "address-pool",
    "allow-shared-ip",
    "loadBalancerIPs",
    ALLOCATED_FROM,
];

/// What a Service requests in its annotations, and what a controller recorded there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceAnnotations {
    /// `address-pool`: allocate from this pool only.
    pub pool: Option<String>,
    /// `loadBalancerIPs`: allocate exactly these addresses, at most one per family.
    pub requested: Vec<IpAddr>,
    /// `allow-shared-ip`: Services with an equal key may share an address on disjoint ports.
    pub sharing_key: Option<String>,
    /// What is wrong with the request for addresses (in the annotations, or between them and `spec.loadBalancerIP`), in one
    /// sentence. A Service with an invalid request gets no new address
    /// ([`Reason::InvalidRequest`](crate::reason::Reason::InvalidRequest)) but keeps those it has, and everything else about it
    /// works. `pool`, `requested` and `sharing_key` hold what could be read.
    pub invalid: Option<String>,
    /// `ferrolb.io/scheduler`: how new connections are distributed, or why that cannot be read. `None`: as for all Services.
    pub scheduler: Option<Result<Scheduler, String>>,
    /// `ip-allocated-from-pool`: the pool that the addresses came from, as the controller recorded it.
    pub allocated_from: Option<String>,
}
