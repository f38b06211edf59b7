//! Addresses that no pool contains any more while their Services still have them. Pure.
//!
//! After a pool was changed, the allocator gives their Services other addresses, which takes a moment. Until then the node that
//! announces such an address goes on, because clients still use it. Without this, the address would be silent meanwhile, and nodes
//! that learn of the change later would take it over.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ferrolb_api::reason::Reason;

use super::{Answer, Changed};
use crate::diff::Announced;
use crate::state::State;

/// How long an allocator may take.
pub(super) const WHILE: Duration = Duration::from_secs(10);

/// The addresses, and until when each is announced.
#[derive(Debug, Default)]
pub(crate) struct Leaving(BTreeMap<IpAddr, Duration>);

impl Leaving {
    /// Takes those addresses back out of `changed` and into `answers` that this node announces and may go on announcing.
    pub(crate) fn keep(
        &mut self,
        changed: &mut Changed,
        answers: &mut BTreeMap<IpAddr, Answer>,
        state: &State,
        announced: &Announced,
        now: Duration,
    ) {
        changed.permitted.removed.retain(|address| {
            let unnamed = answers.get(address) == Some(&Err(Reason::NoAdvertisement));
            let left = unnamed && state.pool(*address).is_none();
            let Some(on) = announced.get(address).filter(|_| left) else {
                self.0.remove(address);
                return true;
            };
            if now >= *self.0.entry(*address).or_insert(now + WHILE) {
                self.0.remove(address);
                return true;
            }
            answers.insert(*address, Ok(on.clone()));
            false
        });
    }

    /// When the next address is to be decided again.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.0.values().min().copied()
    }

    /// The addresses that are to be decided again.
    pub(crate) fn due(&self, now: Duration) -> impl Iterator<Item = IpAddr> + '_ {
        let due = self.0.iter().filter(move |(_, until)| now >= **until);
        due.map(|(address, _)| *address)
    }

    /// Forgets addresses that a pool contains again, or that no Service has any more.
    pub(crate) fn forget(&mut self, state: &State) {
        let gone = |a: IpAddr| !state.has(a) || state.pool(a).is_some();
        self.0.retain(|address, _| !gone(*address));
    }
}
