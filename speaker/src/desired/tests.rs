#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Change;
use ferrolb_api::crd::{AddressRange, IpAddressPool, L2Advertisement, LabelSelector};
use ferrolb_api::legacy::LegacyConfig;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::reason::Reason;
use ferrolb_api::view::{
    Endpoint, EndpointSlice, IngressAddress, Node, Service, ServiceType, TrafficPolicy,
};
use proptest::prelude::*;

use super::leaving::{Leaving, WHILE};
use super::{Answer, Changed, Surroundings, desired, eligible, refresh};
use crate::apply::probe::Probes;
use crate::link::{Link, LinkAddress, LinkChange, Links, Patterns};
use crate::machine::Moved;
use crate::state::{Dirty, State};

fn ip(last: u8) -> IpAddr {
    IpAddr::from([172, 17, 255, last])
}

fn labels<T: FromIterator<(String, String)>>(of: &[(&str, &str)]) -> T {
    of.iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn selector(of: &[(&str, &str)]) -> LabelSelector {
    LabelSelector {
        match_labels: labels(of),
        match_expressions: Vec::new(),
    }
}

fn pool(name: &str) -> IpAddressPool {
    IpAddressPool {
        key: ObjectKey::new("metallb-system", name),
        ranges: vec![AddressRange {
            first: ip(1),
            last: ip(255),
        }],
        auto_assign: true,
        avoid_buggy_ips: false,
        created: None,
        allocation: None,
        labels: labels(&[("pool", name)]),
    }
}

fn advertisement(name: &str) -> L2Advertisement {
    L2Advertisement {
        key: ObjectKey::new("metallb-system", name),
        pools: Vec::new(),
        pool_selectors: Vec::new(),
        node_selectors: Vec::new(),
        interfaces: Vec::new(),
        service_selectors: Vec::new(),
    }
}

fn service(name: &str, last: u8, policy: TrafficPolicy) -> Service {
    Service {
        key: ObjectKey::new("default", name),
        service_type: ServiceType::LoadBalancer,
        ingress: vec![IngressAddress {
            ip: ip(last),
            vip: true,
        }],
        external_policy: policy,
        labels: labels(&[("app", name)]),
        ..Service::default()
    }
}

fn slice(service: &str, node: &str, ready: bool, serving: bool) -> EndpointSlice {
    let endpoint = Endpoint {
        address: IpAddr::from([10, 0, 0, 1]),
        node: Some(node.to_owned()),
        ready,
        serving,
        terminating: !ready && serving,
        hint_nodes: Vec::new(),
        hint_zones: Vec::new(),
        weight: None,
    };
    EndpointSlice {
        key: ObjectKey::new("default", format!("{service}-x")),
        service: service.to_owned(),
        ports: Vec::new(),
        endpoints: vec![endpoint],
        triggered: None,
    }
}

fn node(name: &str) -> Node {
    Node {
        name: name.to_owned(),
        labels: labels(&[("kubernetes.io/hostname", name)]),
        ..Node::default()
    }
}

fn links() -> Links {
    let mut links = Links::default();
    for (index, name, net) in [(2, "eth0", "172.17.0.1/16"), (3, "eth1", "10.0.0.1/24")] {
        links.apply(LinkChange::Link(Link {
            index,
            name: name.to_owned(),
            mac: Some(crate::frame::arp::Mac([2, 0, 0, 0, 0, 1])),
            up: true,
            loopback: false,
            arp: true,
            master: None,
        }));
        links.apply(LinkChange::Address(
            index,
            LinkAddress {
                net: net.parse().unwrap(),
                expires: false,
            },
        ));
    }
    links
}

/// No host has any of the addresses.
fn free() -> Probes {
    let mut probes = Probes::default();
    (0..=255).for_each(|last| probes.settle(ip(last)));
    probes
}

fn state(objects: Vec<Object>) -> State {
    let mut state = State::default();
    for object in objects {
        state.apply(Change::Upsert(object), &mut Dirty::default());
    }
    state
}

fn one(objects: Vec<Object>, programmed: Option<&[u8]>) -> Answer {
    let (links, patterns) = (links(), Patterns::default());
    let programmed = programmed.map(|p| p.iter().map(|l| ip(*l)).collect::<BTreeSet<_>>());
    let around = Surroundings {
        me: "n1",
        programmed: programmed.as_ref(),
        links: &links,
        patterns: &patterns,
        probes: &free(),
        open: &BTreeSet::from([2, 3]),
    };
    eligible(&state(objects), around, ip(1))
}

fn web() -> Object {
    Object::Service(Arc::new(service("web", 1, TrafficPolicy::Cluster)))
}

fn ok(interface: u32) -> Answer {
    Ok(BTreeSet::from([interface]))
}

#[test]
fn only_services_of_the_class_have_addresses_to_announce() {
    let mut theirs = service("theirs", 2, TrafficPolicy::Cluster);
    theirs.load_balancer_class = Some("other/lb".into());
    let announced = |class: Option<&str>| {
        let mut state = State::new(class.map(str::to_owned));
        for object in [web(), Object::Service(Arc::new(theirs.clone()))] {
            state.apply(Change::Upsert(object), &mut Dirty::default());
        }
        state.addresses().collect::<Vec<_>>()
    };
    assert_eq!(announced(None), [ip(1)]);
    assert_eq!(announced(Some("other/lb")), [ip(2)]);
}

#[test]
fn an_advertised_pool_is_announced_on_the_subnet() {
    let objects = vec![
        web(),
        Object::IpAddressPool(pool("p").into()),
        Object::L2Advertisement(advertisement("a").into()),
    ];
    assert_eq!(one(objects, None), ok(2));
}

#[test]
fn a_pool_without_advertisement_says_so() {
    assert_eq!(
        one(vec![web(), Object::IpAddressPool(pool("p").into())], None),
        Err(Reason::NoAdvertisement)
    );
    let other = L2Advertisement {
        pools: vec!["q".to_owned()],
        ..advertisement("a")
    };
    let objects = vec![
        web(),
        Object::IpAddressPool(pool("p").into()),
        Object::L2Advertisement(other.into()),
    ];
    assert_eq!(one(objects, None), Err(Reason::NoAdvertisement));
}

#[test]
fn the_legacy_configuration_announces_all_its_pools() {
    let legacy = LegacyConfig {
        key: ObjectKey::new("metallb-system", "config"),
        pools: vec![pool("default")],
        advertisement: advertisement("config"),
        broken: Default::default(),
    };
    assert_eq!(
        one(vec![web(), Object::LegacyConfig(legacy.into())], None),
        ok(2)
    );
}

#[test]
fn of_two_pools_of_one_name_the_older_one_says_how_its_addresses_are_announced() {
    // The legacy pool is announced as it is; the other one lacks an advertisement.
    for (new, old, expected) in [
        (Some(5), Some(6), Err(Reason::NoAdvertisement)),
        (Some(6), Some(5), ok(2)),
        (None, None, ok(2)),
    ] {
        let aged = |created| IpAddressPool {
            created,
            ..pool("default")
        };
        let legacy = LegacyConfig {
            key: ObjectKey::new("metallb-system", "config"),
            pools: vec![aged(old)],
            advertisement: advertisement("config"),
            broken: Default::default(),
        };
        let objects = vec![
            web(),
            Object::LegacyConfig(legacy.into()),
            Object::IpAddressPool(aged(new).into()),
        ];
        assert_eq!(one(objects, None), expected, "{new:?} {old:?}");
    }
}

/// The name of a case, the change to the advertisement, the expected answer.
type Case = (&'static str, fn(&mut L2Advertisement), Answer);

#[test]
fn selectors_choose_pools_nodes_services_and_interfaces() {
    let table: [Case; 8] = [
        (
            "pool by label",
            |a| a.pool_selectors = vec![selector(&[("pool", "p")])],
            ok(2),
        ),
        (
            "another pool",
            |a| a.pool_selectors = vec![selector(&[("pool", "q")])],
            Err(Reason::NoAdvertisement),
        ),
        (
            "this node",
            |a| a.node_selectors = vec![selector(&[("kubernetes.io/hostname", "n1")])],
            ok(2),
        ),
        (
            "other node",
            |a| a.node_selectors = vec![selector(&[("a", "b")])],
            Err(Reason::NodeNotSelected),
        ),
        (
            "service",
            |a| a.service_selectors = vec![selector(&[("app", "web")])],
            ok(2),
        ),
        (
            "other service",
            |a| a.service_selectors = vec![selector(&[("app", "x")])],
            Err(Reason::NoAdvertisement),
        ),
        (
            "interface",
            |a| a.interfaces = vec!["eth1".to_owned()],
            ok(3),
        ),
        (
            "no such interface",
            |a| a.interfaces = vec!["eth9".to_owned()],
            Err(Reason::NoInterface),
        ),
    ];
    for (what, change, expected) in table {
        let mut a = advertisement("a");
        change(&mut a);
        for nodes in [vec![], vec![Object::Node(node("n1").into())]] {
            let objects = [
                vec![
                    web(),
                    Object::IpAddressPool(pool("p").into()),
                    Object::L2Advertisement(a.clone().into()),
                ],
                nodes,
            ]
            .concat();
            assert_eq!(one(objects, None), expected, "{what}");
        }
    }
}

#[test]
fn the_condition_of_the_node_decides() {
    let table = [
        (node("n1"), ok(2)),
        (
            Node {
                excluded: true,
                ..node("n1")
            },
            Err(Reason::NodeExcluded),
        ),
        (
            Node {
                network_unavailable: true,
                ..node("n1")
            },
            Err(Reason::NetworkUnavailable),
        ),
        (
            Node {
                leaving: true,
                ..node("n1")
            },
            Err(Reason::NodeLeaving),
        ),
        (node("n2"), Err(Reason::NodeLeaving)),
    ];
    for (node, expected) in table {
        let objects = vec![
            web(),
            Object::IpAddressPool(pool("p").into()),
            Object::L2Advertisement(advertisement("a").into()),
            Object::Node(node.clone().into()),
        ];
        assert_eq!(one(objects, None), expected, "{node:?}");
    }
}

#[test]
fn local_needs_a_serving_endpoint_here_and_cluster_none_at_all() {
    let base = || {
        vec![
            Object::IpAddressPool(pool("p").into()),
            Object::L2Advertisement(advertisement("a").into()),
        ]
    };
    let local = || Object::Service(Arc::new(service("web", 1, TrafficPolicy::Local)));
    let table = [
        (vec![local()], Err(Reason::NoLocalEndpoint)),
        (
            vec![
                local(),
                Object::EndpointSlice(Arc::new(slice("web", "n1", true, true))),
            ],
            ok(2),
        ),
        (
            vec![
                local(),
                Object::EndpointSlice(Arc::new(slice("web", "n1", false, true))),
            ],
            ok(2),
        ),
        (
            vec![
                local(),
                Object::EndpointSlice(Arc::new(slice("web", "n1", false, false))),
            ],
            Err(Reason::NoLocalEndpoint),
        ),
        (
            vec![
                local(),
                Object::EndpointSlice(Arc::new(slice("web", "n2", true, true))),
            ],
            Err(Reason::NoLocalEndpoint),
        ),
        (vec![web()], ok(2)),
    ];
    for (objects, expected) in table {
        let what = format!("{objects:?}");
        assert_eq!(one([base(), objects].concat(), None), expected, "{what}");
    }
}

#[test]
fn a_shared_address_is_announced_where_one_of_its_services_is_served() {
    let far = vec![
        Object::IpAddressPool(pool("p").into()),
        Object::L2Advertisement(advertisement("a").into()),
        Object::Service(Arc::new(service("far", 1, TrafficPolicy::Local))),
        Object::EndpointSlice(Arc::new(slice("far", "n2", true, true))),
    ];
    let here = vec![
        Object::Service(Arc::new(service("dns", 1, TrafficPolicy::Local))),
        Object::EndpointSlice(Arc::new(slice("dns", "n1", true, true))),
    ];
    assert_eq!(one(far.clone(), None), Err(Reason::NoLocalEndpoint));
    assert_eq!(one([far, here].concat(), None), ok(2));
}

#[test]
fn an_interface_without_a_socket_announces_nothing() {
    let (links, patterns) = (links(), Patterns::default());
    let state = state(vec![
        web(),
        Object::IpAddressPool(pool("p").into()),
        Object::L2Advertisement(advertisement("a").into()),
    ]);
    for (open, expected) in [(vec![2, 3], ok(2)), (vec![3], Err(Reason::NoInterface))] {
        let around = Surroundings {
            me: "n1",
            programmed: None,
            links: &links,
            patterns: &patterns,
            probes: &free(),
            open: &open.into_iter().collect(),
        };
        assert_eq!(eligible(&state, around, ip(1)), expected);
    }
}

#[test]
fn what_is_not_programmed_is_not_announced() {
    let objects = || {
        vec![
            web(),
            Object::IpAddressPool(pool("p").into()),
            Object::L2Advertisement(advertisement("a").into()),
        ]
    };
    assert_eq!(one(objects(), Some(&[])), Err(Reason::NotProgrammed));
    assert_eq!(one(objects(), Some(&[1, 2])), ok(2));
}

/// A change to one of a few objects, so that changes often concern the same object.
fn change() -> impl Strategy<Value = Change> {
    let name = || prop_oneof![Just("a"), Just("b"), Just("c")];
    let policy = prop_oneof![Just(TrafficPolicy::Cluster), Just(TrafficPolicy::Local)];
    let kind = prop_oneof![
        Just(Kind::Service),
        Just(Kind::EndpointSlice),
        Just(Kind::Node),
        Just(Kind::IpAddressPool),
        Just(Kind::L2Advertisement)
    ];
    prop_oneof![
        4 => (name(), 1u8..4, policy, any::<bool>()).prop_map(|(n, last, policy, lb)| {
            let mut s = service(n, last, policy);
            if !lb {
                s.service_type = ServiceType::ClusterIP;
            }
            Change::Upsert(Object::Service(Arc::new(s)))
        }),
        4 => (name(), prop_oneof![Just("n1"), Just("n2")], any::<bool>())
            .prop_map(|(s, n, ready)| Change::Upsert(Object::EndpointSlice(Arc::new(slice(s, n, ready, ready))))),
        1 => any::<bool>().prop_map(|excluded| Change::Upsert(Object::Node(Node { excluded, ..node("n1") }.into()))),
        1 => name().prop_map(|n| Change::Upsert(Object::IpAddressPool(pool(n).into()))),
        1 => name().prop_map(|n| Change::Upsert(Object::L2Advertisement(advertisement(n).into()))),
        3 => (kind, name(), any::<bool>()).prop_map(|(kind, n, suffix)| Change::Remove(kind, match kind {
            Kind::Node => ObjectKey::new("", "n1"),
            Kind::IpAddressPool | Kind::L2Advertisement => ObjectKey::new("metallb-system", n),
            _ if suffix => ObjectKey::new("default", format!("{n}-x")),
            _ => ObjectKey::new("default", n),
        })),
    ]
}

/// An object changes, or the proxy adds or removes a programmed address.
#[derive(Clone, Debug)]
enum Step {
    Object(Box<Change>),
    Programmed(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => change().prop_map(|c| Step::Object(Box::new(c))),
        1 => (1u8..4).prop_map(Step::Programmed),
    ]
}

/// Refreshes what is marked, in parts of two addresses.
fn in_parts(
    answers: &mut BTreeMap<IpAddr, Answer>,
    state: &State,
    around: Surroundings<'_>,
    mut dirty: Dirty,
) -> Changed {
    let mut all = Changed::default();
    while !dirty.is_empty() {
        let known = answers.keys().copied().chain(state.addresses()).collect();
        let part = dirty.take(2, || known);
        if part.is_empty() {
            break;
        }
        let changed = refresh(answers, state, around, &part);
        all.answers.extend(changed.answers);
        all.permitted.added.extend(changed.permitted.added);
        all.permitted.removed.extend(changed.permitted.removed);
    }
    all
}

proptest! {
    #[test]
    fn what_is_marked_is_all_that_changes(steps in prop::collection::vec(step(), 1..40)) {
        let (links, patterns, open) = (links(), Patterns::default(), BTreeSet::from([2]));
        let free = free();
        let mut programmed = BTreeSet::from([ip(1), ip(2)]);
        let mut state = State::default();
        let mut kept = BTreeMap::new();
        let (mut before, mut may) = (BTreeSet::new(), BTreeSet::new());
        for step in steps {
            let mut dirty = Dirty::default();
            match step {
                Step::Object(change) => state.apply(*change, &mut dirty),
                Step::Programmed(last) => {
                    if !programmed.remove(&ip(last)) {
                        programmed.insert(ip(last));
                    }
                    dirty.add([ip(last)]);
                }
            }
            let programmed = Some(&programmed);
            let around = Surroundings { me: "n1", programmed, links: &links, patterns: &patterns, probes: &free, open: &open };
            let then = kept.clone();
            let changed = in_parts(&mut kept, &state, around, dirty);
            prop_assert_eq!(&kept, &desired(&state, around));
            let differs = |a: &&IpAddr| then.get(*a) != kept.get(*a);
            let differing = then.keys().chain(kept.keys()).filter(differs).copied().collect();
            prop_assert_eq!(changed.answers, differing);
            let permitted = kept.iter().filter(|(_, a)| a.is_ok()).map(|(a, _)| *a).collect();
            prop_assert_eq!(changed.permitted, Moved::between(&may, &permitted));
            let now: BTreeSet<IpAddr> = state.addresses().collect();
            prop_assert_eq!(state.take_moved(), Moved::between(&before, &now));
            (before, may) = (now, permitted);
        }
    }
}

#[test]
fn an_address_of_a_node_of_a_member_or_of_a_subnet_is_announced_by_nobody() {
    let mut dirty = Dirty::default();
    let mut state = state(vec![
        Object::Service(Arc::new(service("web", 7, TrafficPolicy::Cluster))),
        Object::IpAddressPool(pool("p").into()),
        Object::L2Advertisement(advertisement("a").into()),
    ]);
    let answer = |state: &State, address| {
        let (links, patterns) = (links(), Patterns::default());
        let around = Surroundings {
            me: "n1",
            programmed: None,
            links: &links,
            patterns: &patterns,
            probes: &free(),
            open: &BTreeSet::from([2, 3]),
        };
        eligible(state, around, address)
    };
    let other = Node {
        name: "z".into(),
        internal_ips: vec![ip(7)],
        ..Node::default()
    };
    let good = answer(&state, ip(7));
    assert!(good.is_ok(), "{good:?}");
    state.apply(Change::Upsert(Object::Node(Arc::new(other))), &mut dirty);
    let refused = Err(Reason::AddressOwned);
    assert_eq!(answer(&state, ip(7)), refused);
    assert_eq!(dirty, Dirty::All);
    state.apply(
        Change::Remove(Kind::Node, ObjectKey::new("", "z")),
        &mut dirty,
    );
    assert!(answer(&state, ip(7)).is_ok());
    state.set_members([(ip(7), "z".to_owned())].into(), &mut dirty);
    assert_eq!(answer(&state, ip(7)), refused);
    state.set_members(BTreeMap::new(), &mut dirty);
    for (subnet, free) in [
        ("172.17.255.7/32", true),
        ("172.17.255.6/31", true),
        ("172.17.255.4/30", false),
        ("172.17.255.0/24", true),
    ] {
        state.set_subnets([subnet.parse().unwrap()].into(), &mut dirty);
        assert_eq!(answer(&state, ip(7)).is_ok(), free, "{subnet}");
    }
    state.set_gateways(&[ip(7)].into(), &mut dirty);
    assert_eq!(answer(&state, ip(7)), refused);
}

/// What one of two nodes may announce while the pool is changed. `announces`: it is the one that announces the address.
fn moved(announces: bool, changes: &[(u64, Change)]) -> Vec<(u64, bool)> {
    let (links, open, patterns) = (links(), BTreeSet::from([2, 3]), Patterns::default());
    let mut probes = Probes::default();
    probes.settle(ip(1));
    let around = Surroundings {
        me: "a",
        programmed: None,
        links: &links,
        patterns: &patterns,
        probes: &probes,
        open: &open,
    };
    let mut state = State::new(None);
    let mut dirty = Dirty::default();
    for object in [
        Object::IpAddressPool(pool("p").into()),
        Object::L2Advertisement(advertisement("p").into()),
        Object::Service(service("web", 1, TrafficPolicy::Cluster).into()),
    ] {
        state.apply(Change::Upsert(object), &mut dirty);
    }
    let mut answers = BTreeMap::new();
    let mut leaving = Leaving::default();
    in_parts(&mut answers, &state, around, Dirty::All);
    let mut may = answers[&ip(1)].is_ok();
    assert!(may);
    let announced = match announces {
        true => [(ip(1), BTreeSet::from([2]))].into(),
        false => BTreeMap::new(),
    };
    let mut seen = Vec::new();
    for second in 0..30 {
        let now = Duration::from_secs(second);
        let mut dirty: Dirty = Dirty::default();
        dirty.add(leaving.due(now).collect::<Vec<_>>());
        for (at, change) in changes {
            if *at == second {
                state.apply(change.clone(), &mut dirty);
            }
        }
        let mut changed = in_parts(&mut answers, &state, around, dirty);
        leaving.forget(&state);
        leaving.keep(&mut changed, &mut answers, &state, &announced, now);
        let before = may;
        may |= changed.permitted.added.contains(&ip(1));
        may &= !changed.permitted.removed.contains(&ip(1));
        assert_eq!(
            answers.get(&ip(1)).is_some_and(Answer::is_ok),
            may,
            "{second}"
        );
        if may != before {
            seen.push((second, may));
        }
    }
    assert_eq!(leaving.next(), None);
    seen
}

#[test]
fn an_announced_address_outside_of_all_pools_stays_until_its_service_has_another_one() {
    let without = Change::Remove(Kind::IpAddressPool, ObjectKey::new("metallb-system", "p"));
    let other = |last| {
        Change::Upsert(Object::Service(
            service("web", last, TrafficPolicy::Cluster).into(),
        ))
    };
    let with = Change::Upsert(Object::IpAddressPool(pool("p").into()));
    let end = 3 + WHILE.as_secs();
    // The node that does not announce it may not take it over.
    assert_eq!(moved(false, &[(3, without.clone())]), [(3, false)]);
    assert_eq!(moved(true, &[(3, without.clone())]), [(end, false)]);
    assert_eq!(
        moved(true, &[(3, without.clone()), (5, other(9))]),
        [(5, false)]
    );
    assert_eq!(moved(true, &[(3, without.clone()), (5, with.clone())]), []);
    let again = [(3, without.clone()), (5, with), (8, without.clone())];
    assert_eq!(moved(true, &again), [(end + 5, false)]);
    // Whoever uses it now ends that at once.
    let node = Node {
        internal_ips: vec![ip(1)],
        ..node("a")
    };
    let taken = Change::Upsert(Object::Node(node.into()));
    assert_eq!(moved(true, &[(3, without), (5, taken)]), [(5, false)]);
}
