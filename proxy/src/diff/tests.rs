#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod history;
mod order;

use std::net::SocketAddr;

use ferrolb_api::change::Change;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::view::Protocol;

use crate::kernel::Op;
use crate::kernel::memory::Outcome;
use crate::lower::ipvs;
use crate::plan::Way;
use crate::testing::{World, balanced, ip, proxy_config, served, service, upsert_service};

fn world() -> World {
    let mut world = World::on("A");
    world.change(served(
        &balanced(service("web"), "198.51.100.8"),
        &["a1", "b1"],
    ));
    world
}

fn place(world: &mut World, addr: &str, port: u16) {
    let server = ipvs::ordinary((ip(addr), port, Protocol::Tcp), "lc".parse().unwrap(), None);
    let real = ipvs::real(SocketAddr::new(ip("b2"), 9), 7, Way::Translate);
    let ops = [
        Op::SetVirtualServer(server.clone()),
        Op::SetRealServer(server.id, real),
    ];
    assert!(world.kernel.apply(&ops).is_empty());
}

#[test]
fn nothing_changes_where_nothing_differs() {
    let mut world = world();
    assert_eq!(world.audit(), []);
    assert_eq!(world.restart(), []);
    let same = served(&balanced(service("web"), "198.51.100.8"), &["a1", "b1"]);
    assert_eq!(world.change(same), []);
}

#[test]
fn one_endpoint_more_is_one_real_server_more() {
    let mut world = world();
    let more = served(
        &balanced(service("web"), "198.51.100.8"),
        &["a1", "b1", "b2"],
    );
    let ops = world.change(more);
    assert!(matches!(ops.as_slice(), [Op::SetRealServer(..)]), "{ops:?}");
}

#[test]
fn servers_of_others_stay() {
    let mut world = world();
    place(&mut world, "203.0.113.5", 80);
    place(&mut world, "A", 8443);
    let mark = ipvs::marked(7, crate::kernel::Family::V4, "rr".parse().unwrap(), false);
    assert!(world.kernel.apply(&[Op::SetVirtualServer(mark)]).is_empty());
    assert_eq!(world.audit(), []);
    assert_eq!(world.restart(), []);
}

#[test]
fn what_another_proxy_left_on_service_addresses_and_node_ports_is_taken_over() {
    let mut world = world();
    place(&mut world, "198.51.100.8", 81);
    place(&mut world, "198.51.100.8", 80);
    place(&mut world, "A", 30123);
    assert!(
        world
            .kernel
            .apply(&[Op::AddAddress(ip("198.51.100.9"))])
            .is_empty()
    );
    let before = World::clone(&self::world()).kernel.held;
    world.restart();
    assert_eq!(world.kernel.held, before);
}

#[test]
fn excluded_ranges_are_left_alone() {
    let mut world = world();
    let mut proxy = proxy_config();
    proxy.exclude_cidrs = vec!["203.0.113.0/24".parse().unwrap()];
    world.change(vec![Change::Upsert(Object::ProxyConfig(Box::new(proxy)))]);
    assert!(
        world
            .kernel
            .apply(&[Op::AddAddress(ip("203.0.113.5"))])
            .is_empty()
    );
    place(&mut world, "203.0.113.5", 80);
    assert_eq!(world.restart(), []);
    // What ferrolb itself programmed in there is removed with its Service.
    let own = balanced(service("own"), "203.0.113.6");
    world.change(served(&own, &["a1"]));
    world.state.apply(Change::Remove(Kind::Service, own.key));
    let ops = world.restart();
    assert!(ops.contains(&Op::DelAddress(ip("203.0.113.6"))), "{ops:?}");
    assert!(world.kernel.held.addresses.contains(&ip("203.0.113.5")));
}

#[test]
fn an_audit_repairs_what_others_flushed() {
    let mut world = world();
    let good = world.kernel.held.clone();
    world.kernel.flush_servers();
    let to = SocketAddr::new(ip("198.51.100.8"), 80);
    assert_eq!(world.send(ip("client"), to, Protocol::Tcp), Outcome::Reset);
    world.audit();
    world.kernel.flush_table();
    world.audit();
    assert_eq!(world.kernel.held, good);
}

#[test]
fn a_changed_scheduler_is_edited_in_place() {
    let mut world = world();
    let mut proxy = proxy_config();
    proxy.scheduler = "mh".parse().unwrap();
    let ops = world.change(vec![Change::Upsert(Object::ProxyConfig(Box::new(proxy)))]);
    let [Op::SetVirtualServer(server)] = ops.as_slice() else {
        panic!("{ops:?}");
    };
    assert_eq!((server.scheduler.as_str(), server.sched_flags), ("mh", 8));
}

#[test]
fn a_service_that_loses_its_address_leaves_nothing() {
    let mut world = world();
    let empty = World::on("A").kernel.held;
    world.change(vec![upsert_service(&service("web"))]);
    assert_eq!(world.kernel.held, empty);
}
