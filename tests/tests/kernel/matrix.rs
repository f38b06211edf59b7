//! The traffic matrix: policies, kinds of addresses, endpoints and sources. It tests packet by packet on the real kernel, over
//! TCP and UDP, IPv4 and IPv6. All tests share one world and leave it unchanged.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use ferrolb_tests::need::Need;
use ferrolb_tests::{client, need};

#[path = "matrix/drive.rs"]
pub(crate) mod drive;
#[path = "matrix/objects.rs"]
pub(crate) mod objects;
#[path = "matrix/probe.rs"]
pub(crate) mod probe;
#[path = "matrix/table.rs"]
pub(crate) mod table;
#[path = "matrix/world.rs"]
pub(crate) mod world;

use drive::{Cell, differences};
use probe::Transport;
use table::{CASES, Case, Dest};
use world::{HOST_PORTS, NODE_PORT, PORT, World, unallocated};

const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Udp];

/// The world. It ends with the test program: its processes die with the program, and its namespaces die with them.
pub(crate) fn world() -> MutexGuard<'static, World> {
    static SHARED: OnceLock<Mutex<World>> = OnceLock::new();
    // A failed test leaves the world unchanged.
    SHARED
        .get_or_init(|| Mutex::new(World::new()))
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Panics with a list of all cells that differ.
#[track_caller]
pub(crate) fn check(cells: Vec<Cell>) {
    let count = cells.len();
    let start = std::time::Instant::now();
    let lines = differences(cells);
    println!("{count} cells in {} ms", start.elapsed().as_millis());
    assert!(
        lines.is_empty(),
        "{} of {count} cells differ:\n{}",
        lines.len(),
        lines.join("\n")
    );
}

/// The cells of the cases that `which` selects, in both families and over both transports.
pub(crate) fn cells(world: &World, which: impl Fn(&Case) -> bool) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (index, case) in CASES.iter().enumerate().filter(|(_, case)| which(case)) {
        for (dests, row) in case.rows {
            for &dest in *dests {
                for six in [false, true] {
                    let to = world.address(index, dest, six);
                    let what = format!("{}: {dest:?}", case.name);
                    cells.extend(line(world, &what, to, dest == Dest::NodePort, row));
                }
            }
        }
    }
    cells
}

/// A cell for each source and transport. `at_a`: the request goes to A itself, so A handles it, whatever its source.
pub(crate) fn line(
    world: &World,
    what: &str,
    to: SocketAddr,
    at_a: bool,
    row: &[&'static str; 6],
) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (source, &expected) in world.places.iter().zip(row) {
        for transport in TRANSPORTS {
            let handler = if at_a { 0 } else { source.handler };
            cells.push(Cell::new(
                world,
                what.to_owned(),
                source,
                handler,
                (transport, to),
                expected,
            ));
        }
    }
    cells
}

/// Ports of service addresses that no Service has, and a ClusterIP that no Service has. The nodes' own servers listen on some of
/// these ports.
pub(crate) fn unused(world: &World) -> Vec<Cell> {
    let ports = HOST_PORTS.into_iter().filter(|port| *port != PORT);
    let ports: Vec<u16> = ports.chain([81, NODE_PORT]).collect();
    let mut cells = Vec::new();
    for six in [false, true] {
        for dest in [Dest::ClusterIp, Dest::External, Dest::LoadBalancer] {
            let address = world.address(0, dest, six).ip();
            for &port in &ports {
                let to = SocketAddr::new(address, port);
                let what = format!("{dest:?}, unused port");
                cells.extend(line(world, &what, to, false, &["R"; 6]));
            }
        }
        let to = SocketAddr::new(unallocated(six), PORT);
        cells.extend(line(world, "unallocated ClusterIP", to, false, &["R"; 6]));
    }
    cells
}

fn on_the_world(test: &str, body: impl Fn(&World)) {
    need!(
        test,
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb,
        Need::Tool("ping")
    );
    body(&world());
}

#[test]
fn under_cluster_policies_every_endpoint_answers_everybody() {
    on_the_world(
        "under_cluster_policies_every_endpoint_answers_everybody",
        |world| {
            check(cells(world, |case| {
                !case.external_local && !case.internal_local && !case.ranges
            }));
        },
    );
}

#[test]
fn under_external_policy_local_clients_keep_their_address_and_see_local_endpoints() {
    on_the_world(
        "under_external_policy_local_clients_keep_their_address_and_see_local_endpoints",
        |world| check(cells(world, |case| case.external_local)),
    );
}

#[test]
fn under_internal_policy_local_the_cluster_ip_stays_on_the_node() {
    on_the_world(
        "under_internal_policy_local_the_cluster_ip_stays_on_the_node",
        |world| check(cells(world, |case| case.internal_local)),
    );
}

#[test]
fn source_ranges_limit_the_load_balancer_address_alone() {
    on_the_world(
        "source_ranges_limit_the_load_balancer_address_alone",
        |world| check(cells(world, |case| case.ranges)),
    );
}

#[test]
fn unused_ports_and_host_sockets_behind_a_service_address_are_refused() {
    on_the_world(
        "unused_ports_and_host_sockets_behind_a_service_address_are_refused",
        |world| check(unused(world)),
    );
}

#[test]
fn the_nodes_own_sockets_stay_reachable_on_its_own_address() {
    on_the_world(
        "the_nodes_own_sockets_stay_reachable_on_its_own_address",
        |world| {
            let mut cells = Vec::new();
            for six in [false, true] {
                for port in HOST_PORTS {
                    let to = SocketAddr::new(world.place("A").address(six), port);
                    cells.extend(line(world, "A itself", to, true, &["AK"; 6]));
                }
            }
            check(cells);
        },
    );
}

#[test]
fn a_service_address_answers_ping_and_an_unallocated_one_does_not() {
    on_the_world(
        "a_service_address_answers_ping_and_an_unallocated_one_does_not",
        |world| {
            let mut wanted: Vec<(IpAddr, bool)> = Vec::new();
            for six in [false, true] {
                for dest in [Dest::ClusterIp, Dest::External, Dest::LoadBalancer] {
                    wanted.push((world.address(0, dest, six).ip(), true));
                }
                wanted.push((unallocated(six), false));
            }
            let threads: Vec<_> = world
                .places
                .iter()
                .map(|place| {
                    let (place, wanted) = (place.clone(), wanted.clone());
                    std::thread::spawn(move || {
                        let wrong = wanted
                            .into_iter()
                            .filter(|&(to, answers)| client::ping(&place.netns, to) != answers);
                        wrong
                            .map(|(to, answers)| {
                                format!("{} from {}: expected {answers}", to, place.name)
                            })
                            .collect::<Vec<String>>()
                    })
                })
                .collect();
            let wrong: Vec<String> = threads
                .into_iter()
                .flat_map(|thread| thread.join().expect("ping does not panic"))
                .collect();
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        },
    );
}
