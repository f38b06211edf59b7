//! The owner of an address, and the places where owners change.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::neighbour::LinkAddress;
use crate::ObjectKey;

/// An owner of an address, strongest first: the order in which [`super::Ownership::owners`] names them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The Node of this name has it as InternalIP or ExternalIP.
    Node(String),
    /// An API server answers there.
    ApiServer,
    /// It is a ClusterIP of this Service.
    ClusterIp(ObjectKey),
    /// It is in this range of ClusterIPs.
    ServiceRange(IpNet),
    /// It is a load-balancer address of this Service.
    LoadBalancer(ObjectKey),
    /// A pod has it.
    Pod,
    /// It is in this range of pods.
    PodRange(IpNet),
    /// It is a next hop in a route of this machine.
    Gateway,
    /// An interface of this machine has it.
    Interface,
    /// It is the first address of this subnet of this machine (RFC 1122 section 3.2.1.3, RFC 4291 section 2.6.1).
    Network(IpNet),
    /// It is the broadcast address of this subnet of this machine (RFC 919 section 7).
    Broadcast(IpNet),
    /// A host on a network of this machine has it.
    Host(LinkAddress),
    /// This Service lists it in `spec.externalIPs`. Several Services may share an external address.
    External(ObjectKey),
}

impl fmt::Display for Owner {
    /// Completes the sentence "the address belongs to ...".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "Node {name}"),
            Self::ApiServer => f.write_str("the API server"),
            Self::ClusterIp(key) => write!(f, "Service {key} as its ClusterIP"),
            Self::ServiceRange(net) => write!(f, "the range of ClusterIPs {net}"),
            Self::LoadBalancer(key) => write!(f, "Service {key} as its load-balancer address"),
            Self::Pod => f.write_str("a pod"),
            Self::PodRange(net) => write!(f, "the range of pods {net}"),
            Self::Gateway => f.write_str("a gateway in the routes of the nodes"),
            Self::Interface => f.write_str("an interface of this node"),
            Self::Network(net) => write!(f, "subnet {net} as its network address"),
            Self::Broadcast(net) => write!(f, "subnet {net} as its broadcast address"),
            Self::Host(link) => write!(f, "the host {link} on the network"),
            Self::External(key) => write!(f, "Service {key} as its external address"),
        }
    }
}

/// Addresses whose owners may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One address.
    Address(IpAddr),
    /// All addresses of a range.
    Range(IpNet),
}
