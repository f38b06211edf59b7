//! Which pools are in force, who may use them, and how free addresses are found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Change;
use ferrolb_api::legacy::LegacyConfig;
use ferrolb_api::object::{Kind, Object};
use proptest::prelude::*;

use super::eligible::{Namespaces, automatic, may_use};
use super::range::{Runs, is_buggy};
use crate::testing::{drop_pool, ip, pinned, pool, put_pool, service, state};

#[test]
fn of_two_overlapping_pools_the_lower_name_works_and_the_other_is_named() {
    let s = state("", [put_pool(pool("b", "10.0.0.5-10.0.0.9"))]);
    assert!(s.problems().is_empty());
    let (a, b) = (
        pool("a", "10.0.0.0/24"),
        pool("b", "10.0.0.200-10.0.0.210,1::/120"),
    );
    let together = state("", [put_pool(b.clone()), put_pool(a.clone())]);
    assert!(together.pools().get("a").is_some() && together.pools().get("b").is_none());
    let mut s = state("", [put_pool(b)]);
    s.apply(&put_pool(a));
    // b was in force before a came, so a is the one refused.
    assert!(s.pools().get("b").is_some() && s.pools().get("a").is_none());
    let [problem] = s.problems() else {
        panic!("{:?}", s.problems())
    };
    assert!(problem.is_about(Kind::IpAddressPool, &ObjectKey::new("metallb-system", "a")));
    assert_eq!(problem.field, "spec.addresses");
    assert!(
        problem
            .message()
            .contains("10.0.0.200-10.0.0.210 of pool b"),
        "{}",
        problem.message()
    );
}

#[test]
fn pools_of_one_object_that_overlap_are_decided_by_name() {
    let mut s = state("", []);
    s.apply(&legacy(vec![
        pool("z", "10.0.0.0/25"),
        pool("a", "10.0.0.100-10.0.0.101"),
    ]));
    assert_eq!(
        s.pools()
            .iter()
            .map(|p| p.key.name.as_str())
            .collect::<Vec<_>>(),
        ["a"]
    );
    assert_eq!(
        s.problems()[0].field,
        "data.config.address-pools[0].addresses"
    );
}

#[test]
fn a_pool_replaced_by_an_invalid_one_stays_as_it_was() {
    let mut s = state(
        "",
        [
            put_pool(pool("a", "10.0.0.0/28")),
            put_pool(pool("b", "10.1.0.0/28")),
        ],
    );
    s.apply(&put_pool(pool("b", "10.0.0.8-10.1.0.3")));
    assert_eq!(s.pools().containing(ip("10.1.0.15")).unwrap().key.name, "b");
    assert!(
        s.problems()[0]
            .message()
            .ends_with("its previous version, if there was one, stays in force")
    );
    s.apply(&put_pool(pool("b", "10.2.0.0/28")));
    assert!(s.problems().is_empty());
    assert!(s.pools().containing(ip("10.1.0.15")).is_none());
    s.apply(&drop_pool("a"));
    assert!(s.pools().containing(ip("10.0.0.1")).is_none());
}

#[test]
fn a_backwards_range_and_a_second_pool_of_one_name_are_refused() {
    let mut s = state("", [put_pool(pool("a", "10.0.0.9-10.0.0.1"))]);
    assert!(s.problems()[0].message().contains("10.0.0.9-10.0.0.1"));
    s.apply(&put_pool(aged(pool("a", "10.0.0.1-10.0.0.9"), 5)));
    s.apply(&legacy(vec![aged(pool("a", "10.9.0.0/24"), 6)]));
    assert!(
        s.problems()[0]
            .message()
            .contains("IPAddressPool metallb-system/a")
    );
    assert!(s.pools().containing(ip("10.0.0.3")).is_some());
}

fn aged(
    mut pool: ferrolb_api::crd::IpAddressPool,
    created: i64,
) -> ferrolb_api::crd::IpAddressPool {
    pool.created = Some(created);
    pool
}

#[test]
fn of_two_pools_of_one_name_the_older_one_is_in_force_whichever_came_first() {
    let (new, old) = (pool("a", "10.0.0.1-10.0.0.9"), pool("a", "10.9.0.0/24"));
    for (new, old, in_force) in [
        (aged(new.clone(), 5), aged(old.clone(), 6), "10.0.0.3"),
        (aged(new.clone(), 6), aged(old.clone(), 5), "10.9.0.3"),
        (aged(new.clone(), 5), aged(old.clone(), 5), "10.9.0.3"),
        (new, old, "10.9.0.3"),
    ] {
        let changes = [put_pool(new), legacy(vec![old])];
        for order in [[0, 1], [1, 0]] {
            let mut s = state("", []);
            order.iter().for_each(|i| s.apply(&changes[*i]));
            let other = if in_force == "10.0.0.3" {
                "10.9.0.3"
            } else {
                "10.0.0.3"
            };
            assert!(s.pools().containing(ip(in_force)).is_some(), "{changes:?}");
            assert!(s.pools().containing(ip(other)).is_none(), "{changes:?}");
            assert_eq!(s.problems().len(), 1);
        }
    }
}

fn legacy(pools: Vec<ferrolb_api::crd::IpAddressPool>) -> Change {
    let key = ObjectKey::new("metallb-system", "config");
    Change::Upsert(Object::LegacyConfig(
        LegacyConfig {
            key,
            pools,
            ..LegacyConfig::default()
        }
        .into(),
    ))
}

#[test]
fn a_legacy_pool_that_cannot_be_read_stays_as_it_was() {
    let mut s = state(
        "",
        [legacy(vec![
            pool("a", "10.0.0.0/28"),
            pool("b", "10.1.0.0/28"),
        ])],
    );
    let Change::Upsert(Object::LegacyConfig(config)) = legacy(vec![pool("a", "10.2.0.0/28")])
    else {
        panic!()
    };
    let mut config = LegacyConfig::clone(&config);
    config.broken = vec!["b".into()];
    s.apply(&Change::Upsert(Object::LegacyConfig(config.clone().into())));
    assert!(
        s.pools().containing(ip("10.1.0.3")).is_some()
            && s.pools().containing(ip("10.0.0.3")).is_none()
    );
    // A source that keeps the earlier pool gives the same result.
    config.pools.push(pool("b", "10.1.0.0/28"));
    s.apply(&Change::Upsert(Object::LegacyConfig(config.into())));
    assert_eq!(s.problems(), []);
    s.apply(&legacy(vec![pool("a", "10.2.0.0/28")]));
    assert!(s.pools().containing(ip("10.1.0.3")).is_none());
}

#[test]
fn a_pinned_pool_needs_the_namespace_and_one_of_the_selectors() {
    let both = pinned(pool("p", "10.0.0.0/24"), 0, "shop,bank", "tier=web");
    assert!(may_use(
        &both,
        &service("shop/a").labelled("tier=web").build(),
        &Namespaces::default()
    ));
    assert!(!may_use(
        &both,
        &service("shop/a").build(),
        &Namespaces::default()
    ));
    assert!(!may_use(
        &both,
        &service("blog/a").labelled("tier=web").build(),
        &Namespaces::default()
    ));
    let mut by_label = pinned(pool("p", "10.0.0.0/24"), 0, "", "");
    by_label.allocation.as_mut().unwrap().namespace_selectors =
        vec![ferrolb_api::crd::LabelSelector {
            match_labels: crate::testing::labels("kubernetes.io/metadata.name=shop"),
            ..Default::default()
        }];
    assert!(may_use(
        &by_label,
        &service("shop/a").build(),
        &Namespaces::default()
    ));
    assert!(!may_use(
        &by_label,
        &service("bank/a").build(),
        &Namespaces::default()
    ));
}

#[test]
fn pinned_pools_come_by_priority_with_zero_last_then_the_open_ones_by_name() {
    let mut manual = pool("0-manual", "10.0.9.0/24");
    manual.auto_assign = false;
    let s = state(
        "",
        [
            put_pool(manual),
            put_pool(pool("b-open", "10.0.1.0/24")),
            put_pool(pool("a-open", "10.0.2.0/24")),
            put_pool(pinned(pool("none", "10.0.3.0/24"), 0, "shop", "")),
            put_pool(pinned(pool("second", "10.0.4.0/24"), 20, "shop", "")),
            put_pool(pinned(pool("first", "10.0.5.0/24"), 10, "shop", "")),
            put_pool(pinned(pool("other", "10.0.6.0/24"), 1, "bank", "")),
        ],
    );
    let names: Vec<_> = automatic(s.pools(), &service("shop/a").build(), s.namespaces())
        .iter()
        .map(|p| p.key.name.clone())
        .collect();
    assert_eq!(names, ["first", "second", "none", "a-open", "b-open"]);
}

#[test]
fn addresses_that_confuse_firmware_end_in_0_or_255() {
    assert!(is_buggy(ip("10.0.0.0")) && is_buggy(ip("10.0.0.255")));
    assert!(!is_buggy(ip("10.0.255.1")) && !is_buggy(ip("1::ff")) && !is_buggy(ip("1::")));
}

#[test]
fn the_last_address_there_is_ends_the_search() {
    let mut runs = Runs::default();
    runs.insert(ip("255.255.255.255"));
    assert_eq!(
        runs.first_free(ip("255.255.255.255"), ip("255.255.255.255"), |_| Ok(())),
        None
    );
    assert_eq!(
        runs.first_free(ip("1::"), ip("1:ffff::"), |_| Ok(())),
        Some(ip("1::"))
    );
}

proptest! {
    #[test]
    fn runs_are_a_set_of_addresses(ops in prop::collection::vec((any::<bool>(), 0u32..40), 0..120), from in 0u32..40, odd: bool) {
        let at = |n: u32| IpAddr::from(Ipv4Addr::from_bits(u32::MAX - 39 + n));
        let (mut runs, mut model) = (Runs::default(), BTreeSet::new());
        for (add, n) in ops {
            if add { runs.insert(at(n)); model.insert(n); } else { runs.remove(at(n)); model.remove(&n); }
        }
        for n in 0..40 { prop_assert_eq!(runs.contains(at(n)), model.contains(&n)); }
        let usable = |n: &u32| !odd || n % 2 == 1;
        let expected = (from..40).filter(|n| !model.contains(n)).find(usable).map(at);
        let found = runs.first_free(at(from), at(39), |ip| {
            let fits = (0..40).any(|n| at(n) == ip && usable(&n));
            if fits { Ok(()) } else { Err(ip) }
        });
        prop_assert_eq!(found, expected);
    }
}
