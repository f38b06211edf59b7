//! The cases of MetalLB's allocator and controller tests, rewritten for ferrolb, and the properties behind them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;
mod owners;
mod pools;
mod properties;
mod requests;

use ferrolb_api::change::Change;
use ferrolb_api::object::Kind;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::Protocol;
use ferrolb_api::view::service::DualStack;

use super::{Desired, desired};
use crate::assignment::{Assignment, Assignments};
use crate::state::State;
use crate::testing::*;

fn first(state: &State) -> Desired {
    desired(state, &Assignments::new())
}

/// Applies changes to the earlier result and decides again.
fn then(state: &mut State, before: &Desired, changes: &[Change]) -> Desired {
    state.apply_all(changes);
    desired(state, &before.assignments)
}

fn has(d: &Desired, name: &str) -> String {
    let a = d.assignments.get(&key(name)).cloned().unwrap_or_default();
    a.addresses
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

fn why(d: &Desired, name: &str) -> Reason {
    d.outcomes[&key(name)].reason
}

fn said(d: &Desired, name: &str) -> String {
    d.problems
        .iter()
        .find(|p| p.is_about(Kind::Service, &key(name)))
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn small() -> Change {
    put_pool(pool("p", "10.0.0.1-10.0.0.3"))
}

#[test]
fn the_manifests_of_a_user_get_their_addresses_in_whatever_order_they_are_seen() {
    let dns = |name: &str, protocol| {
        put(service(name)
            .port(protocol, 53)
            .asks("172.17.255.2")
            .shares("coredns"))
    };
    let all = [
        put_pool(pool("default", "172.17.255.1-172.17.255.255")),
        put(service("ingress-nginx/ingress-nginx").local("app=nginx")),
        dns("kube-system/coredns-svc-lb-tcp", Protocol::Tcp),
        dns("kube-system/coredns-svc-lb-udp", Protocol::Udp),
        put(service("default/web-svc-lb")),
        put(service("default/web-svc-cip").cluster_only()),
        put(service("default/web-svc").headless().cluster_only()),
    ];
    for turn in 0..all.len() {
        let mut order = all.to_vec();
        order.rotate_left(turn);
        for order in [order.clone(), order.into_iter().rev().collect()] {
            let d = first(&state("10.96.0.0/16", order));
            assert_eq!(has(&d, "default/web-svc-lb"), "172.17.255.1");
            assert_eq!(has(&d, "kube-system/coredns-svc-lb-tcp"), "172.17.255.2");
            assert_eq!(has(&d, "kube-system/coredns-svc-lb-udp"), "172.17.255.2");
            assert_eq!(has(&d, "ingress-nginx/ingress-nginx"), "172.17.255.3");
            assert!(!d.assignments.contains_key(&key("default/web-svc")));
            assert_eq!(why(&d, "default/web-svc-cip"), Reason::NotLoadBalancer);
            assert!(d.problems.is_empty(), "{:?}", d.problems);
        }
    }
}

#[test]
fn what_exists_is_adopted_before_anything_is_given() {
    let mut s = state("", [small(), put(service("a/new")), put(service("b/old"))]);
    let given = Assignment {
        addresses: ips("10.0.0.1"),
        ..Assignment::default()
    };
    let d = desired(&s, &Assignments::from([(key("b/old"), given)]));
    assert_eq!(
        (has(&d, "a/new"), has(&d, "b/old")),
        ("10.0.0.2".into(), "10.0.0.1".into())
    );
    let d = then(&mut s, &d, &[put(service("b/old").asks("10.0.0.3"))]);
    assert_eq!(has(&d, "b/old"), "10.0.0.3");
    let d = then(&mut s, &d, &[put(service("b/old")), drop_service("a/new")]);
    assert_eq!(
        has(&d, "b/old"),
        "10.0.0.3",
        "a request taken back moves nothing"
    );
    assert_eq!(d.assignments.len(), 1);
}

#[test]
fn exhaustion_ends_when_an_address_is_freed() {
    let names = ["a/1", "a/2", "a/3", "a/4"];
    let mut s = state(
        "",
        names.map(|n| put(service(n))).into_iter().chain([small()]),
    );
    let mut d = first(&s);
    assert_eq!(
        (has(&d, "a/4"), why(&d, "a/4")),
        (String::new(), Reason::PoolExhausted)
    );
    for gone in [
        put(service("a/2").cluster_only()),
        put(service("a/1").class("x")),
    ] {
        d = then(&mut s, &d, &[gone, put(service("a/5"))]);
    }
    assert_eq!(
        (has(&d, "a/4"), has(&d, "a/5")),
        ("10.0.0.2".into(), "10.0.0.1".into())
    );
    assert_eq!(
        (has(&d, "a/1"), why(&d, "a/1")),
        (String::new(), Reason::OtherClass)
    );
}

#[test]
fn an_automatic_service_leaves_requested_addresses_to_those_who_ask() {
    // a/both cannot be served while its second address is taken; its first one is kept for it.
    let both = service("a/both")
        .annotated("10.0.0.1,1::1")
        .dual(DualStack::Require);
    let mut s = state(
        "",
        [
            put_pool(pool("p", "10.0.0.1-10.0.0.2,1::1/128")),
            put(service("a/0").annotated("1::1")),
            put(both),
        ],
    );
    let d = first(&s);
    assert_eq!(why(&d, "a/both"), Reason::AddressInUse);
    let d = then(&mut s, &d, &[put(service("b/1"))]);
    assert_eq!(has(&d, "b/1"), "10.0.0.2");
    let d = then(&mut s, &d, &[put(service("b/2"))]);
    assert_eq!(has(&d, "b/2"), "10.0.0.1", "better than nothing");
}

#[test]
fn sharing_takes_the_same_key_other_ports_and_the_same_backends() {
    let on = |name: &str, port| service(name).port(Protocol::Tcp, port).shares("k");
    let d = first(&state(
        "",
        [
            small(),
            put(on("a/1", 80)),
            put(on("a/2", 81)),
            put(on("a/3", 80)),
            put(on("a/4", 82).local("x=y")),
            put(on("a/5", 83).local("x=y")),
            put(on("a/6", 84).shares("other")),
        ],
    ));
    let got: Vec<String> = (1..=6).map(|i| has(&d, &format!("a/{i}"))).collect();
    assert_eq!(
        got,
        [
            "10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.3", ""
        ]
    );
}

#[test]
fn who_changes_its_ports_into_a_clash_is_the_one_to_go() {
    let on = |name: &str, protocol| {
        service(name)
            .port(protocol, 53)
            .shares("k")
            .asks("10.0.0.2")
    };
    let mut s = state(
        "",
        [
            small(),
            put(on("a/tcp", Protocol::Tcp)),
            put(on("a/udp", Protocol::Udp)),
        ],
    );
    let d = first(&s);
    let d = then(&mut s, &d, &[put(on("a/tcp", Protocol::Udp))]);
    assert_eq!(
        (has(&d, "a/udp"), why(&d, "a/udp")),
        ("10.0.0.2".into(), Reason::Allocated)
    );
    assert_eq!(
        (has(&d, "a/tcp"), why(&d, "a/tcp")),
        (String::new(), Reason::PortClash)
    );
    let d = then(&mut s, &d, &[put(on("a/tcp", Protocol::Tcp))]);
    assert_eq!(has(&d, "a/tcp"), "10.0.0.2");
    // A Service that is alone on its address may change its key freely.
    let d = then(&mut s, &d, &[drop_service("a/udp"), put(service("a/tcp"))]);
    assert_eq!(has(&d, "a/tcp"), "10.0.0.2");
}

#[test]
fn assignments_of_services_not_seen_yet_are_kept_on_demand() {
    let given = |text| Assignment {
        addresses: ips(text),
        cluster_ips: ips("10.96.0.2"),
        ..Assignment::default()
    };
    let existing = Assignments::from([(key("a/unseen"), given("10.0.0.1"))]);
    let mut s = state("10.96.0.0/16", [small(), put(service("a/s").shares("k"))]);
    s.keep_absent(true);
    let d = desired(&s, &existing);
    assert_eq!(
        (has(&d, "a/unseen"), has(&d, "a/s")),
        ("10.0.0.1".into(), "10.0.0.2".into())
    );
    assert_eq!(d.assignments[&key("a/s")].cluster_ips, ips("10.96.0.3"));
    let seen = then(
        &mut s.clone(),
        &d,
        &[put(service("a/unseen")), drop_service("a/unseen")],
    );
    assert_eq!(has(&seen, "a/unseen"), "", "seen going");
    s.keep_absent(false);
    assert_eq!(has(&desired(&s, &existing), "a/unseen"), "");
}
