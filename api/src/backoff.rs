//! How long to wait before something that failed is tried again: a little at first, more each time, up to a limit.
//!
//! Pure: chance is an argument, and nothing here sleeps.

use std::time::Duration;

/// The waits between attempts, and how many attempts have failed in a row.
///
/// The first wait is `base`; each further one is `factor` times as long, up to `cap`. Up to a quarter more is added by chance, so that
/// those who failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    factor: u32,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits that double from `base` to `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self {
            base,
            factor: 2,
            cap,
            failures: 0,
        }
    }

    /// The same with another factor; 1 (and 0) keeps the wait as it is.
    #[must_use]
    pub const fn with_factor(mut self, factor: u32) -> Self {
        self.factor = if factor == 0 { 1 } else { factor };
        self
    }

    /// The wait after so many failures in a row; none before the first. `chance` is a random number, of which 0 adds nothing.
    pub fn after(&self, failures: u32, chance: u64) -> Duration {
        let Some(steps) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let times = self.factor.checked_pow(steps);
        let wait = times.and_then(|times| self.base.checked_mul(times));
        let wait = wait.unwrap_or(self.cap).min(self.cap);
        let quarter = u64::try_from(wait.as_nanos() / 4).unwrap_or(u64::MAX);
        let more = chance.checked_rem(quarter.saturating_add(1)).unwrap_or(0);
        wait.saturating_add(Duration::from_nanos(more))
    }

    /// Counts a failure and says how long to wait after it: see [`Backoff::after`].
    pub fn next(&mut self, chance: u64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.after(self.failures, chance)
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// It succeeded: the next wait is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests;
