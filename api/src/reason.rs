//! The shared vocabulary of reasons: why an address was not allocated, a node not elected, a VIP not announced, an endpoint not
//! used.
//!
//! Logs, status, events, metrics and tests use it. A reason is a stable CamelCase word; the accompanying sentence names the
//! objects.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why something is in its current state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    // Allocation
    /// The Service has its addresses.
    Allocated,
    /// Not of type LoadBalancer: it gets no external address.
    NotLoadBalancer,
    /// Headless, an alias, or assigned to another proxy by its label: nothing is programmed for it.
    NotProxied,
    /// It has the class of another load balancer.
    OtherClass,
    /// There is no pool at all.
    NoPool,
    /// No pool has a free or shareable address for it.
    PoolExhausted,
    /// The requested pool does not exist.
    UnknownPool,
    /// The requested address is in no pool (that the Service may use).
    OutsidePools,
    /// The requested address is in use by a Service that it cannot share with.
    AddressInUse,
    /// Another Service uses the same port and protocol on the address.
    PortClash,
    /// The address belongs to something else: a node, a pod, another Service, a host.
    AddressOwned,
    /// The host itself listens on this port of its address.
    HostListens,
    /// It is not yet known whether the address belongs to something else.
    AddressUnchecked,
    /// External addresses are switched off.
    ExternalIpsOff,
    /// The Service has more addresses, ports or endpoints than one node will serve.
    OverLimit,
    /// It asks for a scheduler that does not exist or that the kernel lacks: the default is used.
    NoScheduler,
    /// It may not share the address: the traffic policies or selectors differ.
    SharingMismatch,
    /// The requested addresses do not match the Service's families.
    FamilyMismatch,
    /// Addresses are requested in two places, or more than one per family.
    InvalidRequest,
    /// Fewer than half of the known nodes are reachable: nothing new is allocated.
    NoMajority,
    /// No range for ClusterIPs is configured, or it is full.
    NoClusterIp,
    // Election and announcement
    /// This address is announced.
    Announced,
    /// The address has no owner yet.
    NoOwner,
    /// No advertisement covers the pool.
    NoAdvertisement,
    /// No node matches the advertisement's selectors.
    NodeNotSelected,
    /// The node is excluded by its label.
    NodeExcluded,
    /// The node's network is unavailable.
    NetworkUnavailable,
    /// The node is being deleted or drained.
    NodeLeaving,
    /// externalTrafficPolicy Local and no serving endpoint on the node.
    NoLocalEndpoint,
    /// The Service has no serving endpoint at all (its address is still announced: clients are refused, not left waiting).
    NoEndpoints,
    /// The proxy has not programmed the address yet.
    NotProgrammed,
    /// Its addresses are in the kernel.
    Programmed,
    /// No usable interface.
    NoInterface,
    /// The node's view of the others has not settled yet.
    NotSettled,
    // Endpoints
    /// The endpoint is used.
    EndpointUsed,
    /// Not ready.
    EndpointNotReady,
    /// Terminating: no new connections.
    EndpointTerminating,
    /// Policy Local, and it runs on another node.
    EndpointNotLocal,
    /// Its topology hints assign it to another node or zone.
    EndpointElsewhere,
    /// The slice has no port of that name.
    PortNotFound,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
