//! What the machine is told, and what it wants done.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::message::{Message, NodeName};

/// The two clocks of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Since an origin of the caller's choice; never goes back. Take `CLOCK_BOOTTIME` and not `CLOCK_MONOTONIC`
    /// (`std::time::Instant`): a machine that was suspended must notice that it slept.
    pub now: Duration,
    /// Unix time in milliseconds. It only keeps epochs and incarnations rising over restarts; jumps do no harm.
    pub wall: u64,
}

/// What the machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time passes. Due at [`super::Machine::next_wakeup`], and only after the receive queue was emptied: decisions are taken
    /// here and nowhere else, so that none is taken while its refutation waits in the queue.
    Tick,
    /// A message from a known node (the transport has authenticated the sender).
    Received {
        /// The sender.
        from: NodeName,
        /// What it said.
        message: Message,
    },
    /// The kernel of this member's node answered "port unreachable" (`ECONNREFUSED`): the node lives, the agent does not listen.
    Refused(NodeName),
    /// The kernel of this member's node answered a [`Action::KernelPing`].
    KernelAnswered(NodeName),
    /// The addresses that this node may announce: known, with an endpoint, programmed, with an interface, not draining. Give
    /// the first one only when the first pass of programming is over: until then others go on with what they knew.
    Eligible(BTreeSet<IpAddr>),
    /// All addresses that exist.
    Addresses(BTreeSet<IpAddr>),
    /// All nodes that exist, this one included or not.
    Known(BTreeSet<NodeName>),
    /// The agent is about to stop: say goodbye. Nothing happens after it.
    Stop,
}

/// What the machine wants done.
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
    /// This node answers for the address from now on: say so on the LAN.
    Announce(IpAddr),
    /// This node does not answer for the address any more.
    Withdraw(IpAddr),
    /// The view of members or owners changed; at most once per step, and last.
    Changed,
}
