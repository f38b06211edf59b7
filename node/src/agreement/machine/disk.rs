//! Whether this member's disk takes what it must keep. A member that cannot write can promise nothing and hold nothing, so it must not lead.

use std::time::{Duration, Instant};

/// A write that takes longer than this counts as failed until it ends.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after the first good write a disk is trusted again: one that is nearly full takes some writes and refuses others.
const CALM: Duration = Duration::from_secs(3);

/// State of the disk, by the writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Disk {
    #[default]
    Works,
    Fails,
    /// It works since then.
    Recovers(Instant),
}

impl Disk {
    /// Whether another member should lead.
    pub(super) fn yields(self) -> bool {
        self != Self::Works
    }

    pub(super) fn wrote(&mut self, now: Instant) {
        if *self == Self::Fails {
            *self = Self::Recovers(now);
        }
    }

    pub(super) fn failed(&mut self) {
        *self = Self::Fails;
    }

    /// Lets time pass; true when a write that began then is now taken for one that will not end.
    pub(super) fn tick(&mut self, began: Option<Instant>, now: Instant) -> bool {
        let since = |t: Instant| now.saturating_duration_since(t);
        if let Self::Recovers(at) = *self
            && since(at) >= CALM
        {
            *self = Self::Works;
        }
        let stalls = *self != Self::Fails && began.is_some_and(|t| since(t) >= PATIENCE);
        if stalls {
            *self = Self::Fails;
        }
        stalls
    }
}
