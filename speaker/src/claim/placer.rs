//! Rule 3: one node places the addresses that nobody holds.
//!
//! It keeps the addresses without a live and eligible claimant and computes when this node may place each, by its rank among the
//! settled members. It chooses the node with the fewest addresses and remembers grants until they are acknowledged.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::rules::score;
use crate::message::{ClaimEntry, NodeName};
use crate::timers::Timers;

/// Only this many ranks ever act. Higher ranks would all act at the same time.
const RANKS: u32 = 6;

/// An address that needs a (new) claimant.
#[derive(Clone, Debug)]
pub(crate) struct Orphan {
    /// Since when some node could take it.
    pub(crate) placeable: Option<Duration>,
    /// Nobody has ever claimed it. Placing it is not a failover, so it may wait until the nodes know of it.
    pub(crate) never: bool,
    /// All settled members could take it, so there is nobody to wait for.
    pub(crate) everyone: bool,
}

/// What else the time of a placement depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlook {
    /// This node's rank among the settled members, lowest name first.
    pub(crate) rank: u32,
    /// Some live member is not settled.
    pub(crate) unsettled: bool,
}

impl Orphan {
    /// When this node may place it, if ever.
    pub(crate) fn due(&self, config: &Timers, outlook: Outlook) -> Option<Duration> {
        if outlook.rank >= RANKS {
            return None;
        }
        let wait = match (self.never, outlook.unsettled, self.everyone) {
            (true, true, _) => config.boot_wait,
            (true, false, false) => config.gather,
            _ => Duration::ZERO,
        };
        Some(self.placeable? + wait + config.rank_delay * outlook.rank)
    }
}

/// The candidate with the fewest addresses. Rendezvous breaks ties.
pub(crate) fn choose<'a>(
    addr: &IpAddr,
    candidates: &[(&'a NodeName, usize)],
) -> Option<&'a NodeName> {
    candidates
        .iter()
        .min_by_key(|(node, load)| (*load, std::cmp::Reverse(score(addr, node))))
        .map(|(node, _)| *node)
}

/// A grant under way.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) to: NodeName,
    pub(crate) claims: Vec<ClaimEntry>,
    pub(crate) resend: Duration,
    pub(crate) tries: u8,
}

/// What the placer remembers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placer {
    pub(crate) orphans: BTreeMap<IpAddr, Orphan>,
    /// By the `seq` of the message that must be acknowledged.
    pub(crate) grants: BTreeMap<u64, Grant>,
}

impl Placer {
    /// This node slept for `stall` until `now`. The others had that time to place what it would place now, so it waits again.
    pub(crate) fn slept(&mut self, stall: Duration, now: Duration) {
        for orphan in self.orphans.values_mut() {
            orphan.placeable = orphan.placeable.map(|at| (at + stall).min(now));
        }
    }

    pub(crate) fn clear(&mut self) {
        self.orphans.clear();
        self.grants.clear();
    }
}
