//! Detects other stations that claim one of our addresses by ARP. Pure.
//!
//! A conflict never makes this node withdraw: the members decide who announces an address. A foreign frame is answered with one
//! gratuitous ARP (RFC 5227 section 2.4, at most one in 10 s) and reported at most once a minute. The defence waits a moment
//! first: in a planned move, the successor's first frame may arrive before its claim, and that frame must be the last one on the
//! LAN.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::frame::arp::Mac;

/// Longer than the handover tail of the ownership protocol, so a node that still announces after it is the owner.
const WAIT: Duration = Duration::from_millis(500);
/// `DEFEND_INTERVAL` of RFC 5227.
const DEFEND: Duration = Duration::from_secs(10);
const REPORT: Duration = Duration::from_secs(60);
/// Conflicts are forgotten this long after the last foreign frame.
const FORGET: Duration = Duration::from_secs(300);
/// At most one entry per address and interface that we announce, so a flood of foreign frames cannot fill the table.
type Place = (Ipv4Addr, u32);

/// A foreign claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The other station that claims the address.
    pub mac: Mac,
    /// When it last claimed it.
    pub last: Duration,
    due: Option<Duration>,
    defended: Option<Duration>,
    reported: Option<Duration>,
}

/// What to do about a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Defence {
    /// Address and interface to send one gratuitous ARP for.
    pub place: Place,
    /// The other station.
    pub mac: Mac,
    /// Whether to log it.
    pub report: bool,
}

/// All conflicts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conflicts(BTreeMap<Place, Conflict>);

impl Conflicts {
    /// A frame from `mac` claims an address that we announce on this interface.
    pub(crate) fn foreign(&mut self, place: Place, mac: Mac, now: Duration) {
        let c = self.0.entry(place).or_insert(Conflict {
            mac,
            last: now,
            due: None,
            defended: None,
            reported: None,
        });
        c.mac = mac;
        c.last = now;
        if c.due.is_none() {
            let earliest = c.defended.map_or(Duration::ZERO, |d| d + DEFEND);
            c.due = Some((now + WAIT).max(earliest));
        }
    }

    /// When the next action is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.0.values().filter_map(|c| c.due).min()
    }

    /// What is due now, for the places that are still ours.
    pub(crate) fn due(&mut self, now: Duration, ours: impl Fn(Place) -> bool) -> Vec<Defence> {
        self.0
            .retain(|place, c| ours(*place) && now.saturating_sub(c.last) < FORGET);
        let mut due = Vec::new();
        for (place, c) in self
            .0
            .iter_mut()
            .filter(|(_, c)| c.due.is_some_and(|d| d <= now))
        {
            c.due = None;
            c.defended = Some(now);
            let report = c.reported.is_none_or(|r| now.saturating_sub(r) >= REPORT);
            if report {
                c.reported = Some(now);
            }
            due.push(Defence {
                place: *place,
                mac: c.mac,
                report,
            });
        }
        due
    }

    /// The addresses of conflicts that outlived the wait.
    pub(crate) fn addresses(&self) -> BTreeSet<IpAddr> {
        self.iter().map(|((a, _), _)| IpAddr::V4(a)).collect()
    }

    /// Conflicts that outlived the wait, by address and interface.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Place, &Conflict)> {
        self.0
            .iter()
            .filter(|(_, c)| c.defended.is_some())
            .map(|(p, c)| (*p, c))
    }
}
