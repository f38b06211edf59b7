//! The proxy's interface to the kernel: a few operations, and reading back the state.
//!
//! [`Kernel`] has two implementations: the real one over netlink and `/proc/sys`, and one in memory that interprets the same
//! operations and rules, packet by packet.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeBounds;

use ferrolb_api::proxy_config::ProxyConfig;
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

/// The identity of a virtual server (`ip_vs_service`).
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
    /// Scheduler flags 1 to 3 as in `ip_vs.h` (`IP_VS_SVC_F_SCHED1` ...). `sh` and `mh` always get their fallback flag.
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
    /// Weight. With 0 it takes no new connections; existing ones continue.
    pub weight: u32,
    /// Forwarding method.
    pub forwarding: Forwarding,
}

/// One change to the kernel. The operations of a batch are applied in order; those on nftables form one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Add a service address to `kube-ipvs0`, with its local route and our `src`.
    AddAddress(IpAddr),
    /// Remove it.
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

/// What a virtual server has carried (`IPVS_STATS_ATTR_*` of `linux/ip_vs.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Connections.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
}

impl Traffic {
    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The sum of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            connections: self.connections.saturating_add(other.connections),
            packets_in: self.packets_in.saturating_add(other.packets_in),
            packets_out: self.packets_out.saturating_add(other.packets_out),
            bytes_in: self.bytes_in.saturating_add(other.bytes_in),
            bytes_out: self.bytes_out.saturating_add(other.bytes_out),
        }
    }
}

/// The part of the kernel's state that is ours (design: addresses on `kube-ipvs0`, the virtual servers on them, our marks, our
/// table).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Addresses on `kube-ipvs0` (v4) and local routes through it (v6).
    pub addresses: BTreeSet<IpAddr>,
    /// All virtual servers including foreign ones, with their real servers by address.
    pub servers: BTreeMap<VirtualServerId, (VirtualServer, BTreeMap<SocketAddr, RealServer>)>,
    /// What virtual servers have carried since they were made.
    pub traffic: BTreeMap<VirtualServerId, Traffic>,
    /// Elements of each set and map of the table. A missing set means that the table is missing or incomplete.
    pub elements: BTreeMap<&'static str, BTreeSet<Element>>,
    /// Whether the static rules are loaded, in this version.
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

    /// Whether a virtual server is ours. That is one on an address of `kube-ipvs0`, no matter who put it there, or on an address
    /// that `also` names, except for the excluded ranges; one whose key is in our own map; or one behind one of our marks.
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

/// A setting that had another value than the datapath needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// Its name: `sysctl net/ipv4/vs/conntrack`.
    pub what: String,
    /// The value that was found.
    pub was: String,
    /// The value that was set.
    pub is: String,
}

impl std::fmt::Display for Mended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, was, is } = self;
        write!(
            f,
            "{what} was {was} and is {is} again: something else on this node sets it, and while it is wrong connections may fail. Find out what, \
             and let it leave this setting alone"
        )
    }
}

/// Why a kernel operation failed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A capability is missing.
    #[error(
        "no permission to change {what}: run as root or with CAP_NET_ADMIN (and CAP_NET_RAW), or announce only with --proxy none"
    )]
    Permission {
        /// What should have been changed.
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
    /// The scheduler is neither built in nor a module that can be loaded.
    #[error(
        "the kernel has no IPVS scheduler {name}: load it with `modprobe ip_vs_{name}`, or name another one in ipvs.scheduler of the \
         KubeProxyConfiguration; Services are not served until then"
    )]
    NoScheduler {
        /// Its name.
        name: String,
    },
    /// The kernel refused an operation.
    #[error("{what}: {source}")]
    Refused {
        /// The operation and the object.
        what: String,
        /// The error number's text.
        source: std::io::Error,
    },
    /// The kernel did not answer a request.
    #[error(
        "{what}: the kernel did not answer, so it is not known whether this was done; the kernel is read again"
    )]
    Unanswered {
        /// The operation and the object.
        what: String,
    },
    /// The operation was not sent, because the kernel did not answer an earlier one.
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
    /// Whether the operation may have been done anyway.
    pub fn is_unanswered(&self) -> bool {
        matches!(self, Self::Unanswered { .. })
    }

    /// Whether the kernel did not answer.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::Unanswered { .. } | Self::Unsent { .. })
    }

    /// The same error for another affected operation.
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
            Self::NoScheduler { name } => Self::NoScheduler { name: name.clone() },
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

/// What a quick check of the kernel finds missing ([`Kernel::damage`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// `kube-ipvs0` is gone, recreated or down, or the table is gone or has lost its rules. Prepare again.
    Ground,
    /// The virtual server that was checked is gone, or its address is not local.
    Server,
}

/// The kernel, real or in memory.
pub trait Kernel: Send {
    /// Creates what everything else needs: `kube-ipvs0`, the table with its static rules (one transaction, existing elements
    /// kept), sysctls.
    fn prepare(&mut self) -> impl Future<Output = Result<(), KernelError>> + Send;

    /// Reads the kernel's state.
    fn read(&mut self) -> impl Future<Output = Result<Observed, KernelError>> + Send;

    /// A quick check for what a foreign flush removes: `kube-ipvs0`, the table, and one virtual server with its address. The cost
    /// does not depend on how much is programmed. It does not check single elements, rules or servers: [`Kernel::read`] does.
    fn damage(
        &mut self,
        sentinel: Option<&VirtualServerId>,
    ) -> impl Future<Output = Result<Option<Damage>, KernelError>> + Send;

    /// Takes over the timeouts and limits of a configuration. [`Kernel::mend`] puts them into force.
    fn tune(&mut self, config: &ProxyConfig);

    /// Puts right the sysctls and timeouts that somebody changed, and returns them.
    fn mend(&mut self) -> impl Future<Output = Result<Vec<Mended>, KernelError>> + Send;

    /// Applies a batch. Returns the index and the error of each operation that was not done; every other operation was done. A
    /// refused operation does not stop the others, and deleting something that does not exist is not an error. After an
    /// unanswered operation ([`KernelError::is_unanswered`]: it may or may not be done) the rest is not sent.
    fn apply(&mut self, ops: &[Op]) -> impl Future<Output = Vec<(usize, KernelError)>> + Send;

    /// Removes everything that [`Kernel::prepare`] and [`Kernel::apply`] created, and nothing else.
    fn cleanup(&mut self) -> impl Future<Output = Vec<KernelError>> + Send;
}

/// Reads the node's surroundings. They are checked before an address is taken.
pub trait Look: Send {
    /// Reads the addresses of the interfaces, the gateways, the neighbour tables and the listening sockets. Changes nothing.
    fn look(&mut self) -> impl Future<Output = Result<Surroundings, KernelError>> + Send;
}
