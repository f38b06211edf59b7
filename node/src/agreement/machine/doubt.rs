//! Members that this one does not follow for a while, with the reasons.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::agreement::table::Name;

/// How long a doubt lasts without confirmation: twenty digests.
const LASTS: Duration = Duration::from_secs(10);

/// A reason to doubt a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doubt {
    /// It reports that it cannot write to its disk: it must not lead.
    Disk,
    /// It named a round that no honest member can have reached: it must not lead.
    Round,
    /// It did not deliver the table that it claims to have: its own claim is no reason to fetch from it.
    Silent,
}

/// Doubts, each with the time of its last confirmation.
#[derive(Debug, Default)]
pub(super) struct Doubts(BTreeMap<(Doubt, Name), Instant>);

impl Doubts {
    pub(super) fn raise(&mut self, doubt: Doubt, of: &Name, now: Instant) {
        self.0.insert((doubt, of.clone()), now);
    }

    pub(super) fn clear(&mut self, doubt: Doubt, of: &Name) {
        self.0.remove(&(doubt, of.clone()));
    }

    pub(super) fn has(&self, doubt: Doubt, of: &Name) -> bool {
        self.0.contains_key(&(doubt, of.clone()))
    }

    /// Whether this member must not lead.
    pub(super) fn bars(&self, name: &Name) -> bool {
        self.has(Doubt::Disk, name) || self.has(Doubt::Round, name)
    }

    /// The members with this doubt.
    pub(super) fn of(&self, doubt: Doubt) -> impl Iterator<Item = &Name> {
        let with = self.0.keys().filter(move |(d, _)| *d == doubt);
        with.map(|(_, name)| name)
    }

    /// Forgets old doubts, and members that are no longer live.
    pub(super) fn expire(&mut self, now: Instant, live: impl Fn(&Name) -> bool) {
        self.0
            .retain(|(_, name), at| live(name) && now.saturating_duration_since(*at) < LASTS);
    }
}
