//! How slow this node is, measured by how late its own loop runs. This is the local health multiplier of Lifeguard (Dadgar,
//! Phillips, Currey: "Lifeguard: SWIM-ing with Situational Awareness", 2017). Pure.
//!
//! One stall counts as an accident and is handled as one. A node that stalls twice within a minute will stall again, so it asks
//! the others for patience. It sends them a multiplier for the timers they apply to it, large enough for the second longest of
//! these stalls. A node that is never late has the multiplier 1 and is replaced as quickly as ever.

use std::time::Duration;

use crate::message::MAX_MULTIPLIER;
use crate::timers::Timers;

const LEVELS: usize = MAX_MULTIPLIER as usize;

/// The relevant stalls of the last minute: for each multiplier, the two latest stalls that needed it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    latest: [[Option<Duration>; 2]; LEVELS],
}

impl Health {
    /// Records that the loop did not run for `stall`. A stall that even the largest multiplier does not cover is ignored: asking
    /// for patience would not help.
    pub(crate) fn stalled(&mut self, config: &Timers, stall: Duration, now: Duration) {
        let Some(needed) = needed(config, stall) else {
            return;
        };
        for [last, before] in self.latest.iter_mut().take(needed.into()) {
            (*before, *last) = (*last, Some(now));
        }
    }

    /// The multiplier that this node needs now, 1 to [`MAX_MULTIPLIER`].
    pub(crate) fn multiplier(&self, config: &Timers, now: Duration) -> u8 {
        let recent = |at: &Option<Duration>| at.is_some_and(|at| now < at + config.calm);
        let twice = |pair: &&[Option<Duration>; 2]| pair.iter().all(recent);
        // A multiplier that covers a long stall also covers a shorter one, so the levels that were needed twice come first.
        let levels = self.latest.iter().take_while(twice).count();
        u8::try_from(levels).unwrap_or(MAX_MULTIPLIER).max(1)
    }
}

/// The multiplier that covers a stall with a margin of half its length. `None` if none does.
fn needed(config: &Timers, stall: Duration) -> Option<u8> {
    if stall > config.late * u32::from(MAX_MULTIPLIER) {
        return None;
    }
    let covers = |m: &u8| stall * 3 <= config.late * 2 * u32::from(*m);
    Some((1..MAX_MULTIPLIER).find(covers).unwrap_or(MAX_MULTIPLIER))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_stall_needs_the_multiplier_that_covers_it_with_half_as_much_again() {
        let config = Timers::default();
        let cases = [
            (100, Some(1)),
            (233, Some(1)),
            (234, Some(2)),
            (350, Some(2)),
            (500, Some(3)),
            (1000, Some(5)),
            (2000, Some(8)),
            (2800, Some(8)),
            (2801, None),
        ];
        for (stall, want) in cases {
            assert_eq!(needed(&config, ms(stall)), want, "{stall} ms");
        }
    }

    #[test]
    fn one_stall_is_an_accident_and_two_within_a_minute_ask_for_patience() {
        let (config, mut health) = (Timers::default(), Health::default());
        health.stalled(&config, ms(2000), ms(10_000));
        assert_eq!(health.multiplier(&config, ms(10_000)), 1);
        health.stalled(&config, ms(500), ms(69_000));
        assert_eq!(
            health.multiplier(&config, ms(69_000)),
            3,
            "the second longest of the two"
        );
        assert_eq!(health.multiplier(&config, ms(69_999)), 3);
        assert_eq!(health.multiplier(&config, ms(70_000)), 1);
    }

    #[test]
    fn a_stall_that_no_multiplier_covers_asks_for_none() {
        let (config, mut health) = (Timers::default(), Health::default());
        health.stalled(&config, ms(5000), ms(10_000));
        health.stalled(&config, ms(5000), ms(20_000));
        assert_eq!(health.multiplier(&config, ms(20_000)), 1);
    }

    proptest! {
        #[test]
        fn the_multiplier_is_that_of_the_second_longest_stall_of_the_last_minute(
            stalls in prop::collection::vec((1..3000_u64, 1..30_000_u64), 0..40),
        ) {
            let (config, mut health) = (Timers::default(), Health::default());
            let mut now = Duration::ZERO;
            let mut seen: Vec<(Duration, Duration)> = Vec::new();
            for (stall, wait) in stalls {
                now += ms(wait);
                health.stalled(&config, ms(stall), now);
                seen.push((now, ms(stall)));
                let recent = seen.iter().filter(|(at, _)| now < *at + config.calm);
                let mut needs: Vec<u8> = recent.filter_map(|(_, s)| needed(&config, *s)).collect();
                needs.sort_unstable();
                let want = needs.iter().rev().nth(1).copied().unwrap_or(1);
                prop_assert_eq!(health.multiplier(&config, now), want);
            }
        }
    }
}
