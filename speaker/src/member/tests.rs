#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::eligible::EligibleSet;
use super::table::Members;
use super::watch::{Suspicion, Verdict, judge};
use crate::message::{ELIGIBLE_PART, Eligible, EligibleChange, NodeName, Status};
use crate::timers::Timers;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn addrs(n: u32) -> BTreeSet<IpAddr> {
    (0..n)
        .map(|i| IpAddr::from((0x0a00_0000 + i).to_be_bytes()))
        .collect()
}

fn parts(version: u64, set: &BTreeSet<IpAddr>) -> Vec<Eligible> {
    let mut whole = EligibleSet::default();
    whole.replace(version, set.clone());
    let lists = whole.parts();
    let parts = u16::try_from(lists.len()).unwrap();
    let entry = |(part, addresses)| Eligible {
        nodes: vec![("n".into(), version)],
        part,
        parts,
        addresses,
    };
    (0..parts).zip(lists).map(entry).collect()
}

#[test]
fn silence_becomes_suspicion_and_then_death_only_when_others_confirm() {
    let config = Timers::default();
    let member = |multiplier, spared, suspicion| {
        let mut members = members(1);
        members.update(&"n0".into(), |m| {
            (m.multiplier, m.spared, m.suspicion) = (multiplier, ms(spared), suspicion);
        });
        members.get(&"n0".into()).unwrap().clone()
    };
    let asked = |asked, silent| {
        Some(Suspicion {
            pending: Vec::new(),
            asked,
            silent,
        })
    };
    let cases = [
        (None, 249, Verdict::Wait(ms(250))),
        (None, 250, Verdict::Suspect),
        (asked(0, 0), 499, Verdict::Wait(ms(500))),
        (asked(0, 0), 500, Verdict::Declare),
        (asked(1, 0), 500, Verdict::Wait(ms(700))),
        (asked(1, 1), 500, Verdict::Declare),
        (asked(4, 1), 500, Verdict::Wait(ms(700))),
        (asked(4, 2), 500, Verdict::Declare),
        (asked(4, 0), 700, Verdict::Declare),
    ];
    for (suspicion, silent, want) in cases {
        assert_eq!(
            judge(&config, &member(1, 0, suspicion.clone()), 1, ms(silent)),
            want,
            "{suspicion:?} {silent}"
        );
    }
    for (theirs, mine) in [(4, 1), (1, 4), (4, 3)] {
        let slow =
            |suspicion, silent| judge(&config, &member(theirs, 0, suspicion), mine, ms(silent));
        assert_eq!(slow(None, 999), Verdict::Wait(ms(1000)));
        assert_eq!(slow(None, 1000), Verdict::Suspect);
        assert_eq!(slow(asked(1, 1), 1999), Verdict::Wait(ms(2000)));
        assert_eq!(slow(asked(1, 1), 2000), Verdict::Declare);
        assert_eq!(slow(asked(1, 0), 2799), Verdict::Wait(ms(2800)));
    }
    let spared = |silent| judge(&config, &member(1, 900, asked(1, 1)), 1, ms(silent));
    assert_eq!(spared(899), Verdict::Wait(ms(900)));
    assert_eq!(spared(900), Verdict::Declare);
}

proptest! {
    #[test]
    fn a_list_arrives_whole_whatever_the_order_of_its_parts(
        n in 0..300_u32, seed in any::<u64>(), twice in any::<bool>(),
    ) {
        let set = addrs(n);
        let mut parts = parts(5, &set);
        prop_assert!(parts.iter().all(|p| p.addresses.len() <= ELIGIBLE_PART));
        if twice {
            parts.extend_from_within(..);
        }
        let len = parts.len();
        for i in 0..len {
            parts.swap(i, usize::try_from(seed.rotate_left(u32::try_from(i).unwrap()) % len as u64).unwrap());
        }
        let mut got = EligibleSet::default();
        for part in &parts {
            got.receive(5, part);
        }
        prop_assert_eq!(got.addresses(), &set);
        prop_assert_eq!(got.version(), 5);
    }
}

#[test]
fn a_lost_part_leaves_the_old_list_standing() {
    let mut set = EligibleSet::default();
    set.replace(1, addrs(3));
    let parts = parts(2, &addrs(100));
    assert!(parts.iter().skip(1).all(|p| set.receive(2, p).is_none()));
    assert_eq!((set.version(), set.addresses().len()), (1, 3));
    assert_eq!(set.receive(2, &parts[0]).unwrap().len(), 97);
    assert_eq!(set.receive(1, &parts[0]), None, "an older version");
}

#[test]
fn a_part_that_makes_no_sense_is_ignored() {
    let mut set = EligibleSet::default();
    let good = Eligible {
        nodes: Vec::new(),
        part: 0,
        parts: 1,
        addresses: Vec::new(),
    };
    for bad in [
        Eligible {
            parts: 0,
            ..good.clone()
        },
        Eligible {
            part: 1,
            ..good.clone()
        },
        Eligible {
            parts: u16::MAX,
            ..good.clone()
        },
        Eligible {
            addresses: addrs(41).into_iter().collect(),
            ..good.clone()
        },
    ] {
        assert_eq!(set.receive(1, &bad), None);
    }
    assert_eq!(set.version(), 0);
    assert_eq!(set.receive(1, &good), Some(Vec::new()));
}

#[test]
fn a_change_applies_to_the_version_it_names_alone() {
    let mut set = EligibleSet::default();
    set.replace(4, addrs(3));
    let one = addrs(1).into_iter().collect::<Vec<_>>();
    let change = |from, to| EligibleChange {
        node: "n".into(),
        from,
        to,
        added: Vec::new(),
        removed: one.clone(),
    };
    assert_eq!(set.change(&change(3, 5)), None);
    assert_eq!(set.change(&change(4, 4)), None);
    assert_eq!(set.change(&change(4, 5)), Some(one.clone()));
    let mut direct = EligibleSet::default();
    direct.replace(5, addrs(3).into_iter().skip(1).collect());
    assert_eq!(set.digest(), direct.digest());
}

fn members(n: usize) -> Members {
    let names: Vec<NodeName> = (0..n).map(|i| format!("n{i}").into()).collect();
    let mut members = Members::new(&names);
    for name in &names {
        members.update(name, |m| {
            m.status = Status::Alive;
            m.incarnation = 1;
        });
    }
    members
}

#[test]
fn each_node_is_watched_by_three_others_that_live() {
    let mut members = members(10);
    let hash = |members: &Members, n: &NodeName| members.get(n).unwrap().hash;
    let name: NodeName = "n4".into();
    let before = members.watchers_of(&name, hash(&members, &name));
    assert_eq!(before.len(), 3);
    assert!(!before.contains(&name));
    members.update(&before[0], |m| m.status = Status::Dead);
    let after = members.watchers_of(&name, hash(&members, &name));
    assert_eq!(after[..2], before[1..], "the others stay");
    assert_eq!(members.watchers_of(&name, 1).len(), 3);
}

#[test]
fn the_digest_follows_every_change_and_returns_with_it() {
    let mut members = members(3);
    let name: NodeName = "n1".into();
    let before = members.digest();
    members.update(&name, |m| m.settled = true);
    assert_ne!(members.digest(), before);
    members.update(&name, |m| m.eligible.replace(1, addrs(2)));
    let with = members.digest();
    members.update(&name, |m| m.status = Status::Dead);
    assert_ne!(members.digest(), with);
    members.update(&name, |m| m.status = Status::Alive);
    assert_eq!(members.digest(), with);
    members.remove(&name);
    members.add(&name);
    assert_eq!(
        members.digest(),
        self::members(3).digest() ^ digest_of_one("n1")
    );
}

/// What one speaking, unsettled member adds to the digest.
fn digest_of_one(name: &str) -> u64 {
    let mut one = Members::new(&[name.into()]);
    one.update(&name.into(), |m| {
        m.status = Status::Alive;
        m.incarnation = 1;
    });
    one.digest()
}
