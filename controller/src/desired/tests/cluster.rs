//! ClusterIPs in standalone mode.

use ferrolb_api::Family;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::service::DualStack;

use super::{first, said, then, why};
use crate::desired::Desired;
use crate::testing::*;

fn cluster(d: &Desired, name: &str) -> String {
    let a = d.assignments.get(&key(name)).cloned().unwrap_or_default();
    a.cluster_ips
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

#[test]
fn the_lowest_free_one_is_given_and_the_first_of_the_range_is_left_to_kubernetes() {
    let plain = |n: &str| put(service(n).cluster_only());
    let mut s = state(
        "10.96.0.0/29",
        [
            plain("a/1"),
            plain("a/2"),
            put(service("a/3").cluster_only().cluster_ip("10.96.0.2")),
            put(service("default/kubernetes")
                .cluster_only()
                .cluster_ip("10.96.0.1")),
            put(service("a/far").cluster_only().cluster_ip("10.200.0.9")),
            put(service("a/none").cluster_only().headless()),
        ],
    );
    let d = first(&s);
    let got =
        ["a/1", "a/2", "a/3", "default/kubernetes", "a/far", "a/none"].map(|n| cluster(&d, n));
    assert_eq!(
        got,
        [
            "10.96.0.3",
            "10.96.0.4",
            "10.96.0.2",
            "10.96.0.1",
            "10.200.0.9",
            ""
        ]
    );
    let d = then(&mut s, &d, &[plain("a/4"), plain("a/5"), plain("a/6")]);
    assert_eq!(
        (cluster(&d, "a/5"), cluster(&d, "a/6")),
        ("10.96.0.6".into(), String::new())
    );
    assert_eq!(why(&d, "a/6"), Reason::NoClusterIp);
    assert!(said(&d, "a/6").contains("10.96.0.0/29: widen --service-cidr"));
    let d = then(&mut s, &d, &[drop_service("a/1")]);
    assert_eq!(
        (cluster(&d, "a/6"), cluster(&d, "a/2")),
        ("10.96.0.3".into(), "10.96.0.4".into())
    );
}

#[test]
fn a_named_one_that_another_has_is_refused_and_what_was_there_stays() {
    let mut s = state(
        "10.96.0.0/24",
        [
            put(service("a/1").cluster_only()),
            put(service("a/2").cluster_only()),
        ],
    );
    let d = first(&s);
    let d = then(
        &mut s,
        &d,
        &[
            put(service("a/2").cluster_only().cluster_ip("10.96.0.2")),
            put(service("a/0").cluster_only().cluster_ip("10.96.0.3")),
        ],
    );
    assert_eq!(
        (cluster(&d, "a/1"), cluster(&d, "a/2"), cluster(&d, "a/0")),
        ("10.96.0.2".into(), "10.96.0.3".into(), String::new())
    );
    assert_eq!(why(&d, "a/2"), Reason::AddressInUse);
    assert!(
        said(&d, "a/2")
            .starts_with("Service a/2: spec.clusterIP: it names 10.96.0.2, which Service a/1 has")
    );
    assert!(
        d.assignments.contains_key(&key("a/0")),
        "so that the overlay takes the refused address away"
    );
    let d = then(&mut s, &d, &[drop_service("a/1")]);
    assert_eq!(
        (cluster(&d, "a/2"), cluster(&d, "a/0")),
        ("10.96.0.2".into(), "10.96.0.3".into())
    );
}

#[test]
fn families_follow_the_policy_and_the_ranges() {
    let dual = "10.96.0.0/24,fd00::/112";
    let given = |cidrs: &str, policy| {
        let d = first(&state(
            cidrs,
            [put(service("a/1").cluster_only().dual(policy))],
        ));
        (cluster(&d, "a/1"), why(&d, "a/1"))
    };
    let ok = Reason::NotLoadBalancer;
    assert_eq!(given(dual, DualStack::Single), ("10.96.0.2".into(), ok));
    assert_eq!(
        given(dual, DualStack::Prefer),
        ("10.96.0.2,fd00::2".into(), ok)
    );
    assert_eq!(
        given(dual, DualStack::Require),
        ("10.96.0.2,fd00::2".into(), ok)
    );
    assert_eq!(
        given("10.96.0.0/24", DualStack::Prefer),
        ("10.96.0.2".into(), ok)
    );
    assert_eq!(
        given("10.96.0.0/24", DualStack::Require).1,
        Reason::NoClusterIp
    );
    assert_eq!(
        given("", DualStack::Single),
        (String::new(), Reason::NoClusterIp)
    );
}

#[test]
fn the_families_that_a_service_names_are_given_in_that_order() {
    let both = "10.96.0.0/29,fd00:96::/125";
    let of = |cidrs: &str, b: Builder| first(&state(cidrs, [put(b.cluster_only())]));
    let six = || service("a/s").family(Family::V6);
    assert_eq!(cluster(&of(both, six()), "a/s"), "fd00:96::2");
    let prefer = six().dual(DualStack::Prefer);
    assert_eq!(cluster(&of(both, prefer), "a/s"), "fd00:96::2,10.96.0.2");
    let require = six().dual(DualStack::Require);
    assert_eq!(cluster(&of(both, require), "a/s"), "fd00:96::2,10.96.0.2");
    let four = service("a/s").family(Family::V4);
    let turned = "fd00:96::/125,10.96.0.0/29";
    assert_eq!(cluster(&of(turned, four), "a/s"), "10.96.0.2");
    let d = of("10.96.0.0/29", six());
    assert_eq!(
        (cluster(&d, "a/s"), why(&d, "a/s")),
        (String::new(), Reason::NoClusterIp)
    );
    assert!(
        said(&d, "a/s")
            .contains("spec.ipFamilies: it asks for IPv6, of which --service-cidr has no range")
    );
}

#[test]
fn a_service_that_changes_its_family_gets_another_cluster_ip() {
    let mut s = state(
        "10.96.0.0/29,fd00:96::/125",
        [put(service("a/s").cluster_only())],
    );
    let d = first(&s);
    assert_eq!(cluster(&d, "a/s"), "10.96.0.2");
    let d = then(
        &mut s,
        &d,
        &[put(service("a/s").cluster_only().family(Family::V6))],
    );
    assert_eq!(cluster(&d, "a/s"), "fd00:96::2");
    let both = service("a/s")
        .cluster_only()
        .family(Family::V4)
        .dual(DualStack::Prefer);
    let d = then(&mut s, &d, &[put(both)]);
    assert_eq!(cluster(&d, "a/s"), "10.96.0.2,fd00:96::2");
}
