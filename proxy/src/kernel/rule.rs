//! The words in which the nftables table is written: sets, chains, statements.
//!
//! They are as far above netlink as needed to be read, and as far below `nft` as needed to be encoded without a parser. The netlink
//! encoder lowers them to expressions; the in-memory kernel interprets them. Both work from the same value.

use std::net::IpAddr;

pub use ferrolb_api::Family;
use ferrolb_api::view::Protocol;
use ipnet::IpNet;

/// Type of one part of a (concatenated) key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `ipv4_addr` or `ipv6_addr`.
    Addr(Family),
    /// `inet_proto`.
    Proto,
    /// `inet_service`.
    Port,
}

/// What an element of a map maps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// A verdict.
    Verdict,
    /// A mark.
    Mark,
}

/// A named set or map of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetDef {
    /// Name.
    pub name: &'static str,
    /// Types of the key's parts.
    pub key: &'static [Field],
    /// `None` for a set, else what the map holds.
    pub data: Option<Data>,
    /// Keys may be ranges (`flags interval`).
    pub interval: bool,
    /// Comment for those who list it.
    pub comment: &'static str,
}

/// One part of an element's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// One address.
    Addr(IpAddr),
    /// A range of addresses, inclusive (interval sets only).
    Range(IpAddr, IpAddr),
    /// A protocol.
    Proto(Protocol),
    /// A port.
    Port(u16),
}

impl Key {
    /// The addresses from `first` to `last`; one address alone is always [`Key::Addr`], so that equal keys are equal values.
    pub fn range(first: IpAddr, last: IpAddr) -> Self {
        if first == last {
            Self::Addr(first)
        } else {
            Self::Range(first, last)
        }
    }

    /// The addresses of a network.
    pub fn net(net: &IpNet) -> Self {
        let net = net.trunc();
        Self::range(net.network(), net.broadcast())
    }
}

/// The value of a map's element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// `goto` or `accept`.
    Verdict(Verdict),
    /// A mark.
    Mark(u32),
}

/// An element of a set or map; its identity is the key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// Parts of the key, in the order of [`SetDef::key`].
    pub key: Vec<Key>,
    /// Value, for maps.
    pub value: Option<Value>,
}

/// A verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Ends the base chain, the packet goes on.
    Accept,
    /// Ends the packet.
    Drop,
    /// Back to the calling chain.
    Return,
    /// Call a chain.
    Jump(&'static str),
    /// Continue in a chain without coming back.
    Goto(&'static str),
}

/// What a statement reads from a packet, as a part of a lookup key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// Source address; implies the packet's family.
    Saddr(Family),
    /// Destination address; implies the packet's family.
    Daddr(Family),
    /// `meta l4proto`.
    L4Proto,
    /// `th dport`.
    Dport,
    /// `ct original ip daddr`.
    OriginalDaddr(Family),
    /// `ct original proto-dst`.
    OriginalDport,
}

/// One statement of a rule: a match that must hold for the next to run, or an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement {
    /// `meta nfproto`.
    Family(Family),
    /// `meta l4proto`.
    L4Proto(Protocol),
    /// `ct state new` (true) or `ct state != new` (false).
    StateNew(bool),
    /// `key @set` (true) or `key != @set` (false).
    InSet(&'static [Selector], &'static str, bool),
    /// `fib saddr type local`.
    SourceIsLocal,
    /// `oifname`.
    OutputInterface(&'static str),
    /// `icmp type {...}`.
    Icmp(&'static [u8]),
    /// `icmpv6 type {...}`.
    Icmpv6(&'static [u8]),
    /// `key vmap @map`.
    VerdictMap(&'static [Selector], &'static str),
    /// `meta mark set key map @map`.
    MarkFromMap(&'static [Selector], &'static str),
    /// A verdict.
    Verdict(Verdict),
    /// `reject with tcp reset`.
    RejectTcpReset,
    /// `reject with icmpx port-unreachable`.
    Reject,
    /// `masquerade`.
    Masquerade,
    /// `dnat ip to ip daddr`: settles the NAT of a flow without changing it.
    DnatToSelf(Family),
}

/// A rule: statements from left to right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Statements.
    pub statements: Vec<Statement>,
    /// Comment for those who list it.
    pub comment: &'static str,
}

/// Where a base chain hooks in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// The hook.
    pub point: HookPoint,
    /// Priority.
    pub priority: i32,
    /// A `nat` chain, else `filter`.
    pub nat: bool,
}

/// Hooks of the `inet` family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookPoint {
    /// `prerouting`.
    Prerouting,
    /// `input`.
    Input,
    /// `forward`.
    Forward,
    /// `output`.
    Output,
    /// `postrouting`.
    Postrouting,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Name.
    pub name: &'static str,
    /// Base chain (policy accept) where set.
    pub hook: Option<Hook>,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// The table `inet <name>` with all its static parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Name.
    pub name: &'static str,
    /// Sets and maps.
    pub sets: Vec<SetDef>,
    /// Chains.
    pub chains: Vec<Chain>,
}
