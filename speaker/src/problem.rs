//! Problems with a node's announcements, as values. They become sentences only where a person reads them.
//!
//! Each says what it concerns, what is wrong, what follows from it, and what to do.

use std::fmt;
use std::io;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::wire::session::Rejected;

/// Why the kernel refused a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The process lacks `CAP_NET_RAW`.
    NoRight,
    /// The kernel's error.
    Kernel(String),
}

/// Why this node cannot listen for members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unheard {
    /// No interface has the address.
    NoAddress,
    /// Another process has the port.
    Taken,
    /// The kernel's error.
    Kernel(String),
}

impl From<&io::Error> for Unheard {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrNotAvailable => Self::NoAddress,
            io::ErrorKind::AddrInUse => Self::Taken,
            _ => Self::Kernel(error.to_string()),
        }
    }
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Problem {
    /// The node cannot answer ARP on an interface.
    NoArp {
        /// The interface.
        interface: String,
        /// Why.
        cause: Cause,
    },
    /// Nodes whose agent is away cannot be pinged.
    NoPing(Cause),
    /// No address of this node is known.
    NoMemberAddress {
        /// This node.
        node: String,
    },
    /// The members' port cannot be opened.
    NoMemberPort {
        /// The address to listen on.
        address: IpAddr,
        /// The UDP port.
        port: u16,
        /// Why.
        cause: Unheard,
    },
    /// Two or more members are said to listen on one address.
    OneAddress {
        /// The address.
        address: IpAddr,
        /// The members.
        members: Vec<String>,
    },
    /// None of the other members is heard.
    Alone {
        /// This node.
        node: String,
        /// The other members.
        members: Vec<String>,
        /// The UDP port on which members talk.
        port: u16,
    },
    /// Datagrams from an address are dropped.
    Dropped {
        /// The sender's address.
        from: IpAddr,
        /// Why.
        why: Rejected,
    },
    /// This node is late so often that it asked the others for patience.
    Slow {
        /// This node.
        node: String,
        /// How many times longer than usual it may be silent.
        multiplier: u8,
        /// How long its addresses may stay unanswered if it fails, in milliseconds.
        failover_ms: u64,
    },
    /// An interface of this node has the address of a Service, so the kernel answers for it.
    Carried {
        /// The address.
        address: IpAddr,
        /// The length of its prefix there.
        prefix: u8,
        /// The interface.
        interface: String,
        /// The node that announces the address, if any does.
        announcer: Option<String>,
    },
    /// A member sent a number that was refused.
    Leap {
        /// The sender.
        member: String,
        /// Which number it is, as a noun.
        field: String,
        /// The value that was sent.
        said: u64,
        /// The largest value that would have been accepted.
        bound: u64,
    },
}

impl Problem {
    /// What it concerns: an interface, a node, an address.
    pub fn object(&self) -> String {
        match self {
            Self::NoArp { interface, .. } => format!("interface {interface}"),
            Self::NoPing(_) => String::new(),
            Self::NoMemberAddress { node } | Self::Slow { node, .. } | Self::Alone { node, .. } => {
                format!("node {node}")
            }
            Self::NoMemberPort { address, port, .. } => format!("UDP {address} port {port}"),
            Self::OneAddress { address, .. } => address.to_string(),
            Self::Dropped { from, .. } => from.to_string(),
            Self::Leap { member, .. } => format!("member {member}"),
            Self::Carried { address, .. } => address.to_string(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoArp { cause: Cause::NoRight, .. } => f.write_str(
                "this node has no right to answer ARP here, so it announces nothing on it: run as root or give the process the capability CAP_NET_RAW",
            ),
            Self::NoArp { cause: Cause::Kernel(error), .. } => {
                write!(f, "this node cannot answer ARP here, so it announces nothing on it: {error}")
            }
            Self::NoPing(Cause::NoRight) => f.write_str(
                "this node has no right to ping other nodes, so their addresses move while their agents restart: run as root or give the process the capability CAP_NET_RAW",
            ),
            Self::NoPing(Cause::Kernel(error)) => write!(
                f,
                "this node cannot ping other nodes, so their addresses move while their agents restart: {error}"
            ),
            Self::NoMemberAddress { .. } => f.write_str(
                "no address of this node is known, so it cannot hear the other members: give its Node an InternalIP",
            ),
            Self::NoMemberPort { cause, .. } => {
                f.write_str("this node cannot listen for members here, so it neither hears them nor agrees with them: ")?;
                match cause {
                    Unheard::NoAddress => f.write_str("none of its interfaces has the address: give its Node or its --member an address that it has"),
                    Unheard::Taken => f.write_str("another process has the port: stop that process, or give all nodes another --port"),
                    Unheard::Kernel(error) => f.write_str(error),
                }
            }
            Self::OneAddress { members, .. } => write!(
                f,
                "members {} have this one address, so only one of them is heard: give each an address of its own",
                members.join(" and ")
            ),
            Self::Alone { members, port, .. } => write!(
                f,
                "it hears none of the other members ({}), so each of them may announce the same addresses: if their agents run, open UDP port {port} between the nodes, and give all of them the same key",
                members.join(", ")
            ),
            Self::Dropped { why, .. } => write!(f, "what it sends to this node is dropped: {why}"),
            Self::Slow { multiplier, failover_ms, .. } => write!(
                f,
                "this node is late so often that the others wait {multiplier} times longer before they take its addresses over, up to {failover_ms} ms: give it more processor time"
            ),
            Self::Carried { address, prefix, interface, announcer } => {
                write!(f, "interface {interface} of this node has this address of a Service, so its kernel answers for it")?;
                if let Some(node) = announcer {
                    write!(f, " beside node {node}, which announces it")?;
                }
                write!(
                    f,
                    ". Another load balancer (kube-vip, keepalived) may have left it there: remove it with `ip address del {address}/{prefix} dev {interface}`"
                )
            }
            Self::Leap { field, said, bound, .. } => write!(
                f,
                "it said {said} for {field}, which is more than any clock accounts for ({bound}), so that was ignored: restart its agent, and look for what else has the members' key"
            ),
        }
    }
}
