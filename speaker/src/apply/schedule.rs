//! When gratuitous ARP is due. Pure.
//!
//! It starts with a burst. The first frames come close together, because every lost frame prolongs an outage; the rest follow
//! MetalLB (every 1.1 s for 5 s). After that it is one frame a minute, because switches and neighbour tables forget.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Milliseconds after the start.
const BURST: [u64; 7] = [0, 100, 500, 1600, 2700, 3800, 4900];
const REFRESH: Duration = Duration::from_secs(60);

/// An address on an interface.
pub(crate) type Place = (Ipv4Addr, u32);

/// The schedule of every announced address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schedule {
    plans: BTreeMap<Place, Plan>,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    begun: Duration,
    /// Rounds done so far.
    done: usize,
    next: Duration,
}

impl Schedule {
    /// Starts the burst, or restarts it. The first round is due at once.
    pub(crate) fn start(&mut self, place: Place, now: Duration) {
        self.plans.insert(
            place,
            Plan {
                begun: now,
                done: 0,
                next: now,
            },
        );
    }

    /// Stops announcing.
    pub(crate) fn stop(&mut self, place: Place) {
        self.plans.remove(&place);
    }

    /// When the next round is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.plans.values().map(|p| p.next).min()
    }

    /// What is due now. Missed rounds are not made up for.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<Place> {
        let mut due = Vec::new();
        for (place, plan) in self.plans.iter_mut().filter(|(_, p)| p.next <= now) {
            due.push(*place);
            plan.done += 1;
            while let Some(ms) = BURST.get(plan.done)
                && plan.begun + Duration::from_millis(*ms) <= now
            {
                plan.done += 1;
            }
            plan.next = match BURST.get(plan.done) {
                Some(ms) => plan.begun + Duration::from_millis(*ms),
                None => now + REFRESH,
            };
        }
        due
    }
}
