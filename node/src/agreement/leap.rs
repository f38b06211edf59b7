//! Limits how far a single member's message may raise the promised round of this one.
//!
//! The leader must use a round above those that a majority promised. If members believed every round that they hear, one false
//! message with a round near the maximum would leave no room for a higher one. Because promises are on disk, this would be
//! permanent.
//! # The bound
//!
//! A round rises by one each time that a member asks for promises: at most once per tick (ten times a second) and once per change
//! of its view. [`LEAP`], 2^36, is more than 200 rounds per second for ten years, so a member that was away for years still
//! believes rounds that rose honestly. Every leap that a member accepts is subtracted from its allowance, which grows back by
//! 2^20 a second, far faster than rounds can rise honestly. So a lying elected member that never stops needs more than 100,000
//! years to reach [`MAX_ROUND`].
//!
//! A member without state (a new one, or one whose disk was replaced) has no round to compare with, and its cluster may have
//! accepted false rounds before. So it believes rounds up to 2^48. If such a round was a lie, the other members do not follow
//! this one, and report it.

use std::time::Instant;

use super::table::MAX_ROUND;

/// The largest leap that is believed.
pub const LEAP: u64 = 1 << 36;
/// The largest leap that a member without state believes.
const LEAP_WITHOUT_STATE: u64 = 1 << 48;
/// The growth of the allowance per second, up to [`LEAP`].
const GROWTH: u64 = 1 << 20;

/// The remaining allowance for leaps.
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
    /// Whether this member, which promised round `promised`, believes that another member is at `round`.
    pub(super) fn permits(&self, promised: u64, round: u64, now: Instant) -> bool {
        let left = match promised {
            0 => LEAP_WITHOUT_STATE,
            _ => self.left(now),
        };
        round < MAX_ROUND && round.saturating_sub(promised) <= left
    }

    /// Subtracts the leap from one promised round to another from the allowance. The very first round is free.
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
