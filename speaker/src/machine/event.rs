//! The inputs of the machine and the actions that it asks for.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::message::{Message, NodeName};

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Time since an origin that the caller chooses; never goes back. Use `CLOCK_BOOTTIME` and not `CLOCK_MONOTONIC`
    /// (`std::time::Instant`): a machine that was suspended must notice that it slept.
    pub now: Duration,
    /// Unix time in milliseconds. It only keeps epochs and incarnations rising across restarts. Jumps do no harm.
    pub wall: u64,
}

/// Addresses that joined and left a set. None is in both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// In the set now.
    pub added: BTreeSet<IpAddr>,
    /// No longer in the set.
    pub removed: BTreeSet<IpAddr>,
}

impl Moved {
    /// How `now` differs from `then`.
    pub fn between(then: &BTreeSet<IpAddr>, now: &BTreeSet<IpAddr>) -> Self {
        Self {
            added: now - then,
            removed: then - now,
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

/// An input of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time passes. Due at [`super::Machine::next_wakeup`], and only after the receive queue was emptied. All decisions are taken
    /// here, so that none is taken while a message that refutes it is still queued.
    Tick,
    /// A message from a known node (the transport has authenticated the sender).
    Received {
        /// The sender.
        from: NodeName,
        /// What it said.
        message: Message,
    },
    /// The kernel of this member's node answered "port unreachable" (`ECONNREFUSED`): the node is alive, but its agent does not
    /// listen.
    Refused(NodeName),
    /// The kernel of this member's node answered a [`Action::KernelPing`].
    KernelAnswered(NodeName),
    /// The addresses that this node may announce: known, with an endpoint, programmed, with an interface, not draining. Send the
    /// first set only after the first programming pass: until then the others keep using what they knew.
    Eligible(BTreeSet<IpAddr>),
    /// What changed in that set since. It may name addresses that are already as it says.
    EligibleMoved(Moved),
    /// Addresses that exist from now on, or no longer. It may name addresses that are already as it says.
    Addresses(Moved),
    /// All nodes that exist, with or without this one.
    Known(BTreeSet<NodeName>),
    /// The agent is about to stop and must say goodbye. No event follows.
    Stop,
}

/// An action that the machine asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this message to each of these nodes.
    Send {
        /// The receivers, at least one.
        to: Vec<NodeName>,
        /// What to say.
        message: Message,
    },
    /// Send an ICMP echo request to this node's transport address; an answer is [`Event::KernelAnswered`].
    KernelPing(NodeName),
    /// This node answers for the address from now on: announce it on the LAN.
    Announce(IpAddr),
    /// This node no longer answers for the address.
    Withdraw(IpAddr),
    /// The view of members or owners changed. At most once per step, and last.
    Changed,
}
