//! The messages between nodes, as plain values without their encoding.
//!
//! These are the messages of the ownership protocol (heartbeats, suspicion, and `State`, which carries members, claims and
//! eligibility) and one opaque payload of the node itself. This module knows nothing of bytes, sockets or keys: `wire` encodes
//! and seals. It does know how large a `State` may grow, because the code that fills one must split it into parts that each fit
//! one unfragmented datagram. [`State::size`] is the contract between the two: an encoding may be smaller, never larger.
//!
//! Everything here comes from the network, so every list has a bound ([`MAX_WATCHERS`], [`MAX_OPAQUE`], [`STATE_BUDGET`]).

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The longest node name in bytes: a DNS subdomain, as Kubernetes requires for Node names.
pub const MAX_NAME: usize = 253;

/// The most watchers in a heartbeat.
pub const MAX_WATCHERS: usize = 3;

/// The largest multiplier of a member's timers. Lifeguard's local health multiplier has the same limit.
pub const MAX_MULTIPLIER: u8 = 8;

/// The largest [`Message::Opaque`] payload in bytes.
pub const MAX_OPAQUE: usize = 1100;

/// The largest encoded `State` in bytes, as [`State::size`] counts.
pub const STATE_BUDGET: usize = 1180;

/// Addresses in one part of an eligibility list. All nodes split a list the same way, so parts from different senders fit
/// together.
pub const ELIGIBLE_PART: usize = 40;

/// Nodes that may share one eligibility list in an [`Eligible`] entry.
pub const ELIGIBLE_NODES: usize = 16;

/// The name of a node, from its Node object or the static list. Cheap to clone, ordered by bytes.
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

/// The status of a member in some node's view. The variants are in order of belief: within one incarnation a later variant
/// overrides an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// On the list, never heard.
    Unknown,
    /// Its agent speaks.
    Alive,
    /// Its agent is briefly away, but its node answers: it keeps its addresses.
    Held,
    /// Declared dead.
    Dead,
}

/// A message that fits one datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Sent every heartbeat interval to the nodes that the sender chose as its watchers.
    Heartbeat(Heartbeat),
    /// "Are you there?" Anyone answers with `Pong`.
    Ping,
    /// The answer to `Ping`.
    Pong,
    /// "You are not among my watchers (any more)."
    Unwatch,
    /// "I have not heard `member`. Please ping it and report to me."
    Suspect {
        /// The silent member.
        member: NodeName,
    },
    /// The answer to `Suspect`.
    Answer {
        /// The member in question.
        member: NodeName,
        /// Whether the sender heard it after it received the question.
        heard: bool,
    },
    /// "I have merged your `State` with this `seq`, which asked for an acknowledgement."
    Ack {
        /// The `seq` of that `State`.
        seq: u64,
    },
    /// Members, claims, eligibility: death notice, refutation, grant, delta, full transfer, probe.
    State(State),
    /// "My agent is about to stop. Hold my addresses while my node answers." Sent twice.
    Goodbye {
        /// The sender's incarnation.
        incarnation: u64,
        /// How long to hold, in milliseconds; the receiver's own configuration caps it.
        hold_ms: u32,
    },
    /// A payload of the node for the agreement on allocation, at most [`MAX_OPAQUE`] bytes. The machine ignores it.
    Opaque(Vec<u8>),
}

/// The sign of life, with digests that reveal lost messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The sender's incarnation.
    pub incarnation: u64,
    /// Whether the sender is settled. Its digests mean something only if it is.
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

/// A piece of the sender's view, or the whole view in `parts` parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The sender's incarnation.
    pub incarnation: u64,
    /// Whether the sender is settled; an unsettled sender states no claims.
    pub settled: bool,
    /// How many times longer than usual the sender may be silent, at most [`MAX_MULTIPLIER`].
    pub multiplier: u8,
    /// How many members are alive in the sender's view, including the sender, but without those that are silent or came back a
    /// moment ago.
    pub company: u16,
    /// The receiver's status in the sender's view, if the receiver needs to know it.
    pub you: Option<(Status, u64)>,
    /// Whether this is a part of the sender's whole table.
    pub full: bool,
    /// Whether the sender asks for the receiver's whole table.
    pub want: bool,
    /// Whether the sender asks for an `Ack`.
    pub ack: bool,
    /// Whether the sender asks for agreement with these claims. Reserved; always false today.
    pub vote: bool,
    /// The number of this message. All parts of a transfer share one. Unique per sender and incarnation.
    pub seq: u64,
    /// Which part, from 0.
    pub part: u16,
    /// The number of parts, at least 1.
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
    /// The node.
    pub node: NodeName,
    /// Its incarnation.
    pub incarnation: u64,
    /// Its status.
    pub status: Status,
    /// Whether it is settled in that incarnation.
    pub settled: bool,
    /// How many times longer than usual it may be silent, at most [`MAX_MULTIPLIER`].
    pub multiplier: u8,
    /// With `Held`: the rest of the hold in milliseconds. The receiver caps it.
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
    /// Whether no majority has confirmed it.
    pub provisional: bool,
}

/// One part of a list of addresses that some nodes may announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eligible {
    /// The nodes with this list, each with its own version of it; at most [`ELIGIBLE_NODES`].
    pub nodes: Vec<(NodeName, u64)>,
    /// Which part of the sorted list, from 0.
    pub part: u16,
    /// The number of parts, at least 1. All parts but the last hold [`ELIGIBLE_PART`] addresses.
    pub parts: u16,
    /// The addresses of this part.
    pub addresses: Vec<IpAddr>,
}

/// A change to the list of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EligibleChange {
    /// The node.
    pub node: NodeName,
    /// The version that it changes. A receiver with another version ignores the change and waits for the whole list.
    pub from: u64,
    /// The resulting version.
    pub to: u64,
    /// Addresses that it may announce from now on. `added` and `removed` together hold at most [`ELIGIBLE_PART`].
    pub added: Vec<IpAddr>,
    /// Addresses that it may no longer announce.
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
    /// Bytes on the wire without the name, which appears once in the message's table of names.
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
    /// Bytes of an empty `State`: incarnation, flags, multiplier, company, `you`, seq, part, parts, and the five list lengths.
    pub const EMPTY: usize = 8 + 1 + 3 + 14 + 8 + 4 + 10;

    /// Upper bound of the encoded size in bytes. Entries refer to names by one octet, and each name appears once in a table (one
    /// octet of length, then the name). Hence at most 255 distinct names per part.
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
