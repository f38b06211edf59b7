//! When gratuitous ARP is due. Pure.
//!
//! It starts with a burst. The first frames come close together, because every lost frame prolongs an outage; the rest follow
//! MetalLB (every 1.1 s for 5 s). After that it is one frame a minute, because switches and neighbour tables forget.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Milliseconds after the start.
const BURST: [u64; 7] = [0, 100, 500, 1600, 2700, 3800, 4900];
const REFRESH: Duration = Duration::from_secs(60);
/// The most rounds in one step of the loop: a heartbeat must not wait for the frames of ten thousand addresses.
const MOST: usize = 512;

/// An address on an interface.
pub(crate) type Place = (Ipv4Addr, u32);

/// The schedule of every announced address. The loop asks it at each step, so what is due is found without looking at the rest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schedule {
    plans: BTreeMap<Place, Plan>,
    /// All places, by the time of their next round.
    order: BTreeSet<(Duration, Place)>,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    begun: Duration,
    /// Rounds done so far.
    done: usize,
    next: Duration,
}

impl Plan {
    /// The plan after a round at `now`. Missed rounds are not made up for.
    fn after(mut self, now: Duration) -> Self {
        let at = |round| {
            BURST
                .get(round)
                .map(|ms| self.begun + Duration::from_millis(*ms))
        };
        self.done += 1;
        while at(self.done).is_some_and(|at| at <= now) {
            self.done += 1;
        }
        self.next = at(self.done).unwrap_or(now + REFRESH);
        self
    }
}

impl Schedule {
    /// Starts the burst, or restarts it. The first round is due at once.
    pub(crate) fn start(&mut self, place: Place, now: Duration) {
        self.put(
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
        if let Some(plan) = self.plans.remove(&place) {
            self.order.remove(&(plan.next, place));
        }
    }

    /// When the next round is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.order.first().map(|(at, _)| *at)
    }

    /// What is due now, in the order in which it became due. If that is much, the rest is due in the next step.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<Place> {
        let mut due = Vec::new();
        while due.len() < MOST && self.next().is_some_and(|at| at <= now) {
            let Some((_, place)) = self.order.pop_first() else {
                break;
            };
            if let Some(plan) = self.plans.get(&place) {
                due.push(place);
                self.put(place, plan.after(now));
            }
        }
        due
    }

    fn put(&mut self, place: Place, plan: Plan) {
        self.stop(place);
        self.plans.insert(place, plan);
        self.order.insert((plan.next, place));
    }
}
