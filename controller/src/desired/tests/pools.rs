//! Changes of pools, which pool serves which Service, and address families.

use ferrolb_api::ObjectKey;
use ferrolb_api::crd::selector::{Operator, Requirement};
use ferrolb_api::crd::{IpAddressPool, L2Advertisement, LabelSelector, ServiceAllocation};
use ferrolb_api::legacy::LegacyConfig;
use ferrolb_api::object::Object;
use ferrolb_api::problem::{Cause, Consequence, Problem, Subject};

use super::*;

fn unreadable(pool: &str, consequence: Consequence) -> Problem {
    let subject = Subject::object_of(Kind::IpAddressPool, ObjectKey::new("metallb-system", pool));
    let text = "is no range".to_owned();
    let problem = Problem::new(subject, Cause::Invalid { text });
    problem.field("spec.addresses[0]").so(consequence)
}

#[test]
fn a_pool_that_is_broken_is_not_called_absent() {
    let asks = || [put(service("a/any")), put(service("a/asks").pool("lan"))];
    let says = |s: &State, any: &str, asks: &str| {
        let d = first(s);
        assert!(said(&d, "a/any").contains(any), "{}", said(&d, "a/any"));
        assert!(said(&d, "a/asks").contains(asks), "{}", said(&d, "a/asks"));
    };
    let none = "there is no address pool: add an IPAddressPool";
    says(&state("", asks()), none, none);
    let mut s = state("", asks());
    s.set_unreadable(&[unreadable("lan", Consequence::Kept)]);
    let broken = "IPAddressPool metallb-system/lan cannot be read (spec.addresses[0]): correct it";
    says(&s, broken, broken);
    s.apply(&put_pool(pool("other", "10.0.0.1-10.0.0.1")));
    assert_eq!(why(&first(&s), "a/any"), Reason::Allocated);
    assert!(said(&first(&s), "a/asks").contains(&format!("it asks for pool lan, but {broken}")));
    let key = ObjectKey::new("metallb-system", "config");
    let config = LegacyConfig::new(key, Vec::new(), vec!["lan".into()]);
    let broken = "pool lan of ConfigMap metallb-system/config cannot be read: correct it";
    let mut s = state("", asks());
    s.apply(&Change::Upsert(Object::LegacyConfig(config.into())));
    says(&s, broken, broken);
    let refused = IpAddressPool {
        ranges: Vec::new(),
        ..pool("lan", "10.0.0.1-10.0.0.1")
    };
    let mut s = state("", asks());
    s.apply(&put_pool(refused));
    let broken = "IPAddressPool metallb-system/lan is refused: correct it";
    says(&s, broken, broken);
}

#[test]
fn a_shrunk_pool_moves_those_outside_and_a_missing_or_wrong_one_moves_nobody() {
    let mut s = state("", [small(), put(service("a/1")), put(service("a/2"))]);
    let d = first(&s);
    let d = then(&mut s, &d, &[drop_pool("p")]);
    assert_eq!(
        (has(&d, "a/1"), why(&d, "a/1")),
        ("10.0.0.1".into(), Reason::NoPool)
    );
    let wrong = pool("q", "10.5.0.9-10.5.0.1");
    let d = then(
        &mut s,
        &d,
        &[put_pool(pool("p", "10.6.0.1-10.6.0.9")), put_pool(wrong)],
    );
    assert_eq!(
        (has(&d, "a/1"), why(&d, "a/1")),
        ("10.0.0.1".into(), Reason::OutsidePools)
    );
    let d = then(
        &mut s,
        &d,
        &[
            drop_pool("q"),
            put_pool(pool("p", "10.0.0.2-10.0.0.2,10.6.0.1-10.6.0.1")),
        ],
    );
    assert_eq!(
        (has(&d, "a/1"), has(&d, "a/2")),
        ("10.6.0.1".into(), "10.0.0.2".into())
    );
    assert!(d.problems.is_empty(), "{:?}", d.problems);
}

#[test]
fn an_address_of_a_pool_that_could_not_be_read_is_left_alone() {
    let mut s = state("", [small(), put(service("a/1"))]);
    let d = first(&s);
    s.set_unreadable(&[unreadable("p", Consequence::Kept)]);
    let d = then(
        &mut s,
        &d,
        &[
            drop_pool("p"),
            put_pool(pool("q", "10.6.0.1-10.6.0.9")),
            put(service("a/2")),
        ],
    );
    assert_eq!(
        (has(&d, "a/1"), has(&d, "a/2"), why(&d, "a/1")),
        ("10.0.0.1".into(), "10.6.0.1".into(), Reason::OutsidePools)
    );
    s.take_dirty();
    s.set_unreadable(&[unreadable("p", Consequence::Partial)]);
    assert!(s.take_dirty().all);
    assert_eq!(has(&then(&mut s, &d, &[]), "a/1"), "10.6.0.2");
}

#[test]
fn pools_are_chosen_by_request_then_pinning_then_name() {
    let mut manual = pool("manual", "10.4.0.0/24");
    manual.auto_assign = false;
    let mut s = state(
        "",
        [
            put_pool(manual),
            put_pool(pool("b", "10.2.0.1-10.2.0.9")),
            put_pool(pool("a", "10.1.0.1-10.1.0.1")),
            put_pool(pinned(pool("shop", "10.3.0.1-10.3.0.1"), 5, "shop", "")),
            put(service("shop/1")),
            put(service("shop/2")),
            put(service("shop/3")),
            put(service("shop/4").pool("manual")),
        ],
    );
    let d = first(&s);
    let got: Vec<String> = (1..=4).map(|i| has(&d, &format!("shop/{i}"))).collect();
    assert_eq!(got, ["10.3.0.1", "10.1.0.1", "10.2.0.1", "10.4.0.0"]);
    let d = then(&mut s, &d, &[put(service("shop/4").pool("b"))]);
    assert_eq!(has(&d, "shop/4"), "10.2.0.2");
}

#[test]
fn addresses_that_confuse_firmware_are_left_out_where_the_pool_says_so() {
    let mut p = pool("p", "10.0.0.254-10.0.1.1");
    p.avoid_buggy_ips = true;
    let names = ["a/1", "a/2", "a/3"];
    let d = first(&state(
        "",
        names
            .map(|n| put(service(n)))
            .into_iter()
            .chain([put_pool(p)]),
    ));
    assert_eq!(names.map(|n| has(&d, n)), ["10.0.0.254", "10.0.1.1", ""]);
}

#[test]
fn families_follow_the_cluster_ips_and_the_policy() {
    let pools = || {
        vec![
            put_pool(pool("a", "10.0.0.1-10.0.0.9")),
            put_pool(pool("b", "10.1.0.1-10.1.0.9,1::1-1::9")),
        ]
    };
    let cases = [
        ("10.96.0.0/16,fd00::/112", DualStack::Single, "10.0.0.1"),
        ("fd00::/112,10.96.0.0/16", DualStack::Single, "1::1"),
        (
            "10.96.0.0/16,fd00::/112",
            DualStack::Prefer,
            "10.1.0.1,1::1",
        ),
        ("10.96.0.0/16", DualStack::Prefer, "10.0.0.1"),
        (
            "10.96.0.0/16,fd00::/112",
            DualStack::Require,
            "10.1.0.1,1::1",
        ),
        ("", DualStack::Single, "10.0.0.1"),
    ];
    for (cidrs, policy, expected) in cases {
        let mut changes = pools();
        changes.push(put(service("a/s").dual(policy)));
        let d = first(&state(cidrs, changes));
        assert_eq!(has(&d, "a/s"), expected, "{cidrs} {policy:?}");
    }
    let only_v4 = put_pool(pool("a", "10.0.0.1-10.0.0.9"));
    let with = |p| {
        first(&state(
            "10.96.0.0/16,fd00::/112",
            [only_v4.clone(), put(service("a/s").dual(p))],
        ))
    };
    assert_eq!(has(&with(DualStack::Prefer), "a/s"), "10.0.0.1");
    assert_eq!(why(&with(DualStack::Require), "a/s"), Reason::PoolExhausted);
}

#[test]
fn a_second_family_is_added_without_moving_the_first() {
    let mut s = state(
        "10.96.0.0/16,fd00::/112",
        [
            put_pool(pool("p", "10.0.0.1-10.0.0.9,1::1-1::9")),
            put(service("a/0")),
            put(service("a/s")),
        ],
    );
    let d = first(&s);
    let d = then(
        &mut s,
        &d,
        &[
            drop_service("a/0"),
            put(service("a/s").dual(DualStack::Require)),
        ],
    );
    assert_eq!(has(&d, "a/s"), "10.0.0.2,1::1");
}

#[test]
fn an_advertisement_of_a_pool_that_is_not_there_is_warned_about_with_the_name_that_is_meant() {
    let advertise = |pools: &[&str]| {
        Change::Upsert(Object::L2Advertisement(
            L2Advertisement {
                key: ObjectKey::new("metallb-system", "lan"),
                pools: pools.iter().map(|p| (*p).to_owned()).collect(),
                ..L2Advertisement::default()
            }
            .into(),
        ))
    };
    let says =
        |s: &State| -> Vec<String> { first(s).problems.iter().map(ToString::to_string).collect() };
    let mut s = state("", [put_pool(pool("lan", "10.0.0.1-10.0.0.3"))]);
    s.apply(&advertise(&["lan", "Lan", "elsewhere"]));
    let place = "L2Advertisement metallb-system/lan: spec.ipAddressPools";
    assert_eq!(
        says(&s),
        [
            format!("{place}[1]: there is no pool \"Lan\": is lan meant?"),
            format!("{place}[2]: there is no pool \"elsewhere\": add it, or name another one"),
        ]
    );
    s.apply(&put_pool(pool("elsewhere", "10.0.0.3-10.0.0.4")));
    assert!(says(&s).contains(&format!(
        "{place}[2]: pool \"elsewhere\" is refused, so it is not announced"
    )));
    s.apply(&advertise(&["lan"]));
    s.apply(&drop_pool("elsewhere"));
    assert_eq!(says(&s), Vec::<String>::new());
}

#[test]
fn a_load_balancer_gets_the_family_that_it_names_and_a_pool_without_it_says_so() {
    let both = || put_pool(pool("p", "10.0.0.1-10.0.0.3,1::/126"));
    let six = || service("a/s").family(ferrolb_api::Family::V6);
    let cidrs = "10.96.0.0/29,fd00:96::/125";
    for cidrs in ["", cidrs] {
        assert_eq!(
            has(&first(&state(cidrs, [both(), put(six())])), "a/s"),
            "1::"
        );
        let prefer = put(six().dual(DualStack::Prefer));
        assert_eq!(
            has(&first(&state(cidrs, [both(), prefer])), "a/s"),
            "1::,10.0.0.1"
        );
    }
    let d = first(&state(
        "",
        [put_pool(pool("p", "1::/126")), put(service("a/s"))],
    ));
    assert_eq!(why(&d, "a/s"), Reason::PoolExhausted);
    assert!(
        said(&d, "a/s")
            .contains("spec.ipFamilies: it needs an IPv4 address, and no range of p is IPv4"),
        "{}",
        said(&d, "a/s")
    );
}

/// A pool for the namespaces with a label that has, or does not have, a value.
fn selecting(name: &str, ranges: &str, key: &str, operator: Operator, value: &str) -> Change {
    let requirement = Requirement {
        key: key.into(),
        operator,
        values: vec![value.into()],
    };
    let selector = LabelSelector {
        match_expressions: vec![requirement],
        ..LabelSelector::default()
    };
    put_pool(IpAddressPool {
        allocation: Some(ServiceAllocation {
            priority: 1,
            namespace_selectors: vec![selector],
            ..ServiceAllocation::default()
        }),
        ..pool(name, ranges)
    })
}

#[test]
fn a_pool_is_for_the_namespaces_whose_labels_it_selects() {
    let mut s = state(
        "",
        [
            selecting("team", "10.0.1.1-10.0.1.9", "team", Operator::In, "shop"),
            selecting("dev", "10.0.2.1-10.0.2.9", "env", Operator::NotIn, "prod"),
            put_pool(pool("open", "10.0.3.1-10.0.3.9")),
            put_namespace("shop", "team=shop,env=prod"),
            put_namespace("bank", "env=prod"),
            put_namespace("lab", ""),
            put(service("shop/cart")),
            put(service("shop/asks").pool("team")),
            put(service("bank/ledger")),
            put(service("lab/test")),
            put(service("unknown/who")),
            put(service("unknown/asks").pool("dev")),
        ],
    );
    let d = first(&s);
    assert_eq!(has(&d, "shop/cart"), "10.0.1.2");
    assert_eq!(has(&d, "shop/asks"), "10.0.1.1");
    assert_eq!(has(&d, "bank/ledger"), "10.0.3.1");
    assert_eq!(has(&d, "lab/test"), "10.0.2.1");
    assert_eq!(
        has(&d, "unknown/who"),
        "10.0.3.2",
        "its labels are not known"
    );
    assert!(
        said(&d, "unknown/asks").contains("there is no Namespace unknown: add it with its labels")
    );
    let changes = [
        put_namespace("shop", "env=dev"),
        put_namespace("unknown", ""),
    ];
    let d = then(&mut s, &d, &changes);
    assert_eq!(has(&d, "shop/cart"), "10.0.2.3");
    assert_eq!(has(&d, "unknown/asks"), "10.0.2.2");
    assert_eq!(why(&d, "shop/asks"), Reason::OutsidePools);
}

#[test]
fn a_label_of_a_namespace_concerns_nobody_if_no_pool_asks_for_it() {
    let mut s = state("", [small(), put(service("a/1"))]);
    s.take_dirty();
    s.apply(&put_namespace("a", "team=a"));
    assert!(s.take_dirty().is_empty());
    s.apply(&selecting(
        "team",
        "10.0.1.1-10.0.1.9",
        "team",
        Operator::In,
        "a",
    ));
    s.take_dirty();
    s.apply(&put_namespace("a", "team=a"));
    assert!(s.take_dirty().is_empty());
    s.apply(&put_namespace("a", "team=b"));
    assert!(s.take_dirty().all);
}
