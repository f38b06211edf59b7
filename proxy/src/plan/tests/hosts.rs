//! Hosts on the networks of a node: which are strangers, and that the decision does not flap.

use ferrolb_api::change::Change;
use ferrolb_api::object::Kind;
use ferrolb_api::ownership::neighbour::LinkAddress;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::Service;

use super::{problems, refusals};
use crate::testing::{World, ip, served, service, upsert_service};

const ADDR: &str = "192.0.2.77";

fn tenant() -> Service {
    let mut s = service("tenant");
    s.external_ips = vec![ip(ADDR)];
    s
}

/// Sets the neighbour table: names with the last byte of their link-layer address.
fn table(world: &mut World, entries: &[(&str, u8)]) {
    let around = world.kernel.around.as_mut().unwrap();
    let entry = |(addr, last): &(&str, u8)| (ip(addr), LinkAddress(vec![2, 0, 0, 0, 0, *last]));
    around.neighbours = entries.iter().map(entry).collect();
}

fn taken(world: &World) -> bool {
    world.kernel.held.addresses.contains(&ip(ADDR))
}

#[test]
fn the_address_of_a_host_that_is_seen_is_not_taken_and_stays_free_for_it() {
    let mut world = World::on("A");
    table(&mut world, &[("B", 1), (ADDR, 9)]);
    world.change(served(&tenant(), &["a1"]));
    assert!(!taken(&world));
    assert_eq!(
        refusals(&world, "tenant"),
        [(format!("{ADDR}:80"), Reason::AddressOwned)]
    );
    let [problem] = problems(&world, "tenant").try_into().unwrap();
    assert_eq!(problem.field, "spec.externalIPs[0]");
    assert!(problem.message().contains("02:00:00:00:00:09"), "{problem}");
    // The host restarts and finds its address free.
    table(&mut world, &[("B", 1)]);
    world.audit();
    world.change(served(&tenant(), &["a1", "a2"]));
    assert!(!taken(&world));
    // No Service names the address any more, then one does again.
    let mut without = tenant();
    without.external_ips.clear();
    world.change(vec![upsert_service(&without)]);
    world.change(vec![upsert_service(&tenant())]);
    assert!(taken(&world));
}

#[test]
fn an_address_that_was_taken_stays_whatever_the_neighbour_table_says_later() {
    let mut world = World::on("A");
    world.change(served(&tenant(), &["a1"]));
    assert!(taken(&world));
    table(&mut world, &[("B", 1), (ADDR, 9)]);
    assert_eq!(world.audit(), []);
    assert_eq!(world.restart(), []);
    assert!(taken(&world));
    // The next Service that names it finds the host.
    world.change(vec![Change::Remove(Kind::Service, tenant().key)]);
    world.change(vec![upsert_service(&tenant())]);
    assert!(!taken(&world));
}

#[test]
fn an_address_that_another_member_answers_for_is_no_strangers() {
    let mut world = World::on("A");
    table(&mut world, &[("B", 1), (ADDR, 1)]);
    world.change(served(&tenant(), &["a1"]));
    assert!(taken(&world));
    // The owner of a link-layer address may become known later.
    let mut world = World::on("A");
    table(&mut world, &[(ADDR, 1)]);
    world.change(served(&tenant(), &["a1"]));
    assert!(!taken(&world));
    table(&mut world, &[("B", 1), (ADDR, 1)]);
    world.audit();
    assert!(taken(&world));
}

#[test]
fn nothing_is_taken_before_the_neighbours_could_be_asked() {
    let mut world = World::on("A");
    let around = world.kernel.around.take();
    world.change(served(&tenant(), &["a1"]));
    assert!(!taken(&world));
    assert_eq!(
        refusals(&world, "tenant"),
        [(format!("{ADDR}:80"), Reason::AddressUnchecked)]
    );
    world.kernel.around = around;
    world.audit();
    assert!(taken(&world));
}
