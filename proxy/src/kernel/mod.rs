//! The kernel as the proxy sees it: a handful of operations and what can be read back.
//!
//! [`Kernel`] has two implementations: the real one over netlink and `/proc/sys`, and one in memory that interprets the very same
//! operations and rules, packet by packet.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeBounds;

use ferrolb_api::view::Protocol;
use ipnet::IpNet;

mod around;
mod ipvs;
pub mod links;
pub mod memory;
mod netlink;
mod nft;
mod parts;
pub mod real;
mod record;
pub mod rule;
pub mod sysctl;
pub mod table;

use crate::surroundings::Surroundings;
use rule::Key;
use table::set;

pub use rule::{Chain, Element, Family, SetDef, Table};

/// What identifies a virtual server (`ip_vs_service`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VirtualServerId {
    /// By address, port and protocol.
    Address {
        /// Address.
        addr: IpAddr,
        /// Port.
        port: u16,
        /// Protocol.
        protocol: Protocol,
    },
    /// By firewall mark, one per family.
    Fwmark {
        /// The mark, not 0.
        mark: u32,
        /// Family of its real servers.
        family: Family,
    },
}

/// A virtual server without its real servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualServer {
    /// Identity.
    pub id: VirtualServerId,
    /// Scheduler (`rr`, `wrr`, `lc`, `sh`, `mh`, ...).
    pub scheduler: String,
    /// Scheduler flags 1 to 3 as in `ip_vs.h` (`IP_VS_SVC_F_SCHED1` ...): `sh` and `mh` always get their fallback flag.
    pub sched_flags: u32,
    /// Persistence in seconds; `None`: not persistent.
    pub persistence: Option<u32>,
}

/// How IPVS hands a packet to a real server (`IP_VS_CONN_F_FWD_MASK`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Forwarding {
    /// Destination NAT.
    #[default]
    Masq,
    /// Encapsulation to the server's node.
    Tunnel,
    /// Direct routing.
    Route,
}

/// A real server (`ip_vs_dest`) of a virtual server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RealServer {
    /// Address and port.
    pub addr: SocketAddr,
    /// Weight; 0 takes no new connections, live ones go on.
    pub weight: u32,
    /// Forwarding method.
    pub forwarding: Forwarding,
}

/// One change to the kernel. Operations of one batch are applied in order; those on nftables go in as one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Put a service address on `kube-ipvs0` and its local route with our `src`.
    AddAddress(IpAddr),
    /// Take it off again.
    DelAddress(IpAddr),
    /// Create a virtual server, or change its scheduler, flags or persistence in place.
    SetVirtualServer(VirtualServer),
    /// Delete a virtual server and its real servers.
    DelVirtualServer(VirtualServerId),
    /// Create a real server, or change its weight or forwarding in place.
    SetRealServer(VirtualServerId, RealServer),
    /// Delete a real server.
    DelRealServer(VirtualServerId, SocketAddr),
    /// Add an element to a set or map of the table.
    AddElement(&'static str, Element),
    /// Delete an element by its key.
    DelElement(&'static str, Element),
}

/// What is in the kernel now, of what is ours (design: addresses on `kube-ipvs0`, the virtual servers on them, our marks, our table).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Addresses of `kube-ipvs0` (v4) and local routes through it (v6).
    pub addresses: BTreeSet<IpAddr>,
    /// All virtual servers, foreign ones too, with their real servers by address.
    pub servers: BTreeMap<VirtualServerId, (VirtualServer, BTreeMap<SocketAddr, RealServer>)>,
    /// Elements of each set and map of the table; a set that is missing means that the table is not (wholly) there.
    pub elements: BTreeMap<&'static str, BTreeSet<Element>>,
    /// The static rules are there, and of this version.
    pub rules_loaded: bool,
}

impl Observed {
    /// The element under a key of a set or map.
    pub fn element(&self, set: &str, key: &[Key]) -> Option<&Element> {
        let first = Element {
            key: key.to_vec(),
            value: None,
        };
        let element = self.elements.get(set)?.range(first..).next()?;
        (element.key == key).then_some(element)
    }

    /// Whether a virtual server is ours: on an address of `kube-ipvs0`, whoever put it there, or on an address that `also` names,
    /// minus the excluded ranges; where our own map has its key; or behind one of our marks.
    pub fn owns(
        &self,
        id: &VirtualServerId,
        excluded: &[IpNet],
        marks: &impl RangeBounds<u32>,
        also: impl FnOnce(IpAddr, u16) -> bool,
    ) -> bool {
        match *id {
            VirtualServerId::Fwmark { mark, .. } => marks.contains(&mark),
            VirtualServerId::Address {
                addr,
                port,
                protocol,
            } => {
                let key = [Key::Addr(addr), Key::Proto(protocol), Key::Port(port)];
                let free = || !excluded.iter().any(|net| net.contains(&addr));
                self.element(set::svc(Family::of(addr)), &key).is_some()
                    || ((self.addresses.contains(&addr) || also(addr, port)) && free())
            }
        }
    }
}

/// Why the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A capability is missing.
    #[error(
        "no permission to change {what}: run as root or with CAP_NET_ADMIN (and CAP_NET_RAW), or announce only with --proxy none"
    )]
    Permission {
        /// What was to be changed.
        what: String,
    },
    /// The kernel lacks a feature.
    #[error("the kernel has no {what}: {hint}")]
    Missing {
        /// The feature.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The kernel refused an operation.
    #[error("{what}: {source}")]
    Refused {
        /// The operation and the object.
        what: String,
        /// The error number's text.
        source: std::io::Error,
    },
    /// The kernel was asked and did not answer.
    #[error(
        "{what}: the kernel did not answer, so it is not known whether this was done; the kernel is read again"
    )]
    Unanswered {
        /// The operation and the object.
        what: String,
    },
    /// The operation was not sent, because the kernel did not answer one before it.
    #[error(
        "{what}: not done, because the kernel did not answer an earlier request; it is tried again"
    )]
    Unsent {
        /// The operation and the object.
        what: String,
    },
    /// A message could not be understood.
    #[error("{what}: unexpected answer of the kernel: {detail}")]
    Protocol {
        /// The operation.
        what: String,
        /// What was wrong.
        detail: String,
    },
}

impl KernelError {
    /// Whether the operation may have been done all the same.
    pub fn is_unanswered(&self) -> bool {
        matches!(self, Self::Unanswered { .. })
    }

    /// Whether it comes from a kernel that does not answer.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::Unanswered { .. } | Self::Unsent { .. })
    }

    /// The same error, for another operation that met with it.
    pub(crate) fn again(&self) -> Self {
        let source = |e: &std::io::Error| {
            e.raw_os_error()
                .map_or_else(|| e.kind().into(), std::io::Error::from_raw_os_error)
        };
        match self {
            Self::Permission { what } => Self::Permission { what: what.clone() },
            Self::Missing { what, hint } => Self::Missing {
                what: what.clone(),
                hint: hint.clone(),
            },
            Self::Refused { what, source: e } => Self::Refused {
                what: what.clone(),
                source: source(e),
            },
            Self::Unanswered { what } => Self::Unanswered { what: what.clone() },
            Self::Unsent { what } => Self::Unsent { what: what.clone() },
            Self::Protocol { what, detail } => Self::Protocol {
                what: what.clone(),
                detail: detail.clone(),
            },
        }
    }
}

/// What a glance at the kernel finds missing ([`Kernel::damage`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// `kube-ipvs0` is gone, made anew or down, or the table is gone or without its rules: prepare again.
    Ground,
    /// The virtual server that was looked for is gone, or its address is not local.
    Server,
}

/// The kernel, real or in memory.
pub trait Kernel: Send {
    /// Makes what everything else needs: `kube-ipvs0`, the table with its static rules (one transaction, existing elements kept), sysctls.
    fn prepare(&mut self) -> impl Future<Output = Result<(), KernelError>> + Send;

    /// Reads what is there.
    fn read(&mut self) -> impl Future<Output = Result<Observed, KernelError>> + Send;

    /// A glance at what a foreign flush takes away: `kube-ipvs0`, the table, and one virtual server with its address. Costs the same
    /// however much is programmed, and does not look at single elements, rules or servers: [`Kernel::read`] does.
    fn damage(
        &mut self,
        sentinel: Option<&VirtualServerId>,
    ) -> impl Future<Output = Result<Option<Damage>, KernelError>> + Send;

    /// Applies a batch; returns, per operation that was not done, its index and the error: every other operation was done. An
    /// operation that the kernel refuses does not stop the others, and deleting what is not there is no error. After one that is not
    /// answered ([`KernelError::is_unanswered`]: it may be done or not) the rest is not sent.
    fn apply(&mut self, ops: &[Op]) -> impl Future<Output = Vec<(usize, KernelError)>> + Send;

    /// Removes all that [`Kernel::prepare`] and [`Kernel::apply`] made, and nothing else.
    fn cleanup(&mut self) -> impl Future<Output = Vec<KernelError>> + Send;
}

/// What is around the node: whoever wants to take an address asks it first.
pub trait Look: Send {
    /// Reads the addresses of the interfaces, the gateways, the neighbour tables and the listening sockets. Changes nothing.
    fn look(&mut self) -> impl Future<Output = Result<Surroundings, KernelError>> + Send;
}
