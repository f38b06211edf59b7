//! What this node does for each Service, decided in one place: the addresses on which it is served, the endpoints with their
//! weights and forwarding methods, whose connections are masqueraded, which clients may connect, and why something is refused.
//!
//! A plan is a value that is independent of the kernel. [`crate::lower`] turns plans into virtual servers and nftables elements.
//! Another backend would need nothing but the plans. The status of the proxy is made from them too.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ferrolb_api::Family;
use ferrolb_api::reason::Reason;
use ferrolb_api::scheduler::Scheduler;
use ferrolb_api::traffic::choices::Numbers;
use ferrolb_api::view::{Protocol, TrafficPolicy};
use ipnet::IpNet;

mod admission;
mod backends;
mod claims;
pub mod detection;
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

/// The kind of address. If several Services want the same key, the kind listed first here wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Within the cluster.
    ClusterIp,
    /// An address of a load balancer. Source ranges apply only to this kind.
    LoadBalancer,
    /// A port of a node's own address.
    NodePort,
    /// An external address that the user routes to the nodes.
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
    /// Its endpoints. Ports with the same endpoints share a set.
    pub backends: Vec<Vec<Backend>>,
    /// How many seconds after its last connection a client stays with the same endpoint.
    pub affinity: Option<u32>,
    /// How its new connections are distributed. `None`: as the configuration says.
    pub scheduler: Option<Scheduler>,
    /// Set if the Service has more endpoints than this node can program: how many of each set are used.
    pub limited_to: Option<usize>,
}

impl ServicePlan {
    /// Whether clients from inside, and those from outside, are kept from its endpoints because all are on other nodes.
    pub fn lacks_local(&self) -> [bool; 2] {
        let fronts = self.ports.iter().flat_map(|p| &p.fronts);
        let dropped = fronts.filter(|f| f.served().is_some_and(|s| s.clients == Clients::Dropped));
        dropped.fold([false; 2], |[inside, outside], front| {
            let from_inside = front.reach == Reach::ClusterIp;
            [inside || from_inside, outside || !from_inside]
        })
    }
}

/// The plan for one port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortPlan {
    /// Name; empty if it has none.
    pub name: String,
    /// Port of the Service.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// The addresses on which it is wanted, served or not.
    pub fronts: Vec<Front>,
    /// Its endpoints in the families in which it is served.
    pub targets: Vec<Targets>,
}

/// The endpoints of a port in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// Family.
    pub family: Family,
    /// The index in [`ServicePlan::backends`].
    pub set: usize,
    /// The numbers of their ports.
    pub numbers: Numbers,
}

/// An endpoint, for all ports that it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its address. The port is meaningful only with [`Numbers::Given`].
    pub addr: SocketAddr,
    /// The list of ports that applies to it.
    pub list: usize,
    /// Name of its node.
    pub node: Option<String>,
    /// Its location relative to this node.
    pub place: Place,
    /// How packets reach it.
    pub way: Way,
    /// Its role under traffic policy Cluster.
    pub cluster: Role,
    /// Its role under traffic policy Local.
    pub local: Role,
}

impl Backend {
    /// Its role under a policy.
    pub fn role(&self, policy: TrafficPolicy) -> Role {
        match policy {
            TrafficPolicy::Cluster => self.cluster,
            TrafficPolicy::Local => self.local,
        }
    }
}

/// The location of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On another node, or unknown.
    Elsewhere,
    /// A pod of this node with its own address, so it may be its own client.
    Here,
    /// It uses the address of this node.
    Host,
}

/// How packets reach an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// This node translates destination and port, and the replies return through it.
    Translate,
}

/// The role of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// Its share of the new connections. 0: no new ones, but existing ones continue. `None`: it is not used.
    pub weight: Option<u32>,
    /// The reason.
    pub reason: Reason,
}

/// An address and port on which a Service port is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Front {
    /// Address.
    pub addr: IpAddr,
    /// Port that clients connect to.
    pub port: u16,
    /// Kind of address.
    pub reach: Reach,
    /// The traffic policy that applies there.
    pub policy: TrafficPolicy,
    /// Whether and how it is served.
    pub standing: Standing,
}

/// Whether and how a front is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// This node serves it.
    Served(Served),
    /// This node does not serve it.
    Refused(Cause),
}

impl Front {
    /// How it is served; `None` if it is refused.
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
    /// Whether the address must be made local on this node. If not, it is the node's own and stays where it is.
    pub bind: bool,
    /// What happens to new connections from outside the node.
    pub clients: Clients,
    /// Whether connections from this node and its pods reach all endpoints, no matter what happens to those from outside.
    pub inside_reaches_all: bool,
    /// Whose connections get an address of this node as their source.
    pub masquerade: Masquerade,
    /// The only sources that may connect, without overlaps. `None`: all.
    pub sources: Option<Arc<[IpNet]>>,
}

/// What happens to new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// They reach the endpoints that the front's policy allows.
    Served,
    /// Only other nodes have endpoints, so they are dropped.
    Dropped,
    /// No node has an endpoint, so they are refused.
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
    /// Those of this node itself, and those of pods of other nodes to endpoints of other nodes. Such an endpoint would answer the
    /// pod directly, past this node, and a pod may be its own endpoint.
    NodeAndFar,
}
