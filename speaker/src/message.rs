//! What nodes say to each other: plain values, without their encoding.
//!
//! The messages are those of the ownership protocol (heartbeats, suspicion, and `State`, the one carrier of members, claims
//! and eligibility) and one opaque payload of the node itself. This module knows no bytes, sockets or keys: `wire` encodes
//! and seals. It does know how large a `State` may grow, because whoever fills one must cut it into parts that each fit
//! one unfragmented datagram; [`State::size`] is the contract between the two: an encoding may be smaller, never larger.
//!
//! Everything here comes from the network, so every list has a bound ([`MAX_WATCHERS`], [`MAX_OPAQUE`], [`STATE_BUDGET`]).

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The longest node name in bytes: a DNS subdomain, as Kubernetes demands of Node names.
pub const MAX_NAME: usize = 253;

/// The most watchers that a heartbeat names.
pub const MAX_WATCHERS: usize = 3;

/// The most that a member's timers are ever widened by (Lifeguard's local health multiplier has the same limit).
pub const MAX_MULTIPLIER: u8 = 8;

/// The largest [`Message::Opaque`] payload in bytes.
pub const MAX_OPAQUE: usize = 1100;

/// The largest encoded `State` in bytes, as [`State::size`] counts.
pub const STATE_BUDGET: usize = 1180;

/// Addresses in one part of an eligibility list; all nodes cut a list alike, so parts from different senders fit together.
pub const ELIGIBLE_PART: usize = 40;

/// Nodes that may share one eligibility list in an [`Eligible`] entry.
pub const ELIGIBLE_NODES: usize = 16;

/// The name of a node: what its Node object or the static list calls it. Cheap to clone, ordered by bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for NodeName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for NodeName {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl Borrow<str> for NodeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a member is in somebody's view. The order is the order of belief at one incarnation: a later variant overrides an earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// On the list, never heard of.
    Unknown,
    /// Its agent speaks.
    Alive,
    /// Its agent is away for a moment, its node answers: it keeps its addresses.
    Held,
    /// Declared dead.
    Dead,
}

/// One datagram's worth of conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Sent every heartbeat interval to the nodes that the sender has chosen as its watchers.
    Heartbeat(Heartbeat),
    /// "Are you there?"; anyone answers with `Pong`.
    Ping,
    /// The answer to `Ping`.
    Pong,
    /// "You are not among my watchers (any more)."
    Unwatch,
    /// "I have not heard `member`; please ping it and tell me."
    Suspect {
        /// Who is silent.
        member: NodeName,
    },
    /// The answer to `Suspect`.
    Answer {
        /// Who was silent.
        member: NodeName,
        /// Whether the sender heard it after it was asked.
        heard: bool,
    },
    /// "I have merged your `State` with this `seq`, which asked for an acknowledgement."
    Ack {
        /// The `seq` of that `State`.
        seq: u64,
    },
    /// Members, claims, eligibility: death notice, refutation, grant, delta, full transfer, probe.
    State(State),
    /// "My agent goes away; hold my addresses while my node answers." Sent twice.
    Goodbye {
        /// The sender's incarnation.
        incarnation: u64,
        /// How long to hold, in milliseconds; the receiver's own configuration caps it.
        hold_ms: u32,
    },
    /// A payload of the node for its agreement on allocation, at most [`MAX_OPAQUE`] bytes. The machine ignores it.
    Opaque(Vec<u8>),
}

/// The sign of life, with the digests that find lost messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The sender's incarnation.
    pub incarnation: u64,
    /// Whether the sender is settled: only then do its digests mean anything.
    pub settled: bool,
    /// How many times longer than usual the sender may be silent, at most [`MAX_MULTIPLIER`].
    pub multiplier: u8,
    /// The nodes that the sender heartbeats, at most [`MAX_WATCHERS`].
    pub watchers: Vec<NodeName>,
    /// Digest of the sender's members and their eligibility.
    pub members: u64,
    /// Digest of the sender's claims.
    pub claims: u64,
}

/// A piece of the sender's view, or all of it in `parts` parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The sender's incarnation.
    pub incarnation: u64,
    /// Whether the sender is settled; an unsettled sender states no claims.
    pub settled: bool,
    /// How many times longer than usual the sender may be silent, at most [`MAX_MULTIPLIER`].
    pub multiplier: u8,
    /// How many members live in the sender's view, itself included, without those that are silent or came back a moment ago.
    pub company: u16,
    /// What the sender takes the receiver for, when that is worth saying.
    pub you: Option<(Status, u64)>,
    /// This is a part of the sender's whole table.
    pub full: bool,
    /// The sender asks for the receiver's whole table.
    pub want: bool,
    /// The sender asks for an `Ack`.
    pub ack: bool,
    /// The sender asks for agreement with these claims; reserved, always false today.
    pub vote: bool,
    /// Number of this message, or of this transfer for all its parts; unique per sender and incarnation.
    pub seq: u64,
    /// Which part, from 0.
    pub part: u16,
    /// How many parts there are, at least 1.
    pub parts: u16,
    /// Members as the sender sees them.
    pub members: Vec<MemberEntry>,
    /// Claims as the sender sees them.
    pub claims: Vec<ClaimEntry>,
    /// Parts of eligibility lists.
    pub eligible: Vec<Eligible>,
    /// Changes of eligibility lists.
    pub changes: Vec<EligibleChange>,
}

/// A member in a [`State`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberEntry {
    /// Who.
    pub node: NodeName,
    /// Which life of it.
    pub incarnation: u64,
    /// What it is.
    pub status: Status,
    /// Whether it is settled in that life.
    pub settled: bool,
    /// How many times longer than usual it may be silent, at most [`MAX_MULTIPLIER`].
    pub multiplier: u8,
    /// With `Held`: for how much longer, in milliseconds; the receiver caps it.
    pub hold_ms: u32,
}

/// A claim in a [`State`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimEntry {
    /// The claimed address.
    pub addr: IpAddr,
    /// The claimant.
    pub node: NodeName,
    /// Later claims have higher epochs.
    pub epoch: u64,
    /// No majority has agreed with it.
    pub provisional: bool,
}

/// One part of the list of addresses that some nodes may announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eligible {
    /// The nodes whose list this is, each with its version of it; at most [`ELIGIBLE_NODES`].
    pub nodes: Vec<(NodeName, u64)>,
    /// Which part of the sorted list, from 0.
    pub part: u16,
    /// How many parts it has, at least 1; all but the last hold [`ELIGIBLE_PART`] addresses.
    pub parts: u16,
    /// The addresses of this part.
    pub addresses: Vec<IpAddr>,
}

/// A change of the list of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EligibleChange {
    /// Whose list.
    pub node: NodeName,
    /// The version that it changes; a receiver that holds another ignores it and waits for the whole.
    pub from: u64,
    /// The version that results.
    pub to: u64,
    /// Addresses that it may announce from now on; `added` and `removed` together at most [`ELIGIBLE_PART`].
    pub added: Vec<IpAddr>,
    /// Addresses that it may not announce any more.
    pub removed: Vec<IpAddr>,
}

/// Bytes of an address: a tag and 4 or 16 octets.
fn address_size(addr: &IpAddr) -> usize {
    match addr {
        IpAddr::V4(_) => 5,
        IpAddr::V6(_) => 17,
    }
}

fn addresses_size(addresses: &[IpAddr]) -> usize {
    2 + addresses.iter().map(address_size).sum::<usize>()
}

impl MemberEntry {
    /// Bytes on the wire without the name, which stands once in the message's table of names.
    pub fn size(&self) -> usize {
        1 + 8 + 1 + 1 + 1 + 4
    }
}

impl ClaimEntry {
    /// Bytes on the wire without the name.
    pub fn size(&self) -> usize {
        address_size(&self.addr) + 1 + 8 + 1
    }
}

impl Eligible {
    /// Bytes on the wire without the names.
    pub fn size(&self) -> usize {
        1 + self.nodes.len() * 9 + 4 + addresses_size(&self.addresses)
    }
}

impl EligibleChange {
    /// Bytes on the wire without the name.
    pub fn size(&self) -> usize {
        1 + 16 + addresses_size(&self.added) + addresses_size(&self.removed)
    }
}

impl State {
    /// Bytes of an empty `State`: incarnation, flags, multiplier, company, `you`, seq, part, parts, and the lengths of the five lists.
    pub const EMPTY: usize = 8 + 1 + 3 + 14 + 8 + 4 + 10;

    /// Upper bound of the encoded size in bytes: entries refer to names by one octet, and each name stands once in a table
    /// (one octet of length, then the name). Hence at most 255 distinct names per part.
    pub fn size(&self) -> usize {
        let mut names: Vec<&NodeName> = Vec::new();
        names.extend(self.members.iter().map(|m| &m.node));
        names.extend(self.claims.iter().map(|c| &c.node));
        names.extend(
            self.eligible
                .iter()
                .flat_map(|e| e.nodes.iter().map(|n| &n.0)),
        );
        names.extend(self.changes.iter().map(|c| &c.node));
        names.sort_unstable();
        names.dedup();
        Self::EMPTY
            + names.iter().map(|n| name_size(n)).sum::<usize>()
            + self.members.iter().map(MemberEntry::size).sum::<usize>()
            + self.claims.iter().map(ClaimEntry::size).sum::<usize>()
            + self.eligible.iter().map(Eligible::size).sum::<usize>()
            + self.changes.iter().map(EligibleChange::size).sum::<usize>()
    }
}

/// Bytes of a name in the table of names.
pub fn name_size(name: &NodeName) -> usize {
    1 + name.as_str().len()
}
