//! On which addresses of a node its node ports are served.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ferrolb_api::change::Change;
use ferrolb_api::object::Object;
use ferrolb_api::proxy_config::{NodePortAddresses, ProxyConfig};
use ferrolb_api::view::{Service, ServiceType};

use crate::kernel::VirtualServerId;
use crate::testing::{World, balanced, ip, proxy_config, served, service, six};

const NUMBER: u16 = 30080;
/// Another address of the node, on another network.
const SECOND: &str = "203.0.113.11";

fn exposed() -> Service {
    let mut s = service("exposed");
    s.service_type = ServiceType::NodePort;
    s.ports[0].node_port = Some(NUMBER);
    s
}

fn world(addresses: &[&str]) -> World {
    let mut world = World::on("A");
    let interfaces = addresses.iter().map(|a| a.parse().unwrap());
    world.kernel.around.as_mut().unwrap().interfaces = interfaces.collect();
    world
}

/// Where the node port is served.
fn at(world: &World) -> BTreeSet<IpAddr> {
    let servers = world.kernel.held.servers.keys();
    let on_port = servers.filter_map(|id| match id {
        VirtualServerId::Address { addr, port, .. } if *port == NUMBER => Some(*addr),
        _ => None,
    });
    on_port.collect()
}

fn set(world: &mut World, addresses: NodePortAddresses) {
    let config = ProxyConfig {
        node_port_addresses: addresses,
        ..proxy_config()
    };
    world.change(vec![Change::Upsert(Object::ProxyConfig(Box::new(config)))]);
}

fn own() -> BTreeSet<IpAddr> {
    [ip("A"), six(ip("A"))].into()
}

#[test]
fn they_are_served_on_every_address_of_the_node_that_is_no_services() {
    let mut world = world(&[SECOND, "2001:db8:9::11", "fe80::11", "198.51.100.8"]);
    world.change(served(&balanced(service("web"), "198.51.100.8"), &["a1"]));
    world.change(served(&exposed(), &["a1"]));
    let more = [SECOND, "2001:db8:9::11"].map(|a| a.parse().unwrap());
    assert_eq!(at(&world), own().into_iter().chain(more).collect());
    assert!(
        !world
            .kernel
            .held
            .addresses
            .contains(&SECOND.parse().unwrap())
    );
}

#[test]
fn the_setting_limits_them_and_a_change_of_it_takes_effect() {
    let mut world = world(&[SECOND]);
    world.change(served(&exposed(), &["a1"]));
    let all: BTreeSet<IpAddr> = own().into_iter().chain([SECOND.parse().unwrap()]).collect();
    assert_eq!(at(&world), all);
    set(&mut world, NodePortAddresses::Primary);
    assert_eq!(at(&world), own());
    set(
        &mut world,
        NodePortAddresses::Ranges(vec!["203.0.113.0/24".parse().unwrap()]),
    );
    assert_eq!(at(&world), [SECOND.parse().unwrap()].into());
    set(&mut world, NodePortAddresses::All);
    assert_eq!(at(&world), all);
}

#[test]
fn an_address_that_comes_or_goes_is_followed_at_the_next_audit() {
    let mut world = world(&[]);
    world.change(served(&exposed(), &["a1"]));
    assert_eq!(at(&world), own());
    for (interfaces, expected) in [(vec![SECOND.parse().unwrap()], 3), (Vec::new(), 2)] {
        world.kernel.around.as_mut().unwrap().interfaces = interfaces.into_iter().collect();
        world.audit();
        assert_eq!(at(&world).len(), expected);
    }
}

#[test]
fn a_restart_changes_nothing_and_nothing_is_left_of_a_service_that_goes() {
    let mut world = world(&[SECOND]);
    world.change(served(&exposed(), &["a1"]));
    assert_eq!(world.restart(), []);
    let key = exposed().key;
    world.change(vec![Change::Remove(
        ferrolb_api::object::Kind::Service,
        key,
    )]);
    assert_eq!(at(&world), BTreeSet::new());
}
