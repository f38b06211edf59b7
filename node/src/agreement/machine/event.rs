//! What happens to a member, and what it must do: the values between the machine and the network, disk and allocator.

use std::collections::BTreeSet;
use std::sync::Arc;

use ferrolb_controller::assignment::Assignments;

use crate::agreement::table::{Ballot, Name, Saved, Table};

/// What this node sees of the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The elected allocator: the lowest settled live member; `None` while this node has not settled.
    pub placer: Option<Name>,
    /// How many nodes are known (Node objects or the static list), this one included, dead ones too.
    pub known: usize,
    /// The live ones of them; whether this node is among them does not matter.
    pub live: BTreeSet<Name>,
}

/// What happens to a member.
#[derive(Debug, Clone)]
pub enum Event {
    /// The view of the others changed.
    View(View),
    /// A message came, from an authenticated member.
    Received {
        /// Its sender.
        from: Name,
        /// The message.
        bytes: Vec<u8>,
    },
    /// What this node's allocator computed, going on from the table of [`Action::Lead`].
    Wanted {
        /// The ballot of that action; what was computed for an older one is ignored.
        ballot: Ballot,
        /// The assignments.
        assignments: Assignments,
    },
    /// The last [`Action::Persist`] is on disk.
    Persisted,
    /// The last [`Action::Persist`] failed. It is tried again, and this member does not lead until it can write.
    PersistFailed,
    /// Time passed; every 50 to 100 ms.
    Tick,
}

/// What a member must do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this to that member. It may be lost.
    Send {
        /// The receiver.
        to: Name,
        /// At most [`crate::agreement::message::MAX_MESSAGE`] bytes.
        bytes: Vec<u8>,
    },
    /// Write this to disk, then say [`Event::Persisted`] or [`Event::PersistFailed`]. One at a time; other events may come before.
    Persist(Arc<Saved>),
    /// This table is in force now.
    Agreed(Arc<Table>),
    /// This node allocates under this ballot: rebase the allocator on the table, decide, say [`Event::Wanted`]; again
    /// whenever something changes, until another [`Action::Lead`] or [`Action::Follow`].
    Lead {
        /// To be repeated in [`Event::Wanted`].
        ballot: Ballot,
        /// What to go on from.
        base: Arc<Table>,
    },
    /// This node does not allocate any more.
    Follow,
    /// The last [`Action::Persist`] takes so long that it counts as failed until it ends.
    Stalled,
    /// A member named a round that no honest member can have reached. What it said is ignored.
    Leapt {
        /// The member.
        from: Name,
        /// The round.
        round: u64,
    },
    /// A message or a table made no sense; for the log.
    Refused {
        /// Its sender.
        from: Name,
        /// What is wrong.
        why: String,
    },
}
