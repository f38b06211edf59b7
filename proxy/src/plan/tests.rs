#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bounds;
mod clashes;
mod hosts;
mod node_ports;
mod size;

use ferrolb_api::ObjectKey;
use ferrolb_api::problem::Problem;
use ferrolb_api::reason::Reason;

use crate::testing::World;

/// Why a Service is refused on each of its refused addresses and ports.
fn refusals(world: &World, name: &str) -> Vec<(String, Reason)> {
    let key = ObjectKey::new("default", name);
    let status = world.desired.status(&world.state, &key).unwrap();
    let servers = status.ports.into_iter().flat_map(|p| p.servers);
    servers
        .filter_map(|s| Some((s.addr.to_string(), s.refused?)))
        .filter(|(_, reason)| !matches!(reason, Reason::NoEndpoints | Reason::NoLocalEndpoint))
        .collect()
}

/// The problems of a Service.
fn problems(world: &World, name: &str) -> Vec<Problem> {
    let key = ObjectKey::new("default", name);
    world.desired.status(&world.state, &key).unwrap().problems
}
