//! Which client reaches which endpoint, packet by packet: policies, kinds of addresses, sources, TCP and UDP, both families.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ferrolb_api::change::Change;
use ferrolb_api::object::Object;
use ferrolb_api::view::{IngressAddress, Protocol, Service, ServiceType, TrafficPolicy};

use crate::kernel::memory::{Outcome, Source};
use crate::testing::{World, endpoint, ip, service, six, slice, upsert_service, upsert_slice};

const CLUSTER_IP: &str = "10.96.0.10";
const EXTERNAL: &str = "198.51.100.7";
const VIP: &str = "198.51.100.8";
const SOURCES: [&str; 6] = ["client", "A", "B", "a1", "a2", "b1"];

/// `clusterip`, `external`, `vip` have one column for each of the sources above; `np` is the node port on A. `a1K`: a1 gets it
/// with the client's address; `M`: masqueraded; `R`: refused; `D`: dropped.
struct Case {
    policy: &'static str,
    endpoints: &'static [&'static str],
    rows: &'static [(&'static [&'static str], [&'static str; 6])],
}

const OUTSIDE: &[&str] = &["external", "vip", "np"];
const SHARED: &[&str] = &["external", "vip"];
const REFUSED: [&str; 6] = ["R"; 6];
const CLUSTER: [&str; 6] = [
    "a1M b1M", "a1M b1M", "a1M b1M", "a1M b1K", "a1K b1K", "a1K b1M",
];
const REMOTE: [&str; 6] = ["b1M", "b1M", "b1M", "b1K", "b1K", "b1M"];

const CASES: &[Case] = &[
    Case {
        policy: "Cluster",
        endpoints: &["a1", "b1"],
        rows: &[(&["clusterip"], CLUSTER), (OUTSIDE, ["a1M b1M"; 6])],
    },
    Case {
        policy: "Cluster",
        endpoints: &[],
        rows: &[(&["clusterip", "external", "vip", "np"], REFUSED)],
    },
    Case {
        policy: "etp Local",
        endpoints: &["a1", "b1"],
        rows: &[
            (&["clusterip"], CLUSTER),
            (
                SHARED,
                ["a1K", "a1M b1M", "a1M b1M", "a1M b1K", "a1K b1K", "a1K b1M"],
            ),
            (
                &["np"],
                ["a1K", "a1M b1M", "a1K", "a1M b1K", "a1K b1K", "a1K"],
            ),
        ],
    },
    Case {
        policy: "etp Local",
        endpoints: &["b1"],
        rows: &[
            (&["clusterip"], REMOTE),
            (SHARED, ["D", "b1M", "b1M", "b1K", "b1K", "b1M"]),
            (&["np"], ["D", "b1M", "D", "b1K", "b1K", "D"]),
        ],
    },
    Case {
        policy: "etp Local",
        endpoints: &[],
        rows: &[(&["clusterip", "external", "vip", "np"], REFUSED)],
    },
    Case {
        policy: "itp Local",
        endpoints: &["a1", "b1"],
        rows: &[(&["clusterip"], ["a1M", "a1M", "b1M", "a1M", "a1K", "b1M"])],
    },
    Case {
        policy: "itp Local",
        endpoints: &["b1"],
        rows: &[(&["clusterip"], ["D", "D", "b1M", "D", "D", "b1M"])],
    },
    Case {
        policy: "Cluster",
        endpoints: &["A", "B"],
        rows: &[
            (
                &["clusterip"],
                ["AK BM", "AK BM", "AM BK", "AK BK", "AK BK", "AK BK"],
            ),
            (
                &["vip"],
                ["AK BM", "AK BM", "AM BK", "AK BM", "AK BM", "AM BK"],
            ),
        ],
    },
    Case {
        policy: "etp Local",
        endpoints: &["A", "B"],
        rows: &[
            (
                &["vip"],
                ["AK", "AK BM", "AM BK", "AK BK", "AK BK", "AK BK"],
            ),
            (&["np"], ["AK", "AK BM", "AK", "AK BK", "AK BK", "AK"]),
        ],
    },
    Case {
        policy: "ranges",
        endpoints: &["a1", "b1"],
        rows: &[
            (&["vip"], ["a1M b1M", "a1M b1M", "D", "D", "D", "D"]),
            (&["external", "np"], ["a1M b1M"; 6]),
            (&["clusterip"], CLUSTER),
        ],
    },
];

fn subject(policy: &str, protocol: Protocol) -> Service {
    let mut s = service("web");
    s.service_type = ServiceType::LoadBalancer;
    let both = |text| vec![ip(text), six(ip(text))];
    s.cluster_ips = both(CLUSTER_IP);
    s.external_ips = both(EXTERNAL);
    let ingress = both(VIP).into_iter();
    s.ingress = ingress.map(|ip| IngressAddress { ip, vip: true }).collect();
    s.ports[0].protocol = protocol;
    s.ports[0].node_port = Some(30080);
    match policy {
        "etp Local" => s.external_policy = TrafficPolicy::Local,
        "itp Local" => s.internal_policy = TrafficPolicy::Local,
        "ranges" => {
            s.source_ranges = both("client")
                .into_iter()
                .chain(both("A"))
                .map(Into::into)
                .collect();
        }
        _ => {}
    }
    s
}

fn worlds(case: &Case, protocol: Protocol) -> [World; 2] {
    let subject = subject(case.policy, protocol);
    let four: Vec<_> = case.endpoints.iter().map(|e| endpoint(e)).collect();
    let mut six_: Vec<_> = four.clone();
    six_.iter_mut().for_each(|e| e.address = six(e.address));
    ["A", "B"].map(|node| {
        let mut world = World::on(node);
        world.change(vec![
            upsert_service(&subject),
            upsert_slice(slice(&subject, four.clone())),
            upsert_slice(slice(&subject, six_.clone())),
        ]);
        world
    })
}

fn told(outcome: Outcome) -> String {
    match outcome {
        Outcome::Delivered(to, source) => {
            assert_eq!(to.port(), 8080, "the named target port");
            let name = SOURCES
                .iter()
                .find(|s| ip(s) == to.ip() || six(ip(s)) == to.ip());
            let source = if source == Source::Kept { "K" } else { "M" };
            format!("{}{source}", name.unwrap())
        }
        Outcome::Reset | Outcome::Unreachable => "R".to_owned(),
        Outcome::Dropped => "D".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Checks every source of one kind of address. `row` is what each source sees.
fn check(what: &str, protocol: Protocol, worlds: &mut [World; 2], dest: &str, row: &[&str; 6]) {
    let [a, b] = worlds;
    for (source, expected) in SOURCES.iter().zip(row) {
        for family in [4, 6] {
            let pick = |addr: IpAddr| if family == 6 { six(addr) } else { addr };
            let (addr, port) = match dest {
                "clusterip" => (CLUSTER_IP, 80),
                "external" => (EXTERNAL, 80),
                "vip" => (VIP, 80),
                _ => ("A", 30080),
            };
            let on_b = matches!(*source, "B" | "b1") && dest != "np";
            let world = if on_b { &mut *b } else { &mut *a };
            let to = SocketAddr::new(pick(ip(addr)), port);
            let seen: BTreeSet<String> = (0..4)
                .map(|_| told(world.send(pick(ip(source)), to, protocol)))
                .collect();
            let seen: Vec<String> = seen.into_iter().collect();
            assert_eq!(
                seen.join(" "),
                *expected,
                "{what} {protocol} v{family}: {source} to {dest}"
            );
        }
    }
}

#[test]
fn every_source_reaches_what_the_policies_say() {
    for case in CASES {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            let mut worlds = worlds(case, protocol);
            let what = format!("{} {:?}", case.policy, case.endpoints);
            for (dests, row) in case.rows {
                for dest in *dests {
                    check(&what, protocol, &mut worlds, dest, row);
                }
            }
        }
    }
}

#[test]
fn with_a_cluster_cidr_a_pod_of_another_node_is_answered_by_every_endpoint_through_a_node_port() {
    let everywhere = [
        (&["a1", "b1"][..], "a1K b1M"),
        (&["b1"], "b1M"),
        (&["A", "B"], "AK BM"),
        (&[], "R"),
    ];
    for case in CASES {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            let mut worlds = worlds(case, protocol);
            for world in &mut worlds {
                let mut config = crate::testing::proxy_config();
                config.cluster_cidrs = ["10.244.0.0/16", "fd00::a:f4:0:0/96"]
                    .map(|net| net.parse().unwrap())
                    .into();
                world.change(vec![Change::Upsert(Object::ProxyConfig(config.into()))]);
            }
            let what = format!("{} {:?}", case.policy, case.endpoints);
            for (dests, row) in case.rows {
                for dest in *dests {
                    let mut row = *row;
                    if *dest == "np" && case.policy == "etp Local" {
                        let of = everywhere.iter().find(|(e, _)| *e == case.endpoints);
                        row[5] = of.unwrap().1;
                    }
                    check(&what, protocol, &mut worlds, dest, &row);
                }
            }
        }
    }
}

#[test]
fn unused_ports_of_service_addresses_are_refused_to_everybody() {
    let [mut a, _] = worlds(&CASES[0], Protocol::Tcp);
    for addr in [CLUSTER_IP, EXTERNAL, VIP, "10.96.99.99"] {
        for source in SOURCES.into_iter().filter(|s| *s != "B") {
            for port in [22, 81, 30080] {
                for (addr, source) in [(ip(addr), ip(source)), (six(ip(addr)), six(ip(source)))] {
                    let to = SocketAddr::new(addr, port);
                    assert_eq!(
                        a.send(source, to, Protocol::Tcp),
                        Outcome::Reset,
                        "{source} to {to}"
                    );
                    assert_eq!(
                        a.send(source, to, Protocol::Udp),
                        Outcome::Unreachable,
                        "{source} to {to}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_service_address_answers_ping_and_takes_path_mtu_messages() {
    use crate::kernel::memory::{From, Packet, Payload};
    let [mut a, _] = worlds(&CASES[0], Protocol::Tcp);
    for (addr, kinds, refused) in [(ip(VIP), [8, 3], 13), (six(ip(VIP)), [128, 2], 139)] {
        let source = if addr.is_ipv6() {
            six(ip("client"))
        } else {
            ip("client")
        };
        let mut ping = |kind| {
            a.kernel.send(Packet {
                from: From::Wire,
                src: SocketAddr::new(source, 0),
                dst: SocketAddr::new(addr, 0),
                payload: Payload::Icmp(kind),
            })
        };
        assert_eq!(kinds.map(&mut ping), [Outcome::Host; 2]);
        assert_eq!(ping(refused), Outcome::Unreachable);
    }
}
