//! The vocabulary of the nftables table: sets, chains, statements.
//!
//! It is far enough above netlink to be readable, and far enough below `nft` to be encoded without a parser. The netlink encoder
//! lowers it to expressions, and the in-memory kernel interprets it. Both work from the same value.

use std::net::IpAddr;

pub use ferrolb_api::Family;
use ferrolb_api::proxy_config::InterfaceName;
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
    /// `ifname`.
    Interface,
}

/// The value type of a map.
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
    /// `None` for a set, otherwise the type of the map's values.
    pub data: Option<Data>,
    /// Whether keys may be ranges (`flags interval`).
    pub interval: bool,
    /// Comment for people who list the table.
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
    /// The interface of this name.
    Interface(InterfaceName),
    /// All interfaces whose names begin so (interval sets only).
    Interfaces(InterfaceName),
}

impl Key {
    /// The addresses from `first` to `last`. A single address is always [`Key::Addr`], so that equal keys are equal values.
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

/// An element of a set or map, identified by its key.
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
    /// Ends the base chain; the packet continues.
    Accept,
    /// Drops the packet.
    Drop,
    /// Returns to the calling chain.
    Return,
    /// Calls a chain.
    Jump(&'static str),
    /// Continues in a chain without returning.
    Goto(&'static str),
}

/// A packet field that a statement reads as part of a lookup key.
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
    /// `iifname`; for what the node itself sends, the empty name (`nft_meta.c`).
    InputInterface,
}

/// One statement of a rule: an action, or a match that must hold before the next statement runs.
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
    /// `meta mark set meta mark | bit`.
    SetMarkBit(u32),
    /// `meta mark & bit != 0`.
    HasMarkBit(u32),
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
    /// `dnat ip to ip daddr`: fixes the NAT of a flow without changing it.
    DnatToSelf(Family),
}

/// A rule: statements from left to right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Statements.
    pub statements: Vec<Statement>,
    /// Comment for people who list the rules.
    pub comment: &'static str,
}

/// Where a base chain hooks in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// The hook.
    pub point: HookPoint,
    /// Priority.
    pub priority: i32,
    /// Whether it is a `nat` chain; otherwise `filter`.
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
    /// The hook of a base chain (policy accept); `None` for other chains.
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
