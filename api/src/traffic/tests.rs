#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::IpAddr;

use super::*;
use crate::ObjectKey;
use crate::view::{EndpointPort, IngressAddress, Protocol, ServiceType, TargetPort};

/// `10.0.0.<n>` on a node, with conditions (r ready, s serving, t terminating), node hints and zone hints.
fn endpoint(n: u8, node: &str, conditions: &str, nodes: &[&str], zones: &[&str]) -> Endpoint {
    Endpoint {
        address: IpAddr::from([10, 0, 0, n]),
        node: Some(node.into()),
        ready: conditions.contains('r'),
        serving: conditions.contains('s'),
        terminating: conditions.contains('t'),
        hint_nodes: nodes.iter().map(|s| (*s).to_owned()).collect(),
        hint_zones: zones.iter().map(|s| (*s).to_owned()).collect(),
        weight: None,
    }
}

fn slice(endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        key: ObjectKey::new("default", "web-1"),
        service: "web".into(),
        ports: vec![EndpointPort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8000,
        }],
        endpoints,
        triggered: None,
    }
}

fn http() -> ServicePort {
    ServicePort {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: 80,
        target_port: TargetPort::Number(8000),
        node_port: None,
    }
}

/// `c`: ClusterIP; `il`: that with internal policy Local; `l`: LoadBalancer with external policy Local; `ill`: both Local.
fn service(kind: &str) -> Service {
    let mut s = Service {
        key: ObjectKey::new("default", "web"),
        ports: vec![http()],
        ..Service::default()
    };
    if kind.contains("il") {
        s.internal_policy = TrafficPolicy::Local;
    }
    if kind == "l" || kind == "ill" {
        s.service_type = ServiceType::LoadBalancer;
        s.external_policy = TrafficPolicy::Local;
        s.ingress = vec![IngressAddress {
            ip: IpAddr::from([192, 0, 2, 1]),
            vip: true,
        }];
    }
    s
}

fn last(targets: &[Target<'_>]) -> Vec<u8> {
    targets
        .iter()
        .map(|t| match t.addr.ip() {
            IpAddr::V4(a) => a.octets()[3],
            IpAddr::V6(_) => 0,
        })
        .collect()
}

/// One case: endpoints, the Service, then cluster, local and draining as last octets. Asked from node `n1` in zone `z1`.
type Case<'a> = (
    &'a str,
    &'a str,
    Vec<Endpoint>,
    &'a [u8],
    &'a [u8],
    &'a [u8],
);

fn check(cases: Vec<Case<'_>>) {
    for (name, kind, endpoints, cluster, local, draining) in cases {
        let slices = [slice(endpoints)];
        let got = select(
            slices.iter(),
            &service(kind),
            &http(),
            Family::V4,
            "n1",
            Some("z1"),
        );
        assert_eq!(last(&got.cluster), cluster, "{name}: cluster");
        assert_eq!(last(&got.local), local, "{name}: local");
        assert_eq!(last(&got.draining), draining, "{name}: draining");
    }
}

#[test]
fn hints_apply_only_when_every_ready_endpoint_has_them_and_one_names_us() {
    let e = endpoint;
    check(vec![
        (
            "zone hints name this zone",
            "c",
            vec![
                e(1, "n2", "rs", &[], &["z1"]),
                e(2, "n3", "rs", &[], &["z2"]),
            ],
            &[1],
            &[],
            &[2],
        ),
        (
            "one endpoint has no hint: all are used",
            "c",
            vec![e(1, "n2", "rs", &[], &["z1"]), e(2, "n3", "rs", &[], &[])],
            &[1, 2],
            &[],
            &[],
        ),
        (
            "no endpoint for this zone: all are used",
            "c",
            vec![
                e(1, "n2", "rs", &[], &["z2"]),
                e(2, "n3", "rs", &[], &["z3"]),
            ],
            &[1, 2],
            &[],
            &[],
        ),
        (
            "several zones in one hint",
            "c",
            vec![
                e(1, "n2", "rs", &[], &["z3", "z1"]),
                e(2, "n3", "rs", &[], &["z2", "z3"]),
            ],
            &[1],
            &[],
            &[2],
        ),
        (
            "only an unready endpoint names this zone: all ready ones are used",
            "c",
            vec![e(1, "n2", "", &[], &["z1"]), e(2, "n3", "rs", &[], &["z2"])],
            &[2],
            &[],
            &[1],
        ),
        (
            "an unready endpoint without hints does not spoil the hints of the others",
            "c",
            vec![
                e(1, "n2", "rs", &[], &["z1"]),
                e(2, "n3", "rs", &[], &["z2"]),
                e(3, "n3", "", &[], &[]),
            ],
            &[1],
            &[],
            &[2, 3],
        ),
        (
            "node hints go before zone hints",
            "c",
            vec![
                e(1, "n1", "rs", &["n1"], &["z1"]),
                e(2, "n2", "rs", &["n2"], &["z1"]),
            ],
            &[1],
            &[],
            &[2],
        ),
        (
            "no node hint names us: zone hints decide",
            "c",
            vec![
                e(1, "n2", "rs", &["n2"], &["z1"]),
                e(2, "n3", "rs", &["n3"], &["z2"]),
            ],
            &[1],
            &[],
            &[2],
        ),
        ("no endpoints at all", "c", vec![], &[], &[], &[]),
    ]);
}

#[test]
fn local_ignores_topology_and_falls_back_to_its_own_terminating_endpoints() {
    let e = endpoint;
    check(vec![
        (
            "local ignores hints, cluster follows them",
            "l",
            vec![
                e(1, "n1", "rs", &[], &["z2"]),
                e(2, "n2", "rs", &[], &["z1"]),
            ],
            &[2],
            &[1],
            &[],
        ),
        (
            "local falls back to serving and terminating ones of the node",
            "l",
            vec![e(1, "n1", "st", &[], &[]), e(2, "n2", "rs", &[], &[])],
            &[2],
            &[1],
            &[],
        ),
        (
            "a ready local endpoint beside a terminating one",
            "l",
            vec![e(1, "n1", "st", &[], &[]), e(2, "n1", "rs", &[], &[])],
            &[2],
            &[2],
            &[1],
        ),
        (
            "terminating and no longer serving is of no use",
            "l",
            vec![e(1, "n1", "t", &[], &[]), e(2, "n2", "rs", &[], &[])],
            &[2],
            &[],
            &[1],
        ),
        (
            "internal policy Local: all remote",
            "il",
            vec![e(1, "n2", "rs", &[], &[]), e(2, "n3", "rs", &[], &[])],
            &[1, 2],
            &[],
            &[],
        ),
        (
            "internal policy Local: all local",
            "il",
            vec![e(1, "n1", "rs", &[], &[]), e(2, "n1", "rs", &[], &[])],
            &[1, 2],
            &[1, 2],
            &[],
        ),
        (
            "both policies Local",
            "ill",
            vec![e(1, "n1", "rs", &[], &[]), e(2, "n2", "rs", &[], &[])],
            &[1, 2],
            &[1],
            &[],
        ),
    ]);
}

#[test]
fn cluster_falls_back_to_serving_terminating_endpoints_without_topology() {
    let e = endpoint;
    check(vec![
        (
            "all terminating, hints ignored",
            "c",
            vec![
                e(1, "n2", "st", &[], &["z1"]),
                e(2, "n3", "st", &[], &["z2"]),
                e(3, "n3", "t", &[], &[]),
            ],
            &[1, 2],
            &[],
            &[3],
        ),
        (
            "one ready endpoint is enough to leave the terminating ones",
            "c",
            vec![e(1, "n1", "st", &[], &[]), e(2, "n3", "rs", &[], &[])],
            &[2],
            &[],
            &[1],
        ),
        (
            "nothing usable",
            "c",
            vec![e(1, "n1", "", &[], &[])],
            &[],
            &[],
            &[1],
        ),
    ]);
}

#[test]
fn without_a_zone_of_its_own_a_node_ignores_zone_hints() {
    let slices = [slice(vec![
        endpoint(1, "n2", "rs", &[], &["z1"]),
        endpoint(2, "n2", "rs", &[], &[""]),
    ])];
    for zone in [None, Some("")] {
        let got = select(
            slices.iter(),
            &service("c"),
            &http(),
            Family::V4,
            "n1",
            zone,
        );
        assert_eq!(last(&got.cluster), [1, 2]);
    }
}

#[test]
fn ports_match_by_name_and_protocol_and_addresses_by_family() {
    let mut mixed = slice(vec![endpoint(1, "n1", "rs", &[], &[])]);
    mixed.endpoints.push(Endpoint {
        address: "2001:db8::1".parse().unwrap(),
        ..endpoint(2, "n1", "rs", &[], &[])
    });
    mixed.ports = vec![
        EndpointPort {
            name: "http".into(),
            protocol: Protocol::Udp,
            port: 1,
        },
        EndpointPort {
            name: "https".into(),
            protocol: Protocol::Tcp,
            port: 2,
        },
        EndpointPort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 3,
        },
    ];
    let slices = [mixed];
    let addrs = |family| -> Vec<String> {
        select(slices.iter(), &service("c"), &http(), family, "n1", None)
            .cluster
            .iter()
            .map(|t| t.addr.to_string())
            .collect()
    };
    assert_eq!(addrs(Family::V4), ["10.0.0.1:3"]);
    assert_eq!(addrs(Family::V6), ["[2001:db8::1]:3"]);
}

#[test]
fn an_endpoint_in_two_slices_counts_once_and_the_local_one_wins() {
    let first = slice(vec![
        endpoint(1, "n2", "rs", &[], &[]),
        endpoint(2, "n2", "rs", &[], &[]),
    ]);
    let second = slice(vec![
        endpoint(1, "n1", "rs", &[], &[]),
        endpoint(2, "n3", "rs", &[], &[]),
    ]);
    let slices = [first, second];
    let got = select(
        slices.iter(),
        &service("l"),
        &http(),
        Family::V4,
        "n1",
        None,
    );
    assert_eq!(last(&got.cluster), [1, 2]);
    assert_eq!(last(&got.local), [1]);
    assert_eq!(got.cluster[1].endpoint.node.as_deref(), Some("n2"));
}

#[test]
fn of_the_same_endpoint_twice_the_one_that_can_be_used_counts_wherever_it_stands() {
    let kinds = ["", "t", "st", "rs"];
    for (worse, better) in [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
        let of = |kind: usize, node| endpoint(5, node, kinds[kind], &[], &[]);
        // A local one that cannot be used does not count before one elsewhere that can.
        for node in ["n1", "n2"] {
            let (old, new) = (of(worse, "n1"), of(better, node));
            let layouts = [
                vec![slice(vec![old.clone(), new.clone()])],
                vec![slice(vec![new.clone(), old.clone()])],
                vec![slice(vec![old.clone()]), slice(vec![new.clone()])],
                vec![slice(vec![new.clone()]), slice(vec![old])],
            ];
            for slices in layouts {
                let got = select(
                    slices.iter(),
                    &service("c"),
                    &http(),
                    Family::V4,
                    "n1",
                    None,
                );
                let used: Vec<&Endpoint> = got.cluster.iter().map(|t| t.endpoint).collect();
                assert_eq!(used, [&new], "{slices:?}");
            }
        }
    }
}

#[test]
fn a_virtual_server_keeps_what_the_other_policy_still_uses() {
    // n1's only endpoint is terminating: Local still uses it, and the server for pods must not cut its connections.
    let slices = [slice(vec![
        endpoint(1, "n1", "st", &[], &[]),
        endpoint(2, "n2", "rs", &[], &[]),
        endpoint(3, "n2", "", &[], &[]),
        endpoint(4, "n1", "", &[], &[]),
    ])];
    let got = select(
        slices.iter(),
        &service("l"),
        &http(),
        Family::V4,
        "n1",
        None,
    );
    let drained = |policy| -> Vec<u8> {
        let mut list: Vec<u8> = got
            .drained(policy)
            .flat_map(|t| last(std::slice::from_ref(t)))
            .collect();
        list.sort_unstable();
        list
    };
    assert_eq!(drained(TrafficPolicy::Cluster), [1, 3, 4]);
    assert_eq!(drained(TrafficPolicy::Local), [4]);
}

#[test]
fn every_endpoint_has_a_reason() {
    let slices = [slice(vec![
        endpoint(1, "n1", "rs", &[], &["z2"]),
        endpoint(2, "n2", "rs", &[], &["z1"]),
        endpoint(3, "n1", "", &[], &[]),
        endpoint(4, "n1", "st", &[], &[]),
    ])];
    let got = select(
        slices.iter(),
        &service("l"),
        &http(),
        Family::V4,
        "n1",
        Some("z1"),
    );
    let reasons = |policy| -> Vec<Reason> {
        let all = got.cluster.iter().chain(&got.local).chain(&got.draining);
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|t| t.addr);
        all.iter()
            .map(|t| endpoint_reason(&got, policy, t))
            .collect()
    };
    assert_eq!(
        reasons(TrafficPolicy::Cluster),
        [
            Reason::EndpointElsewhere,
            Reason::EndpointUsed,
            Reason::EndpointNotReady,
            Reason::EndpointTerminating
        ]
    );
    assert_eq!(
        reasons(TrafficPolicy::Local),
        [
            Reason::EndpointUsed,
            Reason::EndpointNotLocal,
            Reason::EndpointNotReady,
            Reason::EndpointTerminating
        ]
    );
}

#[test]
fn no_endpoints_anywhere_and_remote_only_are_told_apart() {
    let remote = [slice(vec![endpoint(1, "n2", "rs", &[], &[])])];
    let of = |slices: &[EndpointSlice], policy| {
        let got = select(
            slices.iter(),
            &service("l"),
            &http(),
            Family::V4,
            "n1",
            None,
        );
        refusal(&got, policy)
    };
    assert_eq!(
        of(&remote, TrafficPolicy::Local),
        Some(Reason::NoLocalEndpoint)
    );
    assert_eq!(of(&remote, TrafficPolicy::Cluster), None);
    assert_eq!(of(&[], TrafficPolicy::Local), Some(Reason::NoEndpoints));
    assert_eq!(of(&[], TrafficPolicy::Cluster), Some(Reason::NoEndpoints));
}
