//! Addresses of pools that belong to somebody else.

use super::*;

fn problem_of_pool(d: &Desired) -> String {
    let of_pool = |p: &&ferrolb_api::problem::Problem| {
        let object = p.subject.object();
        object.is_some_and(|(kind, _)| kind == Kind::IpAddressPool)
    };
    let found: Vec<String> = d
        .problems
        .iter()
        .filter(of_pool)
        .map(ToString::to_string)
        .collect();
    found.join("\n")
}

#[test]
fn an_address_of_a_node_of_a_pod_of_a_cluster_ip_or_of_external_ips_is_not_given() {
    let owners = [
        put_node("n1", "10.0.0.1", ""),
        put_node("n2", "", "10.0.0.1/32"),
        put(service("z/inside").cluster_only().cluster_ip("10.0.0.1")),
        put(service("z/lists").cluster_only().external("10.0.0.1")),
    ];
    for owner in &owners {
        let d = first(&state("", [small(), put(service("a/1")), owner.clone()]));
        assert_eq!(has(&d, "a/1"), "10.0.0.2", "{owner:?}");
    }
    for owner in &owners[..3] {
        let asks = put(service("a/1").asks("10.0.0.1"));
        let d = first(&state("", [small(), asks, owner.clone()]));
        assert_eq!(why(&d, "a/1"), Reason::AddressOwned, "{owner:?}");
        assert!(said(&d, "a/1").contains("10.0.0.1, which belongs to "));
    }
}

#[test]
fn a_range_of_cluster_ips_or_pods_is_not_given_and_its_end_is_found_at_once() {
    let wide = put_pool(pool("p", "10.0.0.1-10.200.0.0"));
    let d = first(&state("10.0.0.0/9", [wide.clone(), put(service("a/1"))]));
    assert_eq!(has(&d, "a/1"), "10.128.0.0");
    assert!(
        problem_of_pool(&d).contains(
            "spec.addresses: 10.0.0.1-10.200.0.0 overlaps the range of ClusterIPs 10.0.0.0/9. No Service gets these addresses"
        ),
        "{d:?}"
    );
    let pods = put_node("n", "", "10.0.0.0/10");
    let d = first(&state("", [wide, put(service("a/1")), pods]));
    assert_eq!(has(&d, "a/1"), "10.64.0.0");
}

#[test]
fn the_pool_is_warned_about_with_the_names_of_the_owners() {
    let nodes = [1, 2, 3, 4, 5].map(|n| put_node(&format!("n{n}"), &format!("10.0.0.{n}"), ""));
    let mut s = state("", nodes);
    s.apply(&put_pool(pool("p", "10.0.0.2-10.0.0.9")));
    let d = first(&s);
    assert!(
        problem_of_pool(&d).contains("10.0.0.2 belongs to Node n2, 10.0.0.3 belongs to Node n3"),
        "{d:?}"
    );
    s.apply(&put_pool(pool("p", "10.0.0.1-10.0.0.9")));
    assert!(problem_of_pool(&first(&s)).contains("1 more belong to somebody else"));
    s.apply(&put_pool(pool("p", "10.0.0.6-10.0.0.9")));
    assert_eq!(problem_of_pool(&first(&s)), "");
}

#[test]
fn a_service_leaves_an_address_that_a_node_gets() {
    let mut s = state(
        "",
        [
            small(),
            put(service("a/1")),
            put(service("a/2").asks("10.0.0.2")),
        ],
    );
    let d = first(&s);
    let nodes = [put_node("n", "10.0.0.1", ""), put_node("m", "10.0.0.2", "")];
    let d = then(&mut s, &d, &nodes);
    assert_eq!(
        (has(&d, "a/1"), has(&d, "a/2")),
        ("10.0.0.3".into(), "10.0.0.2".into())
    );
    assert_eq!(why(&d, "a/2"), Reason::AddressOwned);
    assert!(
        said(&d, "a/2").ends_with(
            "10.0.0.2, which belongs to Node m: ask for another address; until then it keeps 10.0.0.2, which is not announced"
        ),
        "{}",
        said(&d, "a/2")
    );
    let members = std::collections::BTreeMap::from([(ip("10.0.0.3"), "o".to_owned())]);
    s.set_members(members);
    let d = then(&mut s, &d, &[drop_node("n")]);
    assert_eq!(has(&d, "a/1"), "10.0.0.1");
}

#[test]
fn nobody_takes_an_address_away_by_listing_it() {
    let mut s = state("10.96.0.0/16", [small(), put(service("a/1"))]);
    let d = first(&s);
    let hostile = [
        put(service("evil/1").cluster_only().external("10.0.0.1")),
        put(service("evil/2").cluster_only().cluster_ip("10.0.0.1")),
    ];
    let d = then(&mut s, &d, &hostile);
    assert_eq!(
        (has(&d, "a/1"), why(&d, "a/1")),
        ("10.0.0.1".into(), Reason::Allocated)
    );
    assert_eq!(why(&d, "evil/2"), Reason::AddressOwned);
    assert!(said(&d, "evil/2").contains("spec.clusterIP: it names 10.0.0.1, which is in pool p"));
}

#[test]
fn nobody_keeps_an_address_from_those_who_ask_for_it_by_listing_it() {
    let all = [
        small(),
        put(service("a/evil").cluster_only().external("10.0.0.1")),
        put(service("b/1").asks("10.0.0.1")),
        put(service("z/evil").cluster_only().external("10.0.0.1")),
    ];
    let d = first(&state("", all));
    assert_eq!(has(&d, "b/1"), "10.0.0.1");
}

#[test]
fn a_service_may_ask_for_what_it_and_those_it_shares_with_list_as_external_addresses() {
    let dns = |name: &str, protocol| {
        let b = service(name).port(protocol, 53).shares("dns");
        put(b.external("10.0.0.2").asks("10.0.0.2"))
    };
    let all = [
        small(),
        dns("a/tcp", Protocol::Tcp),
        dns("a/udp", Protocol::Udp),
    ];
    let d = first(&state("", all));
    assert_eq!(
        (has(&d, "a/tcp"), has(&d, "a/udp")),
        ("10.0.0.2".into(), "10.0.0.2".into())
    );
}

#[test]
fn a_service_that_waits_gets_an_address_when_its_owner_is_gone() {
    let mut s = state(
        "",
        [
            put_pool(pool("p", "10.0.0.1-10.0.0.1")),
            put(service("a/1")),
            put(service("b/2").cluster_only().external("10.0.0.1")),
        ],
    );
    let mut allocator = crate::allocator::Allocator::new(Assignments::new());
    let dirty = s.take_dirty();
    allocator.decide(&s, &dirty);
    assert_eq!(
        allocator.outcomes()[&key("a/1")].reason,
        Reason::PoolExhausted
    );
    s.apply(&put(service("b/2").cluster_only()));
    let dirty = s.take_dirty();
    allocator.decide(&s, &dirty);
    assert_eq!(
        allocator.assignments()[&key("a/1")].addresses,
        ips("10.0.0.1")
    );
}

#[test]
fn a_service_leaves_an_address_that_a_host_turns_out_to_have() {
    use ferrolb_api::ownership::Owner;
    use ferrolb_api::ownership::neighbour::LinkAddress;
    let host = Owner::Host(LinkAddress(vec![2, 0, 0, 0, 0, 9]));
    let mut s = state(
        "",
        [
            small(),
            put(service("a/1")),
            put(service("a/2").asks("10.0.0.3")),
        ],
    );
    let d = first(&s);
    assert_eq!(has(&d, "a/1"), "10.0.0.1");
    for address in ["10.0.0.1", "10.0.0.3"] {
        s.set_found(ip(address), Some(host.clone()));
    }
    assert!(s.take_dirty().all);
    let d = then(&mut s, &d, &[]);
    assert_eq!(
        (has(&d, "a/1"), has(&d, "a/2")),
        ("10.0.0.2".into(), "10.0.0.3".into())
    );
    assert_eq!(why(&d, "a/2"), Reason::AddressOwned);
    let named = "10.0.0.1 belongs to the host 02:00:00:00:00:09 on the network";
    assert!(problem_of_pool(&d).contains(named), "{d:?}");
    s.set_found(ip("10.0.0.3"), None);
    let d = then(&mut s, &d, &[]);
    assert_eq!(why(&d, "a/2"), Reason::Allocated);
}

#[test]
fn a_range_of_the_api_server_is_not_given_from_while_it_exists() {
    let mut s = state(
        "",
        [
            put_range("kubernetes", "10.0.0.0/30,fd00::/112"),
            put_pool(pool("p", "10.0.0.1-10.0.0.9")),
            put(service("a/1")),
        ],
    );
    let d = first(&s);
    assert_eq!(has(&d, "a/1"), "10.0.0.4");
    assert!(
        problem_of_pool(&d).contains("overlaps the range of ClusterIPs 10.0.0.0/30"),
        "{d:?}"
    );
    // A wider range keeps newcomers away only.
    let d = then(
        &mut s,
        &d,
        &[put_range("more", "10.0.0.4/31"), put(service("a/2"))],
    );
    assert_eq!(
        (has(&d, "a/1"), has(&d, "a/2")),
        ("10.0.0.4".into(), "10.0.0.6".into())
    );
    let gone = Change::Remove(
        Kind::ServiceCidr,
        ferrolb_api::ObjectKey::new("", "kubernetes"),
    );
    let d = then(&mut s, &d, &[gone, put(service("a/3"))]);
    assert_eq!(has(&d, "a/3"), "10.0.0.1");
    assert!(problem_of_pool(&d).contains("10.0.0.4/31"), "{d:?}");
}
