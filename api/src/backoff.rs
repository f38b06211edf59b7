//! How long to wait before a retry: briefly at first, then longer after each failure, up to a limit.
//!
//! Pure: the random number is an argument, and nothing here sleeps.

use std::time::Duration;

/// Computes the waits between attempts and counts consecutive failures.
///
/// The first wait is `base`; each later one is `factor` times as long, up to `cap`. Random jitter adds up to a quarter, so that
/// clients that failed together do not retry together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    factor: u32,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// Creates waits that double from `base` to `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self {
            base,
            factor: 2,
            cap,
            failures: 0,
        }
    }

    /// Sets a different factor. With 1 (or 0), the wait stays the same.
    #[must_use]
    pub const fn with_factor(mut self, factor: u32) -> Self {
        self.factor = if factor == 0 { 1 } else { factor };
        self
    }

    /// The wait after this many consecutive failures; zero if there were none. `chance` is a random number; 0 adds no jitter.
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

    /// Counts a failure and returns the wait that follows it: see [`Backoff::after`].
    pub fn next(&mut self, chance: u64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.after(self.failures, chance)
    }

    /// The number of consecutive failures.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Records a success: the next wait is the first one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests;
