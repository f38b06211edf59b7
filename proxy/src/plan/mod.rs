//! What this node does for each Service, decided once: on which addresses it is served, by which endpoints with which weight and in
//! which way, whose connections are masqueraded, who may come, and why something is refused.
//!
//! A plan is a value without a word of the kernel in it. [`crate::lower`] turns plans into virtual servers and nftables elements; a
//! lowering to something else needs nothing but the plans. The status of the proxy is made of them too.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ferrolb_api::Family;
use ferrolb_api::reason::Reason;
use ferrolb_api::traffic::choices::Numbers;
use ferrolb_api::view::{Protocol, TrafficPolicy};
use ipnet::IpNet;

mod admission;
mod backends;
mod claims;
mod fronts;
mod index;
pub mod ranges;
pub mod refusal;
mod service;
#[cfg(test)]
mod tests;

pub use index::Plans;
pub use refusal::Cause;

/// Address, port and protocol that clients connect to.
pub type FrontKey = (IpAddr, u16, Protocol);

/// What kind of address a Service is wanted on. Of several Services that want one key, the kind that comes first here has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Within the cluster.
    ClusterIp,
    /// An address of a load balancer; the only one that source ranges apply to.
    LoadBalancer,
    /// A port of a node's own address.
    NodePort,
    /// An external address that the user routes here.
    External,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "ClusterIP",
            Self::LoadBalancer => "load-balancer address",
            Self::NodePort => "node port",
            Self::External => "external address",
        })
    }
}

/// The plan for one Service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServicePlan {
    /// Its ports that are wanted on some address, in order.
    pub ports: Vec<PortPlan>,
    /// Its endpoints. Ports that the same endpoints serve share a set.
    pub backends: Vec<Vec<Backend>>,
    /// A client stays with one endpoint for so many seconds after its last connection.
    pub affinity: Option<u32>,
    /// More endpoints than this node can program for it; so many of each set are used.
    pub limited_to: Option<usize>,
}

/// The plan for one port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortPlan {
    /// Name, empty where it has none.
    pub name: String,
    /// Port of the Service.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// The addresses that it is wanted on, served or not.
    pub fronts: Vec<Front>,
    /// Its endpoints in the families in which it is served.
    pub targets: Vec<Targets>,
}

/// The endpoints of a port in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// Family.
    pub family: Family,
    /// Which set of [`ServicePlan::backends`].
    pub set: usize,
    /// The numbers of their ports.
    pub numbers: Numbers,
}

/// An endpoint, for all ports that it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its address; the port says something with [`Numbers::Given`] only.
    pub addr: SocketAddr,
    /// Which of the lists of ports holds for it.
    pub list: usize,
    /// Name of its node.
    pub node: Option<String>,
    /// Where it is, seen from this node.
    pub place: Place,
    /// How packets get to it.
    pub way: Way,
    /// What it gets under traffic policy Cluster.
    pub cluster: Role,
    /// What it gets under traffic policy Local.
    pub local: Role,
}

impl Backend {
    /// What it gets under a policy.
    pub fn role(&self, policy: TrafficPolicy) -> Role {
        match policy {
            TrafficPolicy::Cluster => self.cluster,
            TrafficPolicy::Local => self.local,
        }
    }
}

/// Where an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On another node, or nobody knows where.
    Elsewhere,
    /// A pod of this node with an address of its own, so that it may be its own client.
    Here,
    /// It has the address of this node itself.
    Host,
}

/// How packets get to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// This node translates destination and port, and the replies come back through it.
    Translate,
}

/// What an endpoint gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// Its share of the new connections. 0: none, but those that live go on. `None`: it does not take part.
    pub weight: Option<u32>,
    /// Why.
    pub reason: Reason,
}

/// An address and port that a Service port is wanted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Front {
    /// Address.
    pub addr: IpAddr,
    /// Port that clients connect to.
    pub port: u16,
    /// Kind of address.
    pub reach: Reach,
    /// The traffic policy in force there.
    pub policy: TrafficPolicy,
    /// Whether and how it is served.
    pub standing: Standing,
}

/// Whether and how a front is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// This node serves it.
    Served(Served),
    /// It does not.
    Refused(Cause),
}

impl Front {
    /// How it is served, if it is.
    pub fn served(&self) -> Option<&Served> {
        match &self.standing {
            Standing::Served(served) => Some(served),
            Standing::Refused(_) => None,
        }
    }
}

/// How a front is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The address must be made local on this node. Otherwise it is the node's own and stays where it is.
    pub bind: bool,
    /// What becomes of new connections from outside of the node.
    pub clients: Clients,
    /// Connections of this node and of its pods reach all endpoints, whatever becomes of those from outside.
    pub inside_reaches_all: bool,
    /// Whose connections get an address of this node as their source.
    pub masquerade: Masquerade,
    /// The only sources that may connect, without overlaps; `None`: everybody.
    pub sources: Option<Arc<[IpNet]>>,
}

/// What becomes of new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// They reach the endpoints of the front's policy.
    Served,
    /// Other nodes have endpoints, this one has none: they are dropped.
    Dropped,
    /// Nobody has an endpoint: they are refused.
    Rejected,
}

impl Clients {
    /// Why they are not served.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Served => None,
            Self::Dropped => Some(Reason::NoLocalEndpoint),
            Self::Rejected => Some(Reason::NoEndpoints),
        }
    }
}

/// Whose connections are masqueraded. A pod that reaches itself through a Service always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masquerade {
    /// Everybody's.
    Everybody,
    /// Those of sources outside of the pods' ranges.
    Outsiders,
    /// Those of this node itself: clients keep their address.
    Node,
}
