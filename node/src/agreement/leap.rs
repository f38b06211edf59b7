//! How far the word of one member may raise the round that this one promised.
//!
//! Whoever leads must use a round above those that a majority promised. If members believed every round that they hear, one
//! false message with a round near the end of the numbers would leave no room for the next one, on disk and for ever.
//!
//! # The bound
//!
//! A round rises by one each time that a member asks for promises: at most once per tick (ten times a second) and once per change of
//! its view. [`LEAP`], 2^36, is more than 200 rounds in each second of ten years, so a member that was away for years still believes
//! what rose honestly. What a member was led to believe is taken off its allowance, which grows back by 2^20 a second, far
//! faster than rounds can rise honestly. A liar that is elected and lies all day therefore needs more than 100,000 years to reach
//! [`MAX_ROUND`].
//!
//! A member without state (a new one, or one whose disk was replaced) has no round to compare with, and its cluster may have been lied to
//! before: it believes up to 2^48. If that was a lie, the others do not follow that one member, and it is named.

use std::time::Instant;

use super::table::MAX_ROUND;

/// The highest leap that is believed.
pub const LEAP: u64 = 1 << 36;
/// The same for a member without state.
const LEAP_WITHOUT_STATE: u64 = 1 << 48;
/// What the allowance grows by each second, up to [`LEAP`].
const GROWTH: u64 = 1 << 20;

/// What is left of the leaps that this member may be led to.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u64,
    at: Option<Instant>,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            left: LEAP,
            at: None,
        }
    }
}

impl Allowance {
    /// Whether this member, which promised round `promised`, believes that another one is at `round`.
    pub(super) fn permits(&self, promised: u64, round: u64, now: Instant) -> bool {
        let left = match promised {
            0 => LEAP_WITHOUT_STATE,
            _ => self.left(now),
        };
        round < MAX_ROUND && round.saturating_sub(promised) <= left
    }

    /// Takes the leap from a promised round to another one off the allowance. The first round of all is free.
    pub(super) fn spend(&mut self, promised: u64, round: u64, now: Instant) {
        if promised > 0 && round > promised {
            self.left = self.left(now).saturating_sub(round - promised);
            self.at = Some(now);
        }
    }

    fn left(&self, now: Instant) -> u64 {
        let Some(at) = self.at else {
            return self.left;
        };
        let millis = u64::try_from(now.saturating_duration_since(at).as_millis());
        let grown = millis.unwrap_or(u64::MAX).saturating_mul(GROWTH / 1000);
        self.left.saturating_add(grown).min(LEAP)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_leap_that_years_of_honest_rounds_may_cause_is_believed_and_a_greater_one_is_not() {
        let now = Instant::now();
        let allowance = Allowance::default();
        assert!(allowance.permits(7, 7 + LEAP, now));
        assert!(!allowance.permits(7, 8 + LEAP, now));
        assert!(allowance.permits(7, 3, now), "an older round is no leap");
    }

    #[test]
    fn a_member_without_state_believes_the_round_of_an_old_cluster() {
        let now = Instant::now();
        let mut allowance = Allowance::default();
        assert!(allowance.permits(0, 100 * LEAP, now));
        assert!(!allowance.permits(0, MAX_ROUND, now));
        allowance.spend(0, 100 * LEAP, now);
        assert!(allowance.permits(100 * LEAP, 101 * LEAP, now));
        assert!(!allowance.permits(100 * LEAP, 102 * LEAP, now));
    }

    #[test]
    fn many_leaps_in_a_row_are_one_leap_and_the_allowance_grows_back() {
        let mut now = Instant::now();
        let mut allowance = Allowance::default();
        allowance.spend(1, 1 + LEAP, now);
        assert!(!allowance.permits(9, 10, now));
        now += Duration::from_secs(1);
        assert!(allowance.permits(9, 1_000_000, now));
        assert!(!allowance.permits(9, 2_000_000, now));
        now += Duration::from_secs(LEAP / GROWTH * 2);
        assert!(allowance.permits(9, 9 + LEAP, now));
        assert!(!allowance.permits(9, 10 + LEAP, now));
    }

    #[test]
    fn the_last_rounds_are_for_nobody() {
        let now = Instant::now();
        let allowance = Allowance::default();
        assert!(allowance.permits(MAX_ROUND - 2, MAX_ROUND - 1, now));
        assert!(!allowance.permits(MAX_ROUND - 2, MAX_ROUND, now));
    }
}
