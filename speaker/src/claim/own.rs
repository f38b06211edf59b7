//! Which addresses this node answers for, and how long it continues after it became ineligible (rule 5).
//!
//! An owner that becomes ineligible answers until its successor speaks, so a planned move leaves no gap. It answers for the grace
//! period while nobody has taken the address, and for the tail once another node has named a successor.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// The addresses this node answers for, each with the time to stop if one is set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own {
    answering: BTreeSet<IpAddr>,
    limits: BTreeMap<IpAddr, Duration>,
}

impl Own {
    pub(crate) fn contains(&self, addr: &IpAddr) -> bool {
        self.answering.contains(addr)
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &IpAddr> {
        self.answering.iter()
    }

    /// Answers without a limit. Returns true if this node did not answer before.
    pub(crate) fn start(&mut self, addr: IpAddr) -> bool {
        self.limits.remove(&addr);
        self.answering.insert(addr)
    }

    /// Stops. Returns true if this node answered.
    pub(crate) fn stop(&mut self, addr: &IpAddr) -> bool {
        self.limits.remove(addr);
        self.answering.remove(addr)
    }

    /// Stops answering for all. Returns the addresses it answered for.
    pub(crate) fn stop_all(&mut self) -> BTreeSet<IpAddr> {
        self.limits.clear();
        std::mem::take(&mut self.answering)
    }

    /// Answers until `until` at the latest, if it answers at all. An earlier limit stays.
    pub(crate) fn limit(&mut self, addr: IpAddr, until: Duration) {
        if self.answering.contains(&addr) {
            let limit = self.limits.entry(addr).or_insert(until);
            *limit = until.min(*limit);
        }
    }

    /// Whether it answers for a limited time only.
    pub(crate) fn limited(&self, addr: &IpAddr) -> bool {
        self.limits.contains_key(addr)
    }

    /// The addresses whose time has run out.
    pub(crate) fn over(&self, now: Duration) -> Vec<IpAddr> {
        self.limits
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(a, _)| *a)
            .collect()
    }

    /// When the time of the next one runs out.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.limits.values().min().copied()
    }
}
