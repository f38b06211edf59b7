//! What must change on the LAN: the difference between what is announced and what should be announced. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Announced addresses, each with its interfaces (by index).
pub(crate) type Announced = BTreeMap<IpAddr, BTreeSet<u32>>;

/// A difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Diff {
    /// Start announcing on these interfaces and send gratuitous ARP.
    pub start: Announced,
    /// Stop announcing on these interfaces. Nothing is sent: the successor announces itself.
    pub stop: Announced,
}

/// The difference between `now` and `then`.
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
