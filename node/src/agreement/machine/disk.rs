//! Whether this member's disk accepts writes. A member that cannot write can neither promise nor hold anything, so it must not
//! lead.

use std::time::{Duration, Instant};

/// A write that takes longer than this counts as failed until it ends.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after the first successful write a disk is trusted again: a nearly full disk accepts some writes and refuses others.
const CALM: Duration = Duration::from_secs(3);

/// State of the disk, according to the writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Disk {
    #[default]
    Works,
    Fails,
    /// It has worked again since this time.
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

    /// Advances the time. Returns true once, when the write that began then counts as stalled.
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
