//! The events and actions of a member: the values between the machine and the network, the disk and the allocator.

use std::collections::BTreeSet;
use std::sync::Arc;

use ferrolb_controller::assignment::Assignments;

use crate::agreement::table::{Ballot, Name, Saved, Table};

/// This node's view of the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The elected allocator: the settled live member that comes first by name; `None` while this node has not settled.
    pub placer: Option<Name>,
    /// The number of known nodes (Node objects or the static list), including this one and dead ones.
    pub known: usize,
    /// The live nodes among them. It does not matter whether this node is included.
    pub live: BTreeSet<Name>,
}

/// What happens to a member.
#[derive(Debug, Clone)]
pub enum Event {
    /// The view of the others changed.
    View(View),
    /// A message arrived from an authenticated member.
    Received {
        /// Its sender.
        from: Name,
        /// The message.
        bytes: Vec<u8>,
    },
    /// The result of this node's allocator, which continued from the table of [`Action::Lead`].
    Wanted {
        /// The ballot of that action. Results for an older one are ignored.
        ballot: Ballot,
        /// The assignments.
        assignments: Assignments,
    },
    /// The last [`Action::Persist`] is on disk.
    Persisted,
    /// The last [`Action::Persist`] failed. It is retried, and this member does not lead until it can write.
    PersistFailed,
    /// Time passed. Sent every 50 to 100 ms.
    Tick,
}

/// What a member must do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this message to that member. It may be lost.
    Send {
        /// The receiver.
        to: Name,
        /// At most [`crate::agreement::message::MAX_MESSAGE`] bytes.
        bytes: Vec<u8>,
    },
    /// Write this to disk, then report [`Event::Persisted`] or [`Event::PersistFailed`]. Only one write at a time; other events
    /// may come first.
    Persist(Arc<Saved>),
    /// This table is in force now.
    Agreed(Arc<Table>),
    /// This node allocates under this ballot: rebase the allocator on the table, decide, send [`Event::Wanted`]. Repeat this
    /// whenever something changes, until another [`Action::Lead`] or [`Action::Follow`].
    Lead {
        /// To be returned in [`Event::Wanted`].
        ballot: Ballot,
        /// The table to continue from.
        base: Arc<Table>,
    },
    /// This node must stop allocating.
    Follow,
    /// The last [`Action::Persist`] takes so long that it counts as failed until it ends.
    Stalled,
    /// A member named a round that no honest member can have reached. Its message is ignored.
    Leapt {
        /// The member.
        from: Name,
        /// The round.
        round: u64,
    },
    /// A message or a table was invalid; for the log.
    Refused {
        /// Its sender.
        from: Name,
        /// What is wrong.
        why: String,
    },
}
