//! Requests by annotation and field that cannot be met.

use super::*;

#[test]
fn each_request_that_cannot_be_met_says_why_and_names_the_field() {
    let spec = "spec.loadBalancerIP";
    let note = "metadata.annotations[metallb.io/loadBalancerIPs]";
    let by_pool = "metadata.annotations[metallb.io/address-pool]";
    let mut buggy = pool("buggy", "10.9.0.0/24");
    buggy.avoid_buggy_ips = true;
    let cases = [
        (
            service("a/s").asks("10.1.0.1"),
            Reason::OutsidePools,
            spec,
            "10.1.0.1, which is in no pool",
        ),
        (
            service("a/s").annotated("10.0.0.1"),
            Reason::AddressInUse,
            note,
            "Service a/0 has",
        ),
        (
            service("a/s").asks("10.0.0.1").shares("k"),
            Reason::AddressInUse,
            spec,
            "allow-shared-ip",
        ),
        (
            service("a/s").asks("10.0.0.2").shares("k"),
            Reason::PortClash,
            spec,
            "Service a/1",
        ),
        (
            service("a/s")
                .asks("10.0.0.2")
                .shares("k")
                .local("x=y")
                .port(Protocol::Udp, 80),
            Reason::SharingMismatch,
            spec,
            "externalTrafficPolicy",
        ),
        (
            service("a/s").asks("1::1"),
            Reason::FamilyMismatch,
            spec,
            "IPv4",
        ),
        (
            service("a/s").annotated("10.0.0.3,1::1"),
            Reason::FamilyMismatch,
            note,
            "10.0.0.3 and 1::1",
        ),
        (
            service("a/s").annotated("10.0.0.3,10.0.0.4"),
            Reason::InvalidRequest,
            note,
            "one address per family",
        ),
        (
            service("a/s").asks("10.0.0.3").annotated("10.0.0.3"),
            Reason::InvalidRequest,
            spec,
            "keep one of them",
        ),
        (
            service("a/s").pool("none"),
            Reason::UnknownPool,
            by_pool,
            "pool none",
        ),
        (
            service("a/s").pool("pinned"),
            Reason::OutsidePools,
            by_pool,
            "serviceAllocation",
        ),
        (
            service("a/s").asks("10.8.0.1"),
            Reason::OutsidePools,
            spec,
            "serviceAllocation of pool pinned",
        ),
        (
            service("a/s").asks("10.9.0.255"),
            Reason::OutsidePools,
            spec,
            "avoidBuggyIPs",
        ),
        (
            service("a/s").asks("10.0.0.3").pool("buggy"),
            Reason::OutsidePools,
            spec,
            "one pool",
        ),
        (
            service("a/s").pool("tiny"),
            Reason::PoolExhausted,
            by_pool,
            "extend the pool",
        ),
    ];
    for (asker, reason, field, words) in cases {
        let d = first(&state(
            "10.96.0.0/16",
            [
                put_pool(pool("p", "10.0.0.1-10.0.0.9,1::/120")),
                put_pool(pool("tiny", "10.7.0.1-10.7.0.1")),
                put_pool(buggy.clone()),
                put_pool(pinned(pool("pinned", "10.8.0.0/24"), 1, "shop", "")),
                put(service("a/0").asks("10.0.0.1")),
                put(service("a/1").asks("10.0.0.2").shares("k")),
                put(service("a/2").asks("10.7.0.1")),
                put(asker),
            ],
        ));
        let text = said(&d, "a/s");
        assert_eq!(why(&d, "a/s"), reason, "{text}");
        assert!(
            text.starts_with(&format!("Service a/s: {field}: ")) && text.contains(words),
            "{text}"
        );
        assert_eq!(has(&d, "a/s"), "");
        assert_eq!(d.problems.len(), 1);
    }
}

#[test]
fn a_request_that_cannot_be_met_leaves_the_service_with_what_it_has() {
    let mut s = state("", [small(), put(service("a/s")), put(service("b/other"))]);
    let mut d = first(&s);
    for bad in ["10.9.9.9", "10.0.0.2", "1::1"] {
        d = then(&mut s, &d, &[put(service("a/s").asks(bad))]);
        assert_eq!(has(&d, "a/s"), "10.0.0.1");
        assert!(
            said(&d, "a/s").ends_with("until then it keeps 10.0.0.1"),
            "{}",
            said(&d, "a/s")
        );
    }
    d = then(&mut s, &d, &[put(service("a/s").asks("10.0.0.2"))]);
    d = then(&mut s, &d, &[drop_service("b/other")]);
    assert_eq!(
        (has(&d, "a/s"), why(&d, "a/s")),
        ("10.0.0.2".into(), Reason::Allocated)
    );
}

#[test]
fn requests_that_can_be_met_together_are_met() {
    // A circle of any length: each asks for the address of the next.
    for length in 2..=3 {
        let names = ["a/1", "a/2", "a/3"].into_iter().take(length);
        let names: Vec<&str> = names.collect();
        let put_all = names.iter().map(|n| put(service(n)));
        let mut s = state("", put_all.chain([small()]));
        let mut d = first(&s);
        let had: Vec<String> = names.iter().map(|n| has(&d, n)).collect();
        for (i, name) in names.iter().enumerate() {
            let next = &had[(i + 1) % length];
            d = then(&mut s, &d, &[put(service(name).asks(next))]);
        }
        for (i, name) in names.iter().enumerate() {
            assert_eq!(has(&d, name), had[(i + 1) % length], "{length}");
            assert_eq!(why(&d, name), Reason::Allocated);
        }
    }
}

#[test]
fn an_exchange_leaves_out_who_would_lack_an_address() {
    let mut s = state(
        "",
        ["a/1", "a/2", "a/3"]
            .map(|n| put(service(n)))
            .into_iter()
            .chain([small()]),
    );
    let d = first(&s);
    let (one, two) = (has(&d, "a/1"), has(&d, "a/2"));
    let mut d = then(&mut s, &d, &[put(service("a/1").asks(&two))]);
    // Both want what the first one has; one of them gets it.
    d = then(&mut s, &d, &[put(service("a/3").asks(&one))]);
    d = then(&mut s, &d, &[put(service("a/2").asks(&one))]);
    assert_eq!((has(&d, "a/1"), has(&d, "a/2")), (two, one));
    assert_eq!(why(&d, "a/3"), Reason::AddressInUse);
}
