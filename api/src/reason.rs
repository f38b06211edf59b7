//! The one vocabulary of reasons: why an address was not allocated, a node not elected, a VIP not announced, an endpoint not used.
//!
//! Logs, status, events, metrics and tests speak it. A reason is a stable CamelCase word; the sentence beside it names the objects.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why something is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    // Allocation
    /// The Service has its addresses.
    Allocated,
    /// Not of type LoadBalancer: it gets no external address.
    NotLoadBalancer,
    /// Headless, an alias, or left to another proxy by its label: nothing is programmed for it.
    NotProxied,
    /// Another load balancer's class.
    OtherClass,
    /// There is no pool at all.
    NoPool,
    /// No pool has a free or shareable address for it.
    PoolExhausted,
    /// The pool that it asks for does not exist.
    UnknownPool,
    /// The address that it asks for is in no pool (that it may use).
    OutsidePools,
    /// The address that it asks for is used by a Service with which it does not share.
    AddressInUse,
    /// Another Service has the same port and protocol on the address.
    PortClash,
    /// The address belongs to somebody else: a node, a pod, another Service, a host.
    AddressOwned,
    /// The host itself listens on this port of its address.
    HostListens,
    /// Nobody knows yet whether the address belongs to somebody else.
    AddressUnchecked,
    /// External addresses are switched off.
    ExternalIpsOff,
    /// The Service has more addresses, ports or endpoints than one node serves for it.
    OverLimit,
    /// It may not share: the traffic policies or selectors differ.
    SharingMismatch,
    /// The requested addresses do not fit the Service's families.
    FamilyMismatch,
    /// Addresses asked for in two places, or more than one per family.
    InvalidRequest,
    /// Fewer than half of the known nodes are heard: nothing new is allocated.
    NoMajority,
    /// No range for ClusterIPs is configured, or it is full.
    NoClusterIp,
    // Election and announcement
    /// This address is announced.
    Announced,
    /// The address waits for an owner.
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
    /// The node has not settled its view of the others yet.
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
    /// Its hints prefer it for another node or zone.
    EndpointElsewhere,
    /// The slice has no port of that name.
    PortNotFound,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
