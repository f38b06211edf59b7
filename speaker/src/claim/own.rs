//! Which addresses this node answers for, and for how long it goes on after it should not (rule 5).
//!
//! An owner that becomes ineligible answers until its successor speaks, so that a planned move leaves no gap: for the
//! grace while nobody took the address, for the tail once somebody else said who will.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// The addresses answered for, and when to stop where that is decided.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own {
    answering: BTreeSet<IpAddr>,
    limits: BTreeMap<IpAddr, Duration>,
}

impl Own {
    pub(crate) fn contains(&self, addr: &IpAddr) -> bool {
        self.answering.contains(addr)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &IpAddr> {
        self.answering.iter()
    }

    /// Answers without a limit; true where this node did not answer before.
    pub(crate) fn start(&mut self, addr: IpAddr) -> bool {
        self.limits.remove(&addr);
        self.answering.insert(addr)
    }

    /// Stops; true where this node answered.
    pub(crate) fn stop(&mut self, addr: &IpAddr) -> bool {
        self.limits.remove(addr);
        self.answering.remove(addr)
    }

    /// Stops all; returns what was answered for.
    pub(crate) fn stop_all(&mut self) -> BTreeSet<IpAddr> {
        self.limits.clear();
        std::mem::take(&mut self.answering)
    }

    /// Goes on until `until` at the latest, if it answers at all. An earlier limit stays.
    pub(crate) fn limit(&mut self, addr: IpAddr, until: Duration) {
        if self.answering.contains(&addr) {
            let limit = self.limits.entry(addr).or_insert(until);
            *limit = until.min(*limit);
        }
    }

    /// Whether it answers only for a while.
    pub(crate) fn limited(&self, addr: &IpAddr) -> bool {
        self.limits.contains_key(addr)
    }

    /// The addresses whose time is over.
    pub(crate) fn over(&self, now: Duration) -> Vec<IpAddr> {
        self.limits
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(a, _)| *a)
            .collect()
    }

    /// When the next one's time is over.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.limits.values().min().copied()
    }
}
