//! Numbers that leap: incarnations, epochs and versions that no honest member can have reached. Pure.
//!
//! All three only grow, and each new one must exceed the last. If a number close to the maximum were accepted, it could have no
//! successor. A node declared dead with such a number would stay dead, and an address claimed with it could never move.
//!
//! These numbers start at a wall clock and grow by one, which gives a simple bound. A clock, right or wrong, yields at most
//! [`LATEST`], and numbers that start there grow slower than time passes. Anything above [`bound`] is dropped, and the sender is
//! remembered for the status.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::message::{Message, NodeName};

/// The latest accepted clock reading, in milliseconds after 1970: the year 2248.
pub(crate) const LATEST: u64 = 1 << 43;

/// How long a leap is reported after it was last heard.
const STANDS: Duration = Duration::from_secs(120);

/// A clock reading, limited to the range from 1 to [`LATEST`].
pub(crate) fn sane(wall: u64) -> u64 {
    wall.clamp(1, LATEST)
}

/// The largest accepted number while this node's clock reads `wall` (Unix time in milliseconds).
pub(crate) fn bound(wall: u64) -> u64 {
    LATEST + sane(wall)
}

/// Which number leapt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leaper {
    /// The incarnation of this node.
    Incarnation(NodeName),
    /// The epoch of a claim to this address.
    Epoch(IpAddr),
    /// The version of this node's eligibility list.
    Eligibility(NodeName),
}

impl fmt::Display for Leaper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incarnation(node) => write!(f, "the incarnation of node {node}"),
            Self::Epoch(address) => write!(f, "the epoch of the claim to {address}"),
            Self::Eligibility(node) => write!(f, "the eligibility version of node {node}"),
        }
    }
}

/// A number that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leap {
    /// The sender.
    pub by: NodeName,
    /// Which number it is.
    pub what: Leaper,
    /// The value that was sent.
    pub said: u64,
    /// The largest value that would have been accepted.
    pub bound: u64,
}

/// Removes every leaping number from a message. If the sender's own incarnation leaps, the message becomes `None`, because
/// nothing else in it can be used. Also returns the last leap found.
pub(crate) fn screen(
    by: &NodeName,
    mut message: Message,
    wall: u64,
) -> (Option<Message>, Option<Leap>) {
    let bound = bound(wall);
    let mut found = None;
    let mut fits = |said: u64, what: &dyn Fn() -> Leaper| {
        if said > bound {
            found = Some(Leap {
                by: by.clone(),
                what: what(),
                said,
                bound,
            });
        }
        said <= bound
    };
    let own = || Leaper::Incarnation(by.clone());
    let taken = match &mut message {
        Message::Heartbeat(h) => fits(h.incarnation, &own),
        Message::Goodbye { incarnation, .. } => fits(*incarnation, &own),
        Message::State(s) => {
            let of = |node: &NodeName| Leaper::Incarnation(node.clone());
            // This field holds the receiver's own number, so a leap here is still the sender's doing.
            if s.you.is_some_and(|(_, said)| !fits(said, &own)) {
                s.you = None;
            }
            s.members.retain(|m| fits(m.incarnation, &|| of(&m.node)));
            s.claims
                .retain(|c| fits(c.epoch, &|| Leaper::Epoch(c.addr)));
            for list in &mut s.eligible {
                list.nodes
                    .retain(|(n, version)| fits(*version, &|| Leaper::Eligibility(n.clone())));
            }
            s.changes
                .retain(|c| fits(c.from.max(c.to), &|| Leaper::Eligibility(c.node.clone())));
            fits(s.incarnation, &own)
        }
        _ => true,
    };
    (taken.then_some(message), found)
}

/// The last leap of each member, while it is worth reporting.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaps(BTreeMap<NodeName, (Leap, Duration)>);

impl Leaps {
    /// Records a leap. Returns true if the report changes.
    pub(crate) fn note(&mut self, leap: Leap, now: Duration) -> bool {
        let what = leap.what.clone();
        let before = self.0.insert(leap.by.clone(), (leap, now));
        before.is_none_or(|(before, _)| before.what != what)
    }

    /// Forgets leaps that were not heard again. Returns true if the report changes.
    pub(crate) fn forget(&mut self, now: Duration) -> bool {
        let before = self.0.len();
        self.0.retain(|_, (_, at)| now.saturating_sub(*at) < STANDS);
        self.0.len() != before
    }

    /// All leaps worth reporting, by sender.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Leap> {
        self.0.values().map(|(leap, _)| leap)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::message::{
        ClaimEntry, Eligible, EligibleChange, Heartbeat, MemberEntry, State, Status,
    };

    const WALL: u64 = 1_800_000_000_000;

    fn said(message: Message) -> (Option<Message>, Option<Leap>) {
        screen(&"n1".into(), message, WALL)
    }

    fn heartbeat(incarnation: u64) -> Message {
        Message::Heartbeat(Heartbeat {
            incarnation,
            settled: true,
            multiplier: 1,
            watchers: Vec::new(),
            members: 0,
            claims: 0,
        })
    }

    #[test]
    fn whatever_a_clock_may_say_is_accepted_and_so_is_its_successor() {
        for mine in [0, WALL, LATEST, u64::MAX] {
            for other in [0, 1, WALL, LATEST, u64::MAX] {
                assert!(sane(other) < bound(mine), "{mine} {other}");
            }
        }
        assert!(bound(u64::MAX) < u64::MAX / 2);
    }

    #[test]
    fn a_sender_whose_own_incarnation_leaps_is_not_heard_and_is_named() {
        let bound = bound(WALL);
        let state = State {
            incarnation: u64::MAX,
            parts: 1,
            ..State::default()
        };
        let goodbye = |incarnation| Message::Goodbye {
            incarnation,
            hold_ms: 1,
        };
        for message in [
            heartbeat(bound + 1),
            heartbeat(u64::MAX),
            goodbye(u64::MAX),
            Message::State(state),
        ] {
            let (taken, leap) = said(message.clone());
            assert_eq!(taken, None, "{message:?}");
            let leap = leap.unwrap();
            assert_eq!(leap.by, "n1".into());
            assert_eq!(leap.what, Leaper::Incarnation("n1".into()));
        }
        for message in [heartbeat(bound), goodbye(bound), Message::Ping] {
            assert_eq!(said(message.clone()), (Some(message), None));
        }
    }

    #[test]
    fn only_what_leaps_is_taken_out_of_a_state() {
        let address: IpAddr = [10, 0, 0, 1].into();
        let state = |incarnation, epoch, version| State {
            incarnation: WALL,
            parts: 1,
            you: Some((Status::Dead, incarnation)),
            members: vec![MemberEntry {
                node: "n2".into(),
                incarnation,
                status: Status::Dead,
                settled: true,
                multiplier: 1,
                hold_ms: 0,
            }],
            claims: vec![ClaimEntry {
                addr: address,
                node: "n2".into(),
                epoch,
                provisional: true,
            }],
            eligible: vec![Eligible {
                nodes: vec![("n2".into(), version), ("n3".into(), WALL)],
                part: 0,
                parts: 1,
                addresses: vec![address],
            }],
            changes: vec![EligibleChange {
                node: "n2".into(),
                from: WALL,
                to: version,
                added: Vec::new(),
                removed: Vec::new(),
            }],
            ..State::default()
        };
        let good = state(WALL, WALL, WALL + 1);
        assert_eq!(
            said(Message::State(good.clone())),
            (Some(Message::State(good.clone())), None)
        );
        let without = |f: &dyn Fn(&mut State)| {
            let mut rest = good.clone();
            f(&mut rest);
            rest
        };
        let cases = [
            (
                state(u64::MAX, WALL, WALL + 1),
                without(&|s| {
                    s.you = None;
                    s.members.clear();
                }),
                Leaper::Incarnation("n2".into()),
            ),
            (
                state(WALL, u64::MAX, WALL + 1),
                without(&|s| s.claims.clear()),
                Leaper::Epoch(address),
            ),
            (
                state(WALL, WALL, u64::MAX),
                without(&|s| {
                    s.changes.clear();
                    s.eligible.iter_mut().for_each(|e| e.nodes.truncate(0));
                    s.eligible
                        .iter_mut()
                        .for_each(|e| e.nodes.push(("n3".into(), WALL)));
                }),
                Leaper::Eligibility("n2".into()),
            ),
        ];
        for (poisoned, rest, what) in cases {
            let (taken, leap) = said(Message::State(poisoned));
            assert_eq!(taken, Some(Message::State(rest)));
            assert_eq!(leap.unwrap().what, what);
        }
    }

    #[test]
    fn a_leap_is_reported_while_it_is_heard_and_for_two_minutes_more() {
        let mut leaps = Leaps::default();
        let (_, leap) = said(heartbeat(u64::MAX));
        let leap = leap.unwrap();
        assert!(leaps.note(leap.clone(), Duration::ZERO));
        assert!(!leaps.note(leap.clone(), Duration::from_secs(60)));
        assert!(!leaps.forget(Duration::from_secs(179)));
        assert_eq!(leaps.iter().collect::<Vec<_>>(), [&leap]);
        assert!(leaps.forget(Duration::from_secs(180)));
    }
}
