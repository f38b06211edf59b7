//! Single rules about what a Service needs in the kernel.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Change;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::proxy_config::{DetectLocal, InterfaceName, ProxyConfig};
use ferrolb_api::reason::Reason;
use ferrolb_api::view::{Protocol, ServiceCidr, ServiceType, TrafficPolicy};

use crate::kernel::memory::{From, Outcome, Packet};
use crate::kernel::rule::Key;
use crate::kernel::table::set;
use crate::kernel::{Family, Op, VirtualServerId};
use crate::surroundings::Link;
use crate::testing::{
    World, balanced, endpoint, ip, node, port, served, service, six, slice, upsert_service,
    upsert_slice,
};

fn id(addr: &str, port: u16, protocol: Protocol) -> VirtualServerId {
    VirtualServerId::Address {
        addr: ip(addr),
        port,
        protocol,
    }
}

fn weights(world: &World, id: VirtualServerId) -> Vec<(SocketAddr, u32)> {
    let (_, reals) = &world.kernel.held.servers[&id];
    reals.values().map(|r| (r.addr, r.weight)).collect()
}

fn addr(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(host), port)
}

#[test]
fn headless_aliased_and_foreign_services_ask_for_nothing() {
    let mut world = World::on("A");
    let mut headless = service("headless");
    headless.headless = true;
    let mut alias = service("alias");
    alias.service_type = ServiceType::ExternalName;
    let mut foreign = service("foreign");
    foreign.foreign_proxy = true;
    for mut s in [headless, alias, foreign] {
        s.cluster_ips = vec![ip("10.96.0.1")];
        assert_eq!(world.change(served(&s, &["a1"])), []);
    }
}

#[test]
fn node_ports_are_served_in_the_families_of_the_service_alone() {
    let mut s = service("web");
    s.service_type = ServiceType::NodePort;
    s.ports[0].node_port = Some(30080);
    let four = (ip("10.96.0.1"), vec![ip("A")]);
    let six_ = (six(ip("10.96.0.1")), vec![six(ip("A"))]);
    for (cluster_ip, nodes) in [four, six_] {
        s.cluster_ips = vec![cluster_ip];
        let mut world = World::on("A");
        world.change(served(&s, &["a1"]));
        let ids = world.kernel.held.servers.keys();
        let on_nodes: Vec<_> = ids
            .filter_map(|id| match id {
                VirtualServerId::Address { addr, port, .. } if *port == 30080 => Some(*addr),
                _ => None,
            })
            .collect();
        assert_eq!(on_nodes, nodes);
    }
}

#[test]
fn a_tcp_endpoint_that_is_not_ready_keeps_its_connections_with_weight_0() {
    let mut world = World::on("A");
    let mut s = service("web");
    s.cluster_ips = vec![ip("10.96.0.1")];
    s.ports.push(port(53, Protocol::Udp));
    world.change(served(&s, &["a1", "b1"]));
    let live = world.packet(ip("client"), 4000, addr("10.96.0.1", 80), Protocol::Tcp);
    let Outcome::Delivered(to, source) = world.kernel.send(live) else {
        panic!("not delivered");
    };
    let mut unready: Vec<_> = ["a1", "b1"].map(endpoint).to_vec();
    for e in unready.iter_mut().filter(|e| e.address == to.ip()) {
        (e.ready, e.serving) = (false, false);
    }
    world.change(vec![upsert_slice(slice(&s, unready.clone()))]);
    assert_eq!(world.kernel.send(live), Outcome::Delivered(to, source));
    let tcp = weights(&world, id("10.96.0.1", 80, Protocol::Tcp));
    assert!(tcp.contains(&(to, 0)) && tcp.len() == 2, "{tcp:?}");
    assert_eq!(weights(&world, id("10.96.0.1", 53, Protocol::Udp)).len(), 1);

    unready.retain(|e| e.address != to.ip());
    world.change(vec![upsert_slice(slice(&s, unready))]);
    assert_eq!(world.kernel.send(live), Outcome::Expired);
}

#[test]
fn connections_to_endpoints_of_other_nodes_outlive_a_switch_to_policy_local() {
    let mut s = balanced(service("web"), "198.51.100.8");
    s.cluster_ips = vec![ip("10.96.0.1")];
    s.ports.push(port(53, Protocol::Udp));
    let mut local = s.clone();
    local.external_policy = TrafficPolicy::Local;
    local.internal_policy = TrafficPolicy::Local;
    let (here, far) = (addr("a1", 8080), addr("b1", 8080));
    for (from, vip) in [("client", "198.51.100.8"), ("a2", "10.96.0.1")] {
        let mut world = World::on("A");
        let key = id(vip, 80, Protocol::Tcp);
        world.change(served(&s, &["a1", "b1"]));
        let sent = (1..=2).map(|n| {
            let live = world.packet(ip(from), 4000 + n, addr(vip, 80), Protocol::Tcp);
            (live, world.kernel.send(live))
        });
        let (live, before) = sent
            .collect::<Vec<_>>()
            .into_iter()
            .find(|(_, seen)| matches!(seen, Outcome::Delivered(to, _) if *to == far))
            .unwrap();

        world.change(vec![upsert_service(&local)]);
        assert_eq!(world.kernel.send(live), before, "{vip}");
        assert_eq!(weights(&world, key), [(here, 1), (far, 0)]);
        assert_eq!(weights(&world, id(vip, 53, Protocol::Udp)).len(), 1);
        for _ in 0..3 {
            let new = world.send(ip(from), addr(vip, 80), Protocol::Tcp);
            assert!(
                matches!(new, Outcome::Delivered(to, _) if to == here),
                "{new:?}"
            );
        }
        let status = world.desired.status(&world.state, &s.key).unwrap();
        assert_eq!(status.ports[0].local_endpoints, 1);
        assert_eq!(world.audit(), []);
        assert_eq!(world.restart(), []);

        world.change(vec![upsert_service(&s)]);
        assert_eq!(weights(&world, key), [(here, 1), (far, 1)]);
        assert_eq!(world.kernel.send(live), before, "{vip}");
        world.change(vec![upsert_service(&local)]);
        world.change(served(&local, &["a1"]));
        assert_eq!(weights(&world, key), [(here, 1)]);
        assert_eq!(world.kernel.send(live), Outcome::Expired);
        world.change(served(&local, &["a1", "b1"]));
        assert_eq!(weights(&world, key), [(here, 1)], "never created");
    }
}

#[test]
fn of_two_services_of_unknown_age_on_one_key_the_lower_name_has_it_and_the_other_inherits_it() {
    let mut world = World::on("A");
    let web = balanced(service("web"), "198.51.100.8");
    let app = balanced(service("app"), "198.51.100.8");
    world.change(served(&web, &["a1"]));
    world.change(served(&app, &["a2"]));
    let key = id("198.51.100.8", 80, Protocol::Tcp);
    assert_eq!(weights(&world, key), [(addr("a2", 8080), 1)]);
    let status = world.desired.status(&world.state, &web.key).unwrap();
    let server = &status.ports[0].servers[0];
    assert_eq!(server.refused, Some(Reason::PortClash));
    assert_eq!(server.holder.as_deref(), Some("default/app"));
    assert_eq!(status.problems.len(), 1);
    assert_eq!(
        status.problems[0].subject.to_string(),
        "Service default/web"
    );
    assert_eq!(status.problems[0].field, "spec.ports[0].port");

    world.change(vec![Change::Remove(Kind::Service, app.key)]);
    assert_eq!(weights(&world, key), [(addr("a1", 8080), 1)]);
}

#[test]
fn services_that_share_an_address_keep_it_until_the_last_is_gone() {
    let mut world = World::on("A");
    let tcp = balanced(service("dns-tcp"), "198.51.100.8");
    let mut udp = balanced(service("dns-udp"), "198.51.100.8");
    udp.ports = vec![port(53, Protocol::Udp)];
    world.change([served(&tcp, &["a1"]), served(&udp, &["a1"])].concat());
    let dns = addr("198.51.100.8", 53);
    world.change(vec![Change::Remove(Kind::Service, tcp.key)]);
    assert!(world.kernel.held.addresses.contains(&ip("198.51.100.8")));
    assert!(matches!(
        world.send(ip("client"), dns, Protocol::Udp),
        Outcome::Delivered(..)
    ));
    assert_eq!(
        world.kernel.held.elements[set::hairpin(Family::V4)].len(),
        1
    );
    world.change(vec![Change::Remove(Kind::Service, udp.key)]);
    assert!(world.kernel.held.addresses.is_empty());
    assert!(world.kernel.held.elements[set::hairpin(Family::V4)].is_empty());
}

#[test]
fn an_external_address_of_a_node_is_served_by_that_node_alone_and_never_bound() {
    let mut s = service("web");
    s.external_ips = vec![ip("B"), ip("198.51.100.7")];
    let [mut a, mut b] = ["A", "B"].map(World::on);
    a.change(served(&s, &["a1"]));
    b.change(served(&s, &["a1"]));
    let only = BTreeSet::from([ip("198.51.100.7")]);
    assert_eq!(
        (&a.kernel.held.addresses, &b.kernel.held.addresses),
        (&only, &only)
    );
    let on_b = id("192.0.2.2", 80, Protocol::Tcp);
    assert!(!a.kernel.held.servers.contains_key(&on_b));
    assert!(b.kernel.held.servers.contains_key(&on_b));
    assert_eq!(
        b.send(ip("client"), addr("B", 22), Protocol::Tcp),
        Outcome::Host
    );

    // The node moves to another address, so the old one is now an ordinary external address.
    let mut moved = node("B", 1);
    moved.internal_ips = vec![ip("192.0.2.9")];
    a.change(vec![Change::Upsert(Object::Node(moved.into()))]);
    assert!(a.kernel.held.addresses.contains(&ip("B")));
}

#[test]
fn affinity_keeps_a_client_on_its_endpoint_on_both_servers_of_a_local_policy() {
    let mut world = World::on("A");
    let mut s = balanced(service("web"), "198.51.100.8");
    s.external_policy = TrafficPolicy::Local;
    s.affinity_seconds = Some(10800);
    world.change(served(&s, &["a1", "a2", "b1"]));
    let servers: Vec<_> = world.kernel.held.servers.values().map(|s| &s.0).collect();
    let [ordinary, marked] = servers.as_slice() else {
        panic!("{servers:?}");
    };
    assert_eq!(
        (ordinary.scheduler.as_str(), ordinary.persistence),
        ("rr", Some(10800))
    );
    assert_eq!(
        (
            marked.scheduler.as_str(),
            marked.sched_flags,
            marked.persistence
        ),
        ("sh", 8, None)
    );
    let to = addr("198.51.100.8", 80);
    let seen: BTreeSet<_> = (0..6)
        .map(|_| world.send(ip("client"), to, Protocol::Tcp))
        .collect();
    assert_eq!(seen.len(), 1);
}

#[test]
fn marks_survive_a_restart_and_are_not_reused_while_the_kernel_has_them() {
    let mut world = World::on("A");
    let local = |name: &str, vip: &str| {
        let mut s = balanced(service(name), vip);
        s.external_policy = TrafficPolicy::Local;
        s
    };
    let (one, two) = (local("one", "198.51.100.1"), local("two", "198.51.100.2"));
    world.change([served(&two, &["a1"]), served(&one, &["a1"])].concat());
    world.change(vec![Change::Remove(Kind::Service, one.key.clone())]);
    // `one` returns. Without adoption the lower name would now take the lower mark.
    world.change(served(&one, &["a1"]));
    assert_eq!(world.restart(), []);

    // In one batch, a port goes and another comes. The mark of the first is still in the kernel.
    let three = local("three", "198.51.100.3");
    let before: BTreeSet<_> = world.kernel.held.servers.keys().copied().collect();
    let ops = world.change(
        [
            vec![Change::Remove(Kind::Service, one.key)],
            served(&three, &["a1"]),
        ]
        .concat(),
    );
    let reused = |op: &Op| matches!(op, Op::SetVirtualServer(s) if matches!(s.id, VirtualServerId::Fwmark { .. }) && before.contains(&s.id));
    assert!(!ops.iter().any(reused), "{ops:?}");
}

#[test]
fn overlapping_ranges_become_one_element() {
    let mut world = World::on("A");
    let mut s = balanced(service("web"), "198.51.100.8");
    let nets = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.100/32", "fd00::/8"];
    s.source_ranges = nets.iter().map(|n| n.parse().unwrap()).collect();
    world.change(served(&s, &["a1"]));
    assert_eq!(
        world.kernel.held.elements[set::lballow(Family::V4)].len(),
        2
    );
    assert_eq!(
        world.kernel.held.elements[set::lballow(Family::V6)].len(),
        0
    );
    let to = addr("198.51.100.8", 80);
    assert!(matches!(
        world.send(ip("client"), to, Protocol::Tcp),
        Outcome::Delivered(..)
    ));
    assert_eq!(world.send(ip("other"), to, Protocol::Tcp), Outcome::Dropped);
    // Narrower ranges replace the ones they overlap.
    s.source_ranges = vec!["10.0.0.0/9".parse().unwrap()];
    world.change(vec![upsert_service(&s)]);
    assert_eq!(
        world.send(ip("client"), to, Protocol::Tcp),
        Outcome::Dropped
    );
}

#[test]
fn slices_that_come_before_or_after_their_service_end_in_the_same_state() {
    let mut s = service("web");
    s.cluster_ips = vec![ip("10.96.0.1")];
    let [mut one, mut two] = ["A", "A"].map(World::on);
    for change in served(&s, &["a1", "b1"]) {
        one.change(vec![change]);
    }
    for change in served(&s, &["a1", "b1"]).into_iter().rev() {
        two.change(vec![change]);
    }
    assert_eq!(one.kernel.held, two.kernel.held);
    one.change(vec![Change::Remove(
        Kind::EndpointSlice,
        ObjectKey::new("default", "web-v4"),
    )]);
    let key = id("10.96.0.1", 80, Protocol::Tcp);
    assert!(
        one.kernel.held.servers.contains_key(&key),
        "an empty server stays"
    );
    assert_eq!(
        one.send(ip("client"), addr("10.96.0.1", 80), Protocol::Tcp),
        Outcome::Reset
    );
}

#[test]
fn the_ranges_of_the_api_server_refuse_unused_cluster_ips_and_external_addresses() {
    let mut world = World::on("A");
    let range = |nets: &[&str]| {
        let cidrs = nets.iter().map(|net| net.parse().unwrap()).collect();
        let name = "kubernetes".to_owned();
        Change::Upsert(Object::ServiceCidr(ServiceCidr { name, cidrs }.into()))
    };
    let mut web = service("web");
    web.external_ips = vec![ip("10.80.0.7")];
    world.change(served(&web, &["a1"]));
    let unused = addr("10.80.0.99", 80);
    let external = addr("10.80.0.7", 80);
    let delivered = |world: &mut World| {
        let outcome = world.send(ip("client"), external, Protocol::Tcp);
        matches!(outcome, Outcome::Delivered(..))
    };
    assert!(delivered(&mut world));
    world.change(vec![range(&["10.80.0.0/16"])]);
    assert_eq!(world.send(ip("a1"), unused, Protocol::Tcp), Outcome::Reset);
    assert!(!delivered(&mut world));
    world.change(vec![range(&["10.81.0.0/16"])]);
    assert!(delivered(&mut world));
}

#[test]
fn a_scheduler_and_weights_of_a_service_apply_to_it_alone_and_are_changed_in_place() {
    let mut world = World::on("A");
    world.change(served(&balanced(service("other"), "198.51.100.9"), &["b1"]));
    let mut web = balanced(service("web"), "198.51.100.8");
    web.external_policy = TrafficPolicy::Local;
    web.cluster_ips = vec![ip("10.96.0.1")];
    world.change(served(&web, &["a1", "b1"]));
    let held = |world: &World| -> BTreeSet<(String, u32)> {
        let other = |id: &VirtualServerId| matches!(id, VirtualServerId::Address { addr, .. } if *addr == ip("198.51.100.9"));
        let servers = world.kernel.held.servers.iter();
        let servers = servers.filter(|(id, _)| !other(id));
        servers
            .map(|(_, (s, _))| (s.scheduler.clone(), s.sched_flags))
            .collect()
    };
    for (text, name, flags) in [
        ("wlc", "wlc", 0),
        ("sh", "sh", 0x8),
        ("mh,mh-port", "mh", 0x18),
    ] {
        web.annotations.scheduler = Some(text.parse());
        let ops = world.change(vec![upsert_service(&web)]);
        assert!(
            !ops.is_empty() && ops.iter().all(|op| matches!(op, Op::SetVirtualServer(_))),
            "{ops:?}"
        );
        let expected = BTreeSet::from([(name.to_owned(), flags)]);
        assert_eq!(held(&world), expected, "{text}");
    }
    let (other, _) = &world.kernel.held.servers[&id("198.51.100.9", 80, Protocol::Tcp)];
    assert_eq!((other.scheduler.as_str(), other.sched_flags), ("rr", 0));
    // What cannot be read leaves the usual one.
    web.annotations.scheduler = Some("wlcc".parse());
    world.change(vec![upsert_service(&web)]);
    assert_eq!(held(&world), BTreeSet::from([("rr".to_owned(), 0)]));
    let mut canary = slice(&web, vec![endpoint("b2")]);
    canary.key = ObjectKey::new("default", "canary");
    canary.endpoints[0].weight = 5.try_into().ok();
    let ops = world.change(vec![upsert_slice(canary)]);
    assert!(
        ops.iter().all(|op| matches!(op, Op::SetRealServer(..))),
        "{ops:?}"
    );
    assert_eq!(
        weights(&world, id("10.96.0.1", 80, Protocol::Tcp)),
        [
            (addr("a1", 8080), 1),
            (addr("b1", 8080), 1),
            (addr("b2", 8080), 5)
        ]
    );
}

#[test]
fn pods_are_recognised_in_each_way_that_kube_proxy_knows() {
    use crate::kernel::memory::Source::{Kept, Masqueraded};
    let name = |n: &str| InterfaceName::new(n).unwrap();
    let wire = From::Wire;
    let by = |n: &str| From::Interface(name(n));
    let (bridge, veth) = (
        DetectLocal::BridgeInterface(name("cni0")),
        DetectLocal::InterfaceNamePrefix(name("veth")),
    );
    // Pod a1 of this node, pod b2 of the other, and a client outside, each by an interface; the cluster's range is 10.244.0.0/16.
    for (detect, src, from, masqueraded, inside) in [
        (DetectLocal::ClusterCidr, "a1", wire, false, true),
        (DetectLocal::ClusterCidr, "b2", wire, false, true),
        (DetectLocal::ClusterCidr, "client", by("cni0"), true, false),
        (DetectLocal::NodeCidr, "a1", wire, false, true),
        (DetectLocal::NodeCidr, "b2", wire, true, false),
        (DetectLocal::NodeCidr, "client", wire, true, false),
        (bridge.clone(), "a1", by("cni0"), false, true),
        (bridge.clone(), "client", by("cni0"), false, true),
        (bridge.clone(), "a1", by("cni01"), true, false),
        (bridge.clone(), "a1", wire, true, false),
        (bridge, "A", From::Node, true, true),
        (veth.clone(), "a1", by("veth"), false, true),
        (veth.clone(), "a1", by("veth1a2b"), false, true),
        (veth.clone(), "a1", by("vet"), true, false),
        (veth, "b2", by("eth0"), true, false),
    ] {
        let mut world = World::on("A");
        let proxy = ProxyConfig {
            cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            detect_local: detect.clone(),
            ..world.state.proxy().clone()
        };
        world.change(vec![Change::Upsert(Object::ProxyConfig(Box::new(proxy)))]);
        let mut s = balanced(service("web"), "192.0.2.50");
        s.cluster_ips = vec![ip("10.96.0.1")];
        s.external_policy = TrafficPolicy::Local;
        world.change(served(&s, &["b1"]));
        let mut ask = |to: &str, port| {
            let packet = world.packet(ip(src), port, addr(to, 80), Protocol::Tcp);
            world.kernel.send(Packet { from, ..packet })
        };
        let b1 = addr("b1", 8080);
        let kept = if masqueraded { Masqueraded } else { Kept };
        assert_eq!(
            ask("10.96.0.1", 2000),
            Outcome::Delivered(b1, kept),
            "{detect}: {src} from {from:?} to the ClusterIP"
        );
        let expected = match (inside, src) {
            (true, "A") => Outcome::Delivered(b1, Masqueraded),
            (true, _) => Outcome::Delivered(b1, Kept),
            (false, _) => Outcome::Dropped,
        };
        assert_eq!(
            ask("192.0.2.50", 2001),
            expected,
            "{detect}: {src} from {from:?} to the load balancer"
        );
    }
}

#[test]
fn a_pod_of_another_node_is_an_outsider_by_the_interface_at_which_it_comes_in() {
    let name = |n: &str| InterfaceName::new(n).unwrap();
    let link = |tunnel, addresses: &[&str]| Link {
        tunnel,
        addresses: addresses.iter().map(|a| ip(a)).collect(),
    };
    let mut world = World::on("A");
    let proxy = ProxyConfig {
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        ..world.state.proxy().clone()
    };
    world.change(vec![Change::Upsert(Object::ProxyConfig(Box::new(proxy)))]);
    let around = world.kernel.around.as_mut().unwrap();
    around.links = [
        (name("eth0"), link(false, &["A"])),
        (name("flannel.1"), link(true, &["10.244.0.0"])),
        (name("cni0"), link(false, &["10.244.0.1"])),
        // A network that pods and the node share tells nothing.
        (name("br0"), link(false, &["A", "10.244.0.2"])),
    ]
    .into();
    let mut s = service("web");
    s.service_type = ServiceType::NodePort;
    s.ports[0].node_port = Some(30080);
    s.cluster_ips = vec![ip("10.96.0.1")];
    s.external_policy = TrafficPolicy::Local;
    world.change(served(&s, &["b2"]));
    let mut port = 2000;
    let mut ask = |world: &mut World, src: &str, at: &str| {
        port += 1;
        let packet = world.packet(ip(src), port, addr("A", 30080), Protocol::Tcp);
        let from = From::Interface(name(at));
        matches!(
            world.kernel.send(Packet { from, ..packet }),
            Outcome::Delivered(..)
        )
    };
    for (src, at, served) in [
        ("a1", "cni0", true),
        ("a1", "br0", true),
        ("b1", "eth0", false),
        ("b1", "flannel.1", false),
        ("client", "eth0", false),
    ] {
        assert_eq!(ask(&mut world, src, at), served, "{src} at {at}");
    }
    // The address moves to another interface.
    let around = world.kernel.around.as_mut().unwrap();
    around.links.insert(name("eth0"), Link::default());
    around.links.insert(name("eth1"), link(false, &["A"]));
    world.audit();
    assert!(ask(&mut world, "b1", "eth0"));
    assert!(!ask(&mut world, "b1", "eth1"));
    assert_eq!(world.audit(), []);
}

#[test]
fn a_change_of_the_way_to_recognise_pods_replaces_the_interfaces() {
    let mut world = World::on("A");
    let name = |n: &str| InterfaceName::new(n).unwrap();
    for (detect_local, expected) in [
        (
            DetectLocal::BridgeInterface(name("cni0")),
            Some(Key::Interface(name("cni0"))),
        ),
        (
            DetectLocal::InterfaceNamePrefix(name("cni")),
            Some(Key::Interfaces(name("cni"))),
        ),
        (
            DetectLocal::InterfaceNamePrefix(name("c")),
            Some(Key::Interfaces(name("c"))),
        ),
        (DetectLocal::ClusterCidr, None),
    ] {
        let proxy = ProxyConfig {
            detect_local,
            ..world.state.proxy().clone()
        };
        world.change(vec![Change::Upsert(Object::ProxyConfig(Box::new(proxy)))]);
        let held = world.held.elements[set::PODIF].iter();
        let held: Vec<Key> = held.flat_map(|e| e.key.clone()).collect();
        assert_eq!(held, Vec::from_iter(expected));
    }
}
