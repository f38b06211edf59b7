//! Log lines that would be one for each address, merged into one for each cause. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// How long after a line the next one for any cause is due. What is new meanwhile waits for it.
const EVERY: Duration = Duration::from_secs(10);
/// How many addresses a line names.
const NAMED: usize = 5;

/// Addresses by cause that have not been logged yet.
#[derive(Debug)]
pub(super) struct Digest<C> {
    waiting: BTreeMap<C, BTreeSet<IpAddr>>,
    last: Option<Duration>,
}

impl<C> Default for Digest<C> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            last: None,
        }
    }
}

impl<C: Ord> Digest<C> {
    /// Adds an address to a cause.
    pub(super) fn add(&mut self, cause: C, address: IpAddr) {
        self.waiting.entry(cause).or_default().insert(address);
    }

    /// What is to be logged now.
    pub(super) fn due(&mut self, now: Duration) -> BTreeMap<C, BTreeSet<IpAddr>> {
        let early = |last| now.saturating_sub(last) < EVERY;
        if self.waiting.is_empty() || self.last.is_some_and(early) {
            return BTreeMap::new();
        }
        self.last = Some(now);
        std::mem::take(&mut self.waiting)
    }
}

/// Addresses as a line names them: `192.0.2.1, 192.0.2.2 and 7 more`.
pub(super) struct Few<'a>(pub(super) &'a BTreeSet<IpAddr>);

impl fmt::Display for Few<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().take(NAMED).enumerate() {
            let before = if index > 0 { ", " } else { "" };
            write!(f, "{before}{address}")?;
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_line_names_a_few_addresses_and_counts_the_others() {
        let said = |count: u8| Few(&(1..=count).map(ip).collect()).to_string();
        assert_eq!(said(1), "192.0.2.1");
        assert_eq!(said(2), "192.0.2.1, 192.0.2.2");
        assert!(said(5).ends_with("192.0.2.4, 192.0.2.5"));
        assert!(said(200).ends_with(", 192.0.2.5 and 195 more"));
    }

    #[test]
    fn two_hundred_addresses_of_one_cause_within_seconds_are_two_lines() {
        let mut digest = Digest::default();
        let mut lines = Vec::new();
        for step in 0..200_u8 {
            digest.add("a", ip(step));
            lines.extend(digest.due(Duration::from_millis(40 * u64::from(step))));
        }
        lines.extend(digest.due(EVERY));
        let counts: Vec<usize> = lines.iter().map(|(_, all)| all.len()).collect();
        assert_eq!(counts, [1, 199]);
        assert!(digest.due(EVERY * 3).is_empty());
    }
}
