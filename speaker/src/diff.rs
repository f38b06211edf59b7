//! What must change on the LAN, from what is announced where to what should be. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Addresses announced, each on its interfaces (by index).
pub(crate) type Announced = BTreeMap<IpAddr, BTreeSet<u32>>;

/// A difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Diff {
    /// Announce on these interfaces from now on, which the LAN has to be told.
    pub start: Announced,
    /// Announce no longer on these interfaces; nothing is said: the successor speaks for itself.
    pub stop: Announced,
}

/// The difference between two.
pub(crate) fn diff(now: &Announced, then: &Announced) -> Diff {
    Diff {
        start: less(then, now),
        stop: less(now, then),
    }
}

fn less(from: &Announced, minus: &Announced) -> Announced {
    let none = BTreeSet::new();
    from.iter()
        .map(|(a, interfaces)| (*a, interfaces - minus.get(a).unwrap_or(&none)))
        .filter(|(_, interfaces)| !interfaces.is_empty())
        .collect()
}
