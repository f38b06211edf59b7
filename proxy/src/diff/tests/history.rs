//! For every history, the incremental way, a full pass from nothing, and a restart in the middle end in the same kernel state.

use std::collections::BTreeMap;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Change;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::ownership::neighbour::LinkAddress;
use ferrolb_api::view::{IngressAddress, Protocol, Service, ServiceType, TrafficPolicy};
use proptest::prelude::*;

use crate::kernel::memory::Memory;
use crate::kernel::rule::{Key, Value};
use crate::kernel::{Observed, VirtualServerId};
use crate::surroundings::{Listeners, Surroundings};
use crate::testing::{
    World, endpoint, ip, node, port, proxy_config, service, six, slice, upsert_service,
    upsert_slice,
};

#[derive(Debug, Clone)]
enum Step {
    Service(Box<Service>),
    NoService(usize),
    Slice(usize, Vec<(usize, u8)>, bool),
    NoSlice(usize, bool),
    Node(bool, u8),
    Proxy(bool, bool, bool),
    /// The node reads its surroundings and finds something else.
    Around(u8),
    Restart,
    Audit,
}

const NAMES: [&str; 4] = ["one", "two", "three", "four"];
const PODS: [&str; 7] = ["a1", "a2", "b1", "b2", "A", "B", "198.51.100.2"];
/// Addresses that several kinds of owners want.
const EXTERNALS: [&str; 6] = [
    "198.51.100.1",
    "A",
    "B",
    "198.51.100.2",
    "10.96.0.1",
    "198.51.100.3",
];

fn a_service() -> impl Strategy<Value = Service> {
    let policies = (any::<bool>(), any::<bool>(), any::<bool>());
    let externals = proptest::collection::vec(0..EXTERNALS.len(), 0..4);
    let addresses = (0..4_u8, externals, 0..4_u8);
    let age = (proptest::option::of(0..3_i64), 0..3_u8);
    (
        0..NAMES.len(),
        0..3_u8,
        addresses,
        1..8_u8,
        policies,
        0..3_u8,
        age,
    )
        .prop_map(
            |(
                name,
                kind,
                (cluster, externals, vip),
                ports,
                (etp, itp, affinity),
                ranges,
                (created, uid),
            )| {
                let mut s = service(NAMES[name]);
                (s.created, s.uid) = (created, uid.to_string());
                let local = |on| {
                    if on {
                        TrafficPolicy::Local
                    } else {
                        TrafficPolicy::Cluster
                    }
                };
                (s.external_policy, s.internal_policy) = (local(etp), local(itp));
                s.affinity_seconds = affinity.then_some(60);
                s.service_type = [
                    ServiceType::ClusterIP,
                    ServiceType::NodePort,
                    ServiceType::LoadBalancer,
                ][kind as usize];
                if cluster > 0 {
                    let addr = ip(&format!("10.96.0.{cluster}"));
                    s.cluster_ips = vec![addr, six(addr)];
                }
                s.external_ips = externals.into_iter().map(|i| ip(EXTERNALS[i])).collect();
                s.external_ips.sort();
                s.external_ips.dedup();
                if vip > 0 {
                    s.ingress = vec![IngressAddress {
                        ip: ip(&format!("198.51.100.{vip}")),
                        vip: true,
                    }];
                }
                let all = [
                    port(80, Protocol::Tcp),
                    port(53, Protocol::Udp),
                    port(53, Protocol::Tcp),
                ];
                s.ports = all
                    .into_iter()
                    .enumerate()
                    .filter(|(i, _)| ports & (1 << i) != 0)
                    .map(|(_, p)| p)
                    .collect();
                s.ports
                    .iter_mut()
                    .for_each(|p| p.node_port = Some(30000 + p.port));
                let nets = ["192.0.2.0/24", "192.0.2.128/25"];
                s.source_ranges = nets
                    .iter()
                    .take(ranges as usize)
                    .map(|n| n.parse().unwrap())
                    .collect();
                s
            },
        )
}

fn a_step() -> impl Strategy<Value = Step> {
    let who = 0..NAMES.len();
    let pods = proptest::collection::vec((0..PODS.len(), 0..3_u8), 0..5);
    prop_oneof![
        5 => a_service().prop_map(|s| Step::Service(Box::new(s))),
        2 => who.clone().prop_map(Step::NoService),
        6 => (who.clone(), pods, any::<bool>()).prop_map(|(w, p, v6)| Step::Slice(w, p, v6)),
        2 => (who, any::<bool>()).prop_map(|(w, v6)| Step::NoSlice(w, v6)),
        1 => (any::<bool>(), 0..4_u8).prop_map(|(own, how)| Step::Node(own, how)),
        1 => any::<(bool, bool, bool)>().prop_map(|(all, sh, cidr)| Step::Proxy(all, sh, cidr)),
        1 => (0..8_u8).prop_map(Step::Around),
        1 => Just(Step::Restart),
        1 => Just(Step::Audit),
    ]
}

/// Three things that may be around node A, in all combinations: a gateway, a host and a listener, each on an address that
/// Services name.
fn around(which: u8) -> Surroundings {
    let mut around = Surroundings::default();
    let mut listeners = Listeners::default();
    if which & 1 != 0 {
        around.gateways.insert(ip("198.51.100.3"));
    }
    if which & 2 != 0 {
        let link = LinkAddress(vec![2, 0, 0, 0, 0, 1]);
        around.neighbours.insert(ip("198.51.100.1"), link);
    }
    if which & 4 != 0 {
        listeners.add("0.0.0.0:80".parse().unwrap(), Protocol::Tcp, false);
    }
    around.listeners = Some(listeners);
    around
}

/// Ports of every slice. A slice may have more or fewer than the Service.
fn a_slice(who: usize, pods: &[(usize, u8)], v6: bool) -> Change {
    let mut owner = service(NAMES[who]);
    owner.ports = vec![
        port(80, Protocol::Tcp),
        port(53, Protocol::Udp),
        port(53, Protocol::Tcp),
    ];
    let endpoints = pods.iter().map(|(pod, how)| {
        let mut e = endpoint(PODS[*pod]);
        e.address = if v6 { six(e.address) } else { e.address };
        e.ready = *how == 0;
        e.serving = *how != 1;
        e.terminating = *how == 2;
        e
    });
    let mut slice = slice(&owner, endpoints.collect());
    slice.key = ObjectKey::new("default", format!("{}-{v6}", NAMES[who]));
    upsert_slice(slice)
}

fn changes(step: &Step) -> Vec<Change> {
    match step {
        Step::Service(s) => vec![upsert_service(s)],
        Step::NoService(who) => vec![Change::Remove(
            Kind::Service,
            ObjectKey::new("default", NAMES[*who]),
        )],
        Step::Slice(who, pods, v6) => vec![a_slice(*who, pods, *v6)],
        Step::NoSlice(who, v6) => {
            let name = format!("{}-{v6}", NAMES[*who]);
            vec![Change::Remove(
                Kind::EndpointSlice,
                ObjectKey::new("default", name),
            )]
        }
        Step::Node(own, how) => {
            let mut n = if *own { node("A", 0) } else { node("B", 1) };
            match how {
                0 => n.pod_cidrs.clear(),
                1 => n.internal_ips = vec![ip("198.51.100.1")],
                2 => n.pod_cidrs = vec!["198.51.100.0/30".parse().unwrap()],
                _ => {}
            }
            vec![Change::Upsert(Object::Node(n.into()))]
        }
        Step::Proxy(all, sh, cidr) => {
            let mut proxy = proxy_config();
            proxy.masquerade_all = *all;
            proxy.scheduler = if *sh { "sh" } else { "rr" }.parse().unwrap();
            proxy
                .cluster_cidrs
                .extend(cidr.then(|| "10.244.0.0/16".parse::<ipnet::IpNet>().unwrap()));
            vec![Change::Upsert(Object::ProxyConfig(Box::new(proxy)))]
        }
        Step::Around(_) | Step::Restart | Step::Audit => Vec::new(),
    }
}

/// What the kernel holds, without the real servers that it has only for old connections: they depend on the history.
fn settled(world: &World) -> Observed {
    let mut held = world.kernel.held.clone();
    for (id, (_, reals)) in &mut held.servers {
        if let Some(wanted) = world.desired.lowered().server(id) {
            reals.retain(|_, real| !wanted.stays(real));
        }
    }
    without_marks(&held)
}

/// Marks depend on the history, but their use does not. Each mark is renamed by its place among the keys that use it.
fn without_marks(held: &Observed) -> Observed {
    let mut names: BTreeMap<u32, u32> = BTreeMap::new();
    let marks = |e: &crate::kernel::Element| match e.value {
        Some(Value::Mark(mark)) => Some(mark),
        _ => None,
    };
    for mark in held.elements.values().flatten().filter_map(marks) {
        let next = names.len() as u32;
        names.entry(mark).or_insert(next);
    }
    let mut out = held.clone();
    for elements in out.elements.values_mut() {
        *elements = std::mem::take(elements)
            .into_iter()
            .map(|mut e| {
                e.value = marks(&e).map(|m| Value::Mark(names[&m])).or(e.value);
                e
            })
            .collect();
    }
    out.servers = held
        .servers
        .iter()
        .map(|(id, (server, reals))| {
            let mut server = server.clone();
            if let VirtualServerId::Fwmark { mark, family } = *id {
                let mark = *names
                    .get(&mark)
                    .expect("a server behind a mark that no key has");
                server.id = VirtualServerId::Fwmark { mark, family };
            }
            (server.id, (server, reals.clone()))
        })
        .collect();
    out
}

/// Every service key has a server and a masquerade class, and vice versa.
fn consistent(held: &Observed) {
    let keys = |prefix: &str| -> std::collections::BTreeSet<Vec<Key>> {
        let sets = held
            .elements
            .iter()
            .filter(|(name, _)| name.starts_with(prefix));
        sets.flat_map(|(_, e)| e.iter().map(|e| e.key.clone()))
            .collect()
    };
    let servers = held.servers.keys().filter_map(|id| match *id {
        VirtualServerId::Address {
            addr,
            port,
            protocol,
        } => Some(vec![Key::Addr(addr), Key::Proto(protocol), Key::Port(port)]),
        VirtualServerId::Fwmark { .. } => None,
    });
    let servers: std::collections::BTreeSet<_> = servers.collect();
    assert_eq!(
        keys("svc4")
            .union(&keys("svc6"))
            .cloned()
            .collect::<std::collections::BTreeSet<_>>(),
        servers
    );
    assert_eq!(keys("masq"), servers);
    let vips: std::collections::BTreeSet<_> =
        held.addresses.iter().map(|a| vec![Key::Addr(*a)]).collect();
    assert_eq!(keys("vip"), vips);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_way_ends_in_the_same_kernel(steps in proptest::collection::vec(a_step(), 1..40)) {
        let mut world = World::on("A");
        for step in &steps {
            match step {
                Step::Restart => prop_assert_eq!(world.restart(), []),
                Step::Audit => prop_assert_eq!(world.audit(), []),
                Step::Around(which) => {
                    world.kernel.around = Some(around(*which));
                    world.audit();
                }
                _ => { world.change(changes(step)); }
            }
            consistent(&world.kernel.held);
        }
        let mut fresh = World::on("A");
        fresh.state = world.state.clone();
        fresh.kernel = Memory::new(fresh.kernel.node.clone());
        fresh.kernel.prepare();
        // What the node found out about an address earlier stays in force.
        fresh.kernel.around = None;
        fresh.restart();
        prop_assert_eq!(settled(&world), settled(&fresh));
        prop_assert_eq!(world.restart(), []);
    }

    #[test]
    fn a_restart_after_changes_that_nobody_saw_ends_in_the_same_kernel(
        which in 0..8_u8,
        before in proptest::collection::vec(a_step(), 1..20),
        missed in proptest::collection::vec(a_step(), 1..20),
    ) {
        let mut world = World::on("A");
        // Except for hosts: an address stays the node's if it was free when a Service named it, or if the node already held it.
        world.kernel.around = Some(around(which & !2));
        before.iter().for_each(|step| { world.change(changes(step)); });
        let mut down = world.clone();
        for step in &missed {
            world.change(changes(step));
            changes(step).into_iter().for_each(|c| down.state.apply(c));
        }
        down.restart();
        prop_assert_eq!(settled(&world), settled(&down));
    }
}
