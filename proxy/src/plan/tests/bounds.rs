//! Which external addresses a node takes: every owner with precedence, and what the setting allows.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Change;
use ferrolb_api::crd::IpAddressPool;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::ownership::neighbour::LinkAddress;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::{Endpoint, EndpointSlice, Protocol, Service, TrafficPolicy};

use super::{problems, refusals};
use crate::config::ExternalIps;
use crate::kernel::VirtualServerId;
use crate::state::State;
use crate::testing::{
    World, balanced, endpoint, ip, node, proxy_config, served, service, six, slice,
};
use crate::testing::{upsert_service, upsert_slice};

const ADDR: &str = "203.0.113.5";

fn tenant() -> Service {
    let mut s = service("tenant");
    s.external_ips = vec![ip(ADDR), six(ip(ADDR))];
    s
}

/// A world with another configuration.
fn world(set: impl FnOnce(&mut crate::config::Config)) -> World {
    let mut world = World::on("A");
    set(&mut world.config);
    world.state = State::new(&world.config);
    let nodes = [node("A", 0), node("B", 1)];
    world.change(
        nodes
            .map(|n| Change::Upsert(Object::Node(n.into())))
            .to_vec(),
    );
    world
}

fn at(name: &str, addr: IpAddr) -> EndpointSlice {
    let owner = service(name);
    let endpoint = Endpoint {
        address: addr,
        node: Some("B".to_owned()),
        ..endpoint("b1")
    };
    slice(&owner, vec![endpoint])
}

/// The changes that make each owner own the address in both families, and the words for it in the problem.
fn owners() -> Vec<(&'static str, Vec<Change>, &'static str)> {
    let both = [ip(ADDR), six(ip(ADDR))];
    let mut victim = service("victim");
    victim.ports[0].port = 443;
    let mut cluster_ip = victim.clone();
    cluster_ip.cluster_ips = both.to_vec();
    let mut vip = balanced(victim.clone(), ADDR);
    vip.ingress.push(ferrolb_api::view::IngressAddress {
        ip: both[1],
        vip: true,
    });
    let mut range = node("B", 1);
    range.pod_cidrs = vec![
        "203.0.113.0/24".parse().unwrap(),
        "fd00::cb:0:71:0/112".parse().unwrap(),
    ];
    let mut cluster = proxy_config();
    cluster.cluster_cidrs = range.pod_cidrs.clone();
    let pods = both.map(|a| upsert_slice(at("victim", a)));
    let api = both.map(|a| upsert_slice(at("kubernetes", a)));
    vec![
        (
            "ClusterIP",
            vec![upsert_service(&cluster_ip)],
            "Service default/victim as its ClusterIP",
        ),
        (
            "load balancer",
            vec![upsert_service(&vip)],
            "Service default/victim as its load-balancer address",
        ),
        ("pod", pods.to_vec(), "a pod"),
        (
            "pods of a node",
            vec![Change::Upsert(Object::Node(range.into()))],
            "the range of pods",
        ),
        (
            "pods of the cluster",
            vec![Change::Upsert(Object::ProxyConfig(Box::new(cluster)))],
            "the range of pods",
        ),
        ("API server", api.to_vec(), "the API server"),
    ]
}

fn is_refused(world: &World, case: &str, words: &str) {
    // The port of the tenant; the victim uses another one.
    let stolen = |id: &&VirtualServerId| match **id {
        VirtualServerId::Address { addr, port, .. } => {
            port == 80 && [ip(ADDR), six(ip(ADDR))].contains(&addr)
        }
        VirtualServerId::Fwmark { .. } => false,
    };
    let servers = world.kernel.held.servers.keys();
    assert_eq!(servers.filter(stolen).count(), 0, "{case}");
    if !words.contains("victim") {
        for addr in [ip(ADDR), six(ip(ADDR))] {
            let held = &world.kernel.held.addresses;
            assert!(!held.contains(&addr), "{case}: {addr} is local");
        }
    }
    let refused = refusals(world, "tenant");
    assert_eq!(refused.len(), 2, "{case}");
    assert!(
        refused.iter().all(|(_, r)| *r == Reason::AddressOwned),
        "{case}: {refused:?}"
    );
    let told = problems(world, "tenant");
    let fields: Vec<&str> = told.iter().map(|p| p.field.as_str()).collect();
    assert_eq!(
        fields,
        ["spec.externalIPs[0]", "spec.externalIPs[1]"],
        "{case}"
    );
    for problem in told {
        assert_eq!(problem.subject.to_string(), "Service default/tenant");
        assert!(problem.message().contains(words), "{case}: {problem}");
    }
}

#[test]
fn an_address_of_somebody_else_is_not_taken_whoever_comes_first() {
    for (case, owner, words) in owners() {
        let mut before = World::on("A");
        before.change(owner.clone());
        before.change(served(&tenant(), &["a1"]));
        is_refused(&before, case, words);

        // The owner appears later, so the address is given up.
        let mut after = World::on("A");
        after.change(served(&tenant(), &["a1"]));
        assert_eq!(refusals(&after, "tenant"), [], "{case}");
        assert!(after.kernel.held.addresses.contains(&ip(ADDR)), "{case}");
        after.change(owner);
        is_refused(&after, case, words);
    }
}

#[test]
fn an_address_is_taken_when_its_owner_is_gone() {
    let mut world = World::on("A");
    let (_, owner, _) = owners().remove(1);
    world.change(owner);
    world.change(served(&tenant(), &["a1"]));
    world.change(vec![Change::Remove(
        Kind::Service,
        ObjectKey::new("default", "victim"),
    )]);
    assert_eq!(refusals(&world, "tenant"), []);
    assert!(problems(&world, "tenant").is_empty());
    assert!(world.kernel.held.addresses.contains(&ip(ADDR)));
}

#[test]
fn configured_api_servers_and_the_range_of_cluster_ips_are_never_taken() {
    let both = [ip(ADDR), six(ip(ADDR))];
    let mut protected = world(|c| c.protected = both.map(|a| (a, 6443).into()).to_vec());
    protected.change(served(&tenant(), &["a1"]));
    is_refused(&protected, "protected", "the API server");
    let mut range = world(|c| c.service_cidrs = both.map(Into::into).to_vec());
    range.change(served(&tenant(), &["a1"]));
    is_refused(&range, "range", "the range of ClusterIPs");
}

#[test]
fn a_gateway_is_given_up_when_a_route_leads_through_it_and_taken_when_none_does() {
    let mut world = World::on("A");
    world.change(served(&tenant(), &["a1"]));
    assert_eq!(refusals(&world, "tenant"), []);
    let gateways = BTreeSet::from([ip(ADDR), six(ip(ADDR))]);
    world.kernel.around.as_mut().unwrap().gateways = gateways;
    world.audit();
    is_refused(&world, "gateway", "a gateway in the routes of the nodes");
    world.kernel.around.as_mut().unwrap().gateways.clear();
    world.audit();
    assert_eq!(refusals(&world, "tenant"), []);
}

/// A Service on the address of node A, ports 22 and 80.
fn on_node() -> Service {
    let mut s = service("tenant");
    s.external_ips = vec![ip("A"), six(ip("A"))];
    s.ports.push(crate::testing::port(22, Protocol::Tcp));
    s
}

fn listen(world: &mut World, addrs: &[&str]) {
    let around = world.kernel.around.as_mut().unwrap();
    let mut listeners = crate::surroundings::Listeners::default();
    for addr in addrs {
        listeners.add(addr.parse().unwrap(), Protocol::Tcp, false);
    }
    around.listeners = Some(listeners);
}

fn ports_on(world: &World, addr: &str) -> Vec<u16> {
    let ids = world.kernel.held.servers.keys();
    let ports = ids.filter_map(|id| match id {
        VirtualServerId::Address { addr: a, port, .. } if *a == ip(addr) => Some(*port),
        _ => None,
    });
    ports.collect()
}

#[test]
fn on_a_nodes_own_address_only_ports_without_a_listener_are_served_and_on_that_node_alone() {
    let [mut a, mut b] = ["A", "B"].map(World::on);
    for world in [&mut a, &mut b] {
        listen(world, &["[::]:22"]);
        world.change(served(&on_node(), &["a1"]));
        assert!(world.kernel.held.addresses.is_empty());
    }
    assert_eq!((ports_on(&a, "A"), ports_on(&b, "A")), (vec![80], vec![]));
    let refused = refusals(&a, "tenant");
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(
        refused
            .iter()
            .all(|(at, r)| at.ends_with(":22") && *r == Reason::HostListens)
    );
    let told = problems(&a, "tenant");
    assert_eq!(told[0].field, "spec.externalIPs[0]");
    assert!(
        told[0].message().contains("listens on port 22/TCP"),
        "{}",
        told[0]
    );
    // Node A is responsible for it.
    assert_eq!(
        (refusals(&b, "tenant"), problems(&b, "tenant")),
        (vec![], vec![])
    );

    // Audits notice sockets that start or stop listening.
    listen(&mut a, &["192.0.2.1:80"]);
    a.audit();
    assert_eq!(ports_on(&a, "A"), [22]);
    listen(&mut a, &[]);
    a.audit();
    assert_eq!(ports_on(&a, "A"), [22, 80]);
}

#[test]
fn a_listener_matters_to_external_addresses_alone() {
    let mut world = World::on("A");
    listen(&mut world, &["0.0.0.0:80"]);
    let mut s = balanced(tenant(), "198.51.100.8");
    s.cluster_ips = vec![ip("10.96.0.1")];
    world.change(served(&s, &["a1"]));
    assert_eq!(refusals(&world, "tenant"), []);
}

#[test]
fn without_knowledge_of_the_sockets_no_port_of_an_own_address_is_served() {
    let mut world = World::on("A");
    world.kernel.around.as_mut().unwrap().listeners = None;
    world.change(served(&on_node(), &["a1"]));
    assert!(ports_on(&world, "A").is_empty());
    let refused = refusals(&world, "tenant");
    assert!(refused.iter().all(|(_, r)| *r == Reason::AddressUnchecked) && refused.len() == 4);
}

#[test]
fn an_api_server_on_a_nodes_own_address_keeps_its_port() {
    let mut world = world(|c| c.protected = vec![(ip("A"), 22).into()]);
    world.change(served(&on_node(), &["a1"]));
    assert_eq!(ports_on(&world, "A"), [80]);
    assert_eq!(
        refusals(&world, "tenant"),
        [("192.0.2.1:22".to_owned(), Reason::AddressOwned)]
    );
}

#[test]
fn an_address_of_an_interface_that_no_node_object_names_is_served_and_stays_where_it_is() {
    let mut world = World::on("A");
    let interfaces = &mut world.kernel.around.as_mut().unwrap().interfaces;
    interfaces.insert(ip(ADDR));
    listen(&mut world, &["0.0.0.0:22"]);
    let mut s = on_node();
    s.external_ips = vec![ip(ADDR)];
    world.change(served(&s, &["a1"]));
    assert!(world.kernel.held.addresses.is_empty());
    assert_eq!(ports_on(&world, ADDR), [80]);
    // It moves to another node, so it is now an ordinary external address here.
    world.kernel.around.as_mut().unwrap().interfaces.clear();
    world.audit();
    assert!(world.kernel.held.addresses.contains(&ip(ADDR)));
    assert_eq!(ports_on(&world, ADDR), [22, 80]);
}

#[test]
fn the_setting_limits_external_addresses_to_pools_or_to_none() {
    let mut off = world(|c| c.external_ips = ExternalIps::Off);
    let mut s = tenant();
    s.external_ips = vec![ip(ADDR), ip("A")];
    s.cluster_ips = vec![ip("10.96.0.1")];
    s.external_policy = TrafficPolicy::Local;
    off.change(served(&s, &["a1"]));
    let refused = refusals(&off, "tenant");
    assert!(refused.iter().all(|(_, r)| *r == Reason::ExternalIpsOff) && refused.len() == 2);
    assert_eq!(off.kernel.held.servers.len(), 1);
    assert!(
        problems(&off, "tenant")[0]
            .message()
            .contains("--external-ips=off")
    );

    let mut pools = world(|c| c.external_ips = ExternalIps::Pools);
    pools.change(served(&s, &["a1"]));
    let refused = refusals(&pools, "tenant");
    assert!(refused.iter().all(|(_, r)| *r == Reason::OutsidePools) && refused.len() == 2);
    let pool = |range: &str| {
        Change::Upsert(Object::IpAddressPool(
            IpAddressPool {
                key: ObjectKey::new("metallb-system", "one"),
                ranges: vec![range.parse().unwrap()],
                ..IpAddressPool::default()
            }
            .into(),
        ))
    };
    pools.change(vec![pool("203.0.113.4-203.0.113.9")]);
    assert_eq!(
        refusals(&pools, "tenant"),
        [("192.0.2.1:80".to_owned(), Reason::OutsidePools)]
    );
    assert!(pools.kernel.held.addresses.contains(&ip(ADDR)));
    pools.change(vec![pool("203.0.113.6-203.0.113.9")]);
    assert_eq!(refusals(&pools, "tenant").len(), 2);
    pools.change(vec![pool("203.0.113.0/24")]);
    pools.change(vec![Change::Remove(
        Kind::IpAddressPool,
        ObjectKey::new("metallb-system", "one"),
    )]);
    assert_eq!(refusals(&pools, "tenant").len(), 2);
}

#[test]
fn a_pool_does_not_make_an_owned_address_free() {
    let mut world = world(|c| c.external_ips = ExternalIps::Pools);
    world.change(vec![Change::Upsert(Object::IpAddressPool(
        IpAddressPool {
            key: ObjectKey::new("metallb-system", "one"),
            ranges: vec!["203.0.113.0/24".parse().unwrap()],
            ..IpAddressPool::default()
        }
        .into(),
    ))]);
    let link = LinkAddress(vec![2, 0, 0, 0, 0, 9]);
    let neighbours = &mut world.kernel.around.as_mut().unwrap().neighbours;
    neighbours.insert(ip(ADDR), link);
    let mut s = tenant();
    s.external_ips.truncate(1);
    world.change(served(&s, &["a1"]));
    assert_eq!(refusals(&world, "tenant")[0].1, Reason::AddressOwned);
}
