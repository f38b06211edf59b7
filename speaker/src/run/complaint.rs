//! What the log says about dropped datagrams. Pure.
//!
//! Anybody can send anything. So log lines are limited in time per reason, and nothing is kept per sender.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::wire::session::Rejected;

/// How long after a report the same reason is reported again.
const AGAIN: Duration = Duration::from_secs(60);

/// When each reason was last reported.
#[derive(Debug, Default)]
pub(super) struct Complaints(BTreeMap<Rejected, Duration>);

impl Complaints {
    /// Whether to report to the operator now: the reason points to a configuration mistake and was not reported recently. What
    /// every restart causes is not reported.
    pub(super) fn due(&mut self, why: Rejected, now: Duration) -> bool {
        let mistake = match why {
            Rejected::Malformed | Rejected::Stranger | Rejected::Own | Rejected::Forged => true,
            Rejected::Replayed | Rejected::Unproven => false,
        };
        let told = self.0.get(&why);
        let due = mistake && told.is_none_or(|at| now.saturating_sub(*at) >= AGAIN);
        if due {
            self.0.insert(why, now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_bad_datagrams_is_told_once_a_minute_for_each_reason() {
        let mut complaints = Complaints::default();
        let mut told = Vec::new();
        for second in 0..120 {
            for why in [Rejected::Forged, Rejected::Stranger, Rejected::Forged] {
                if complaints.due(why, Duration::from_secs(second)) {
                    told.push((second, why));
                }
            }
        }
        let (forged, stranger) = (Rejected::Forged, Rejected::Stranger);
        assert_eq!(
            told,
            [(0, forged), (0, stranger), (60, forged), (60, stranger)]
        );
    }

    #[test]
    fn what_every_restart_brings_about_is_not_told() {
        let mut complaints = Complaints::default();
        for why in [Rejected::Unproven, Rejected::Replayed] {
            assert!(!complaints.due(why, Duration::ZERO), "{why}");
        }
    }
}
