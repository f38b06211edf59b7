#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::own::Own;
use super::placer::{Orphan, Outlook, choose};
use super::rules::{Claim, next_epoch, order, score};
use super::table::Claims;
use crate::message::NodeName;
use crate::timers::Timers;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn addr() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

fn claim(node: &str, epoch: u64, provisional: bool) -> Claim {
    Claim {
        node: node.into(),
        epoch,
        provisional,
    }
}

fn any_claim() -> impl Strategy<Value = Claim> {
    (0..4_u8, 0..4_u64, any::<bool>()).prop_map(|(n, e, p)| claim(&format!("n{n}"), e, p))
}

/// Which of n0 to n3 live, as a bit set.
fn live(set: u8) -> impl Fn(&NodeName) -> bool {
    move |n| (0..4).any(|i| set & (1 << i) != 0 && n.as_str() == format!("n{i}"))
}

/// What a node holds after it merged these claims one by one.
fn merged<'a>(claims: impl Iterator<Item = &'a Claim>, set: u8) -> Option<&'a Claim> {
    claims.reduce(|held, new| {
        if order(&addr(), new, held, live(set)).is_gt() {
            new
        } else {
            held
        }
    })
}

#[test]
fn a_live_claimant_beats_a_confirmed_claim_beats_an_epoch_beats_the_hash() {
    let all = |_: &NodeName| true;
    let only_b = |n: &NodeName| n.as_str() == "b";
    let (a, b) = (claim("a", 9, false), claim("b", 1, true));
    assert_eq!(order(&addr(), &b, &a, only_b), Ordering::Greater);
    assert_eq!(order(&addr(), &a, &b, all), Ordering::Greater);
    assert_eq!(
        order(&addr(), &claim("a", 1, false), &claim("b", 9, true), all),
        Ordering::Greater
    );
    assert_eq!(
        order(&addr(), &claim("a", 3, true), &claim("b", 2, true), all),
        Ordering::Greater
    );
    let by_hash = score(&addr(), &"a".into()).cmp(&score(&addr(), &"b".into()));
    assert_eq!(
        order(&addr(), &claim("a", 2, true), &claim("b", 2, true), all),
        by_hash
    );
}

proptest! {
    #[test]
    fn the_order_of_claims_is_total_and_antisymmetric(a in any_claim(), b in any_claim(), set in 0..16_u8) {
        let forth = order(&addr(), &a, &b, live(set));
        prop_assert_eq!(forth, order(&addr(), &b, &a, live(set)).reverse());
        prop_assert_eq!(forth == Ordering::Equal, a == b);
    }

    #[test]
    fn the_order_of_claims_is_transitive(a in any_claim(), b in any_claim(), c in any_claim(), set in 0..16_u8) {
        let le = |x: &Claim, y: &Claim| order(&addr(), x, y, live(set)).is_le();
        prop_assert!(!(le(&a, &b) && le(&b, &c)) || le(&a, &c));
    }

    #[test]
    fn merging_in_any_order_ends_in_the_same_claim(
        claims in prop::collection::vec(any_claim(), 1..8), turn in 0..8_usize, set in 0..16_u8,
    ) {
        let mut other = claims.clone();
        other.rotate_left(turn % claims.len());
        other.reverse();
        prop_assert_eq!(merged(claims.iter(), set), merged(other.iter(), set));
    }

    #[test]
    fn the_digest_of_a_table_depends_on_its_content_alone(
        steps in prop::collection::vec((0..6_u8, prop::option::of(any_claim())), 0..40),
    ) {
        let at = |i: u8| IpAddr::from([192, 0, 2, i]);
        let mut table = Claims::default();
        (0..6).for_each(|i| { table.add(at(i)); });
        for (i, claim) in steps {
            table.set(at(i), claim);
        }
        let mut fresh = Claims::default();
        (0..6).for_each(|i| { fresh.add(at(i)); });
        for (a, c) in table.iter() {
            fresh.set(*a, Some(c.clone()));
        }
        prop_assert_eq!(table.digest(), fresh.digest());
        for n in ["n0", "n1", "n2", "n3"] {
            let counted = table.iter().filter(|(_, c)| c.node.as_str() == n).count();
            prop_assert_eq!(table.load(&n.into()), counted);
        }
    }
}

#[test]
fn an_epoch_is_above_all_seen_whatever_the_clock_says() {
    for (highest, wall, want) in [
        (0, 100, 100),
        (100, 100, 101),
        (500, 100, 501),
        (u64::MAX, 1, u64::MAX),
    ] {
        assert_eq!(next_epoch(highest, wall), want);
    }
}

#[test]
fn the_emptiest_candidate_is_chosen_and_ties_go_by_rendezvous() {
    let (a, b, c): (NodeName, NodeName, NodeName) = ("a".into(), "b".into(), "c".into());
    assert_eq!(choose(&addr(), &[(&a, 2), (&b, 1), (&c, 2)]), Some(&b));
    let best = if score(&addr(), &a) > score(&addr(), &c) {
        &a
    } else {
        &c
    };
    assert_eq!(choose(&addr(), &[(&a, 1), (&b, 2), (&c, 1)]), Some(best));
    assert_eq!(choose(&addr(), &[]), None);
}

#[test]
fn a_placement_waits_for_its_rank_and_a_new_address_for_the_others() {
    let config = Timers::default();
    let due = |never, everyone, rank, unsettled| {
        let orphan = Orphan {
            placeable: Some(ms(1000)),
            never,
            everyone,
        };
        orphan.due(&config, Outlook { rank, unsettled })
    };
    assert_eq!(due(false, false, 0, false), Some(ms(1000)));
    assert_eq!(due(false, false, 2, false), Some(ms(1300)));
    assert_eq!(due(false, false, 6, false), None);
    assert_eq!(due(false, false, 0, true), Some(ms(1000)));
    assert_eq!(due(true, true, 0, false), Some(ms(1000)));
    assert_eq!(due(true, false, 1, false), Some(ms(1450)));
    assert_eq!(due(true, true, 0, true), Some(ms(1500)));
    let nobody = Orphan {
        placeable: None,
        never: false,
        everyone: false,
    };
    assert_eq!(
        nobody.due(
            &config,
            Outlook {
                rank: 0,
                unsettled: false
            }
        ),
        None
    );
}

#[test]
fn an_earlier_end_of_answering_stays_and_a_new_start_lifts_it() {
    let mut own = Own::default();
    own.limit(addr(), ms(5));
    assert!(!own.limited(&addr()), "a limit does not make it answer");
    assert!(own.start(addr()));
    assert!(!own.start(addr()));
    own.limit(addr(), ms(300));
    own.limit(addr(), ms(1000));
    assert_eq!(
        (own.next(), own.over(ms(299)).len(), own.over(ms(300)).len()),
        (Some(ms(300)), 0, 1)
    );
    own.start(addr());
    assert_eq!(own.next(), None);
    assert_eq!(own.stop_all(), BTreeSet::from([addr()]));
    assert!(!own.stop(&addr()));
}

#[test]
fn a_claim_of_an_address_that_does_not_exist_yet_waits_for_it_and_is_forgotten_at_last() {
    let mut table = Claims::default();
    table.keep_early(&claim("a", 7, true).entry(addr()), ms(10));
    table.keep_early(&claim("b", 3, true).entry(addr()), ms(20));
    assert_eq!(table.digest(), 0);
    let mut later = table.clone();
    assert_eq!(table.add(addr()).map(|e| e.epoch), Some(7));
    later.forget_early(ms(11));
    assert_eq!(later.add(addr()), None);
}
