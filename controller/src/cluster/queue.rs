//! Schedules writes: at most one at a time per Service, a limited number in total, and retries after failures. Pure: clock and
//! randomness are arguments.
//!
//! | event | action |
//! |---|---|
//! | a Service needs a write | write at once, or as soon as its previous write has ended |
//! | the write fails | retry after 1 s, 2 s, ... 60 s; other Services are not delayed |
//! | what was written is not seen yet | do nothing for a minute: the watch lags |
//! | what was written and seen is undone by something else | write again after 1 s, 2 s, ... 60 s: two writers that disagree must not race |
//! | it needs a different write than before | write at once |

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ferrolb_api::refusal::Refusal;
use ferrolb_api::{Backoff, ObjectKey};
use tracing::{debug, info, warn};

use super::diff::Write;

/// The maximum number of concurrent writes.
pub(super) const AT_ONCE: usize = 8;
/// The pauses between two attempts to write one Service.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// A write that is not seen within this time is repeated.
const LAG: Duration = Duration::from_secs(60);
/// After this time, an undone write counts as the first again.
const PEACE: Duration = Duration::from_secs(600);
/// A Service often changes during a write, so this many conflicts are not reported.
const STALE_IS_USUAL: u32 = 3;
/// A write may be undone by accident, so fewer than this many are not reported.
const UNDONE_TOO_OFTEN: u32 = 3;

#[derive(Debug, Default)]
struct Entry {
    want: Option<Write>,
    flying: Option<Write>,
    /// The last write, and whether the Service was seen with it.
    written: Option<(Write, bool)>,
    due: Option<Instant>,
    failures: u32,
    undone: Option<(u32, Instant)>,
    gone: bool,
}

/// All writes, by Service.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: BTreeMap<ObjectKey, Entry>,
    due: BTreeSet<(Instant, ObjectKey)>,
    flying: usize,
    /// Current failures, each with the Services that it affects.
    faults: Vec<(Refusal, BTreeSet<ObjectKey>)>,
}

impl Queue {
    /// Sets what the Service needs according to its newest state; `None` if it shows everything that it should.
    pub(super) fn want(&mut self, key: &ObjectKey, want: Option<Write>, now: Instant) {
        let Some(write) = want else {
            return self.settled(key);
        };
        let entry = self.entries.entry(key.clone()).or_default();
        entry.gone = false;
        let known = entry.want.as_ref().is_some_and(|w| w.same(&write));
        let decided = entry.flying.is_some() || known && entry.due.is_some();
        let again = entry.written.as_ref().filter(|(w, _)| w.same(&write));
        let seen = again.map(|(_, seen)| *seen);
        entry.want = Some(write);
        if decided {
            return;
        }
        entry.failures = 0;
        let at = match seen {
            None => now,
            Some(false) => now + LAG,
            Some(true) => {
                let times = match entry.undone {
                    Some((times, last)) if now.saturating_duration_since(last) < PEACE => times + 1,
                    _ => 1,
                };
                entry.undone = Some((times, now));
                if times == UNDONE_TOO_OFTEN {
                    warn!(service = %key, "somebody else keeps changing its load-balancer status: only one controller may serve a load balancer class");
                }
                now + PAUSES.after(times, 0)
            }
        };
        self.at(key, Some(at));
    }

    /// The Service shows everything that it should.
    fn settled(&mut self, key: &ObjectKey) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        entry.want = None;
        entry.failures = 0;
        if let Some((_, seen)) = &mut entry.written {
            *seen = true;
        }
        self.at(key, None);
        self.recovered(key);
    }

    /// The Service was deleted.
    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.settled(key);
        if let Some(entry) = self.entries.get_mut(key) {
            entry.gone = true;
            if entry.flying.is_none() {
                self.entries.remove(key);
            }
        }
    }

    /// The next write that is due now, if any.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Write> {
        while self.flying < AT_ONCE {
            let (_, key) = self.due.first().filter(|(at, _)| *at <= now).cloned()?;
            self.at(&key, None);
            if let Some(entry) = self.entries.get_mut(&key)
                && let Some(write) = &entry.want
            {
                entry.flying = Some(write.clone());
                self.flying += 1;
                return entry.flying.clone();
            }
        }
        None
    }

    /// When the next write is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let first = self.due.first().map(|(at, _)| *at);
        first.filter(|_| self.flying < AT_ONCE)
    }

    /// Handles the end of a write. Returns the write if it succeeded.
    pub(super) fn done(
        &mut self,
        key: &ObjectKey,
        result: Result<(), Refusal>,
        now: Instant,
        chance: u64,
    ) -> Option<Write> {
        let entry = self.entries.get_mut(key)?;
        let write = entry.flying.take()?;
        self.flying -= 1;
        let same = entry.want.as_ref().map(|w| w.same(&write));
        let (pause, written) = match &result {
            Ok(()) => {
                entry.failures = 0;
                entry.written = Some((write.clone(), same.is_none()));
                (LAG, Some(write))
            }
            Err(_) => {
                entry.failures += 1;
                (PAUSES.after(entry.failures, chance), None)
            }
        };
        let (failures, gone) = (entry.failures, entry.gone);
        match same {
            Some(true) => self.at(key, Some(now + pause)),
            Some(false) => self.at(key, Some(now)),
            None => {}
        }
        match result {
            Err(error) if same.is_some() => self.fault(key, &error, failures),
            _ => self.recovered(key),
        }
        if gone {
            self.entries.remove(key);
        }
        written
    }

    fn at(&mut self, key: &ObjectKey, at: Option<Instant>) {
        if let Some(entry) = self.entries.get_mut(key) {
            if let Some(before) = entry.due.take() {
                self.due.remove(&(before, key.clone()));
            }
            entry.due = at;
            if let Some(at) = at {
                self.due.insert((at, key.clone()));
            }
        }
    }

    /// Logs a new failure once, no matter how many Services it affects or how often it occurs.
    fn fault(&mut self, key: &ObjectKey, refusal: &Refusal, failures: u32) {
        if refusal.is_stale() && failures < STALE_IS_USUAL {
            debug!(service = %key, "it changed meanwhile: {refusal}");
            return;
        }
        for (other, keys) in &mut self.faults {
            if !other.is_like(refusal) {
                keys.remove(key);
            }
        }
        let known = self.faults.iter_mut().find(|(f, _)| f.is_like(refusal));
        if let Some((_, keys)) = known {
            keys.insert(key.clone());
        } else {
            warn!(service = %key, "status not written: {refusal}; trying again until it is");
            self.faults
                .push((refusal.clone(), BTreeSet::from([key.clone()])));
        }
        self.faults.retain(|(_, keys)| !keys.is_empty());
    }

    fn recovered(&mut self, key: &ObjectKey) {
        if self.faults.is_empty() {
            return;
        }
        self.faults.retain_mut(|(_, keys)| {
            keys.remove(key);
            !keys.is_empty()
        });
        if self.faults.is_empty() {
            info!("statuses can be written again");
        }
    }

    /// The number of writes in progress and of those waiting.
    pub(super) fn left(&self) -> (usize, usize) {
        (self.flying, self.due.len())
    }

    /// Whether nothing is in progress or planned, apart from checks on writes that the watch has not shown yet.
    #[cfg(test)]
    pub(super) fn is_quiet(&self) -> bool {
        let waits = |e: &Entry| {
            let seen = e.written.as_ref().zip(e.want.as_ref());
            e.want.is_some() && !seen.is_some_and(|((w, _), want)| w.same(want))
        };
        self.flying == 0 && !self.entries.values().any(waits)
    }
}

#[cfg(test)]
mod tests;
