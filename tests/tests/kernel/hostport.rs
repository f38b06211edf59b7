//! Traffic in the presence of a CNI's hostPort rules, which take a port of every local address. All service addresses are local,
//! and these rules must not affect them. The node's own addresses stay subject to the rules.

use std::net::SocketAddr;

use ferrolb_tests::need;
use ferrolb_tests::need::Need;

use crate::matrix::world::{PORT, World};
use crate::matrix::{cells, check, line, unused, world};

/// The table of a CNI's portmap plugin: port 80 of every local address goes to a2.
struct HostPort<'a>(&'a World);

impl<'a> HostPort<'a> {
    fn install(world: &'a World) -> Self {
        let a2 = world.place("a2");
        let rules = [
            ("ipv4", "ip", a2.address(false).to_string()),
            ("ipv6", "ip6", format!("[{}]", a2.address(true))),
        ]
        .into_iter()
        .flat_map(|(family, ip, to)| {
            ["tcp", "udp"].map(|protocol| {
                format!("meta nfproto {family} fib daddr type local {protocol} dport {PORT} dnat {ip} to {to}:8000\n")
            })
        })
        .collect::<String>();
        let ruleset = format!(
            "table inet hostport {{\n\
             chain prerouting {{ type nat hook prerouting priority dstnat; policy accept;\n{rules}}}\n\
             chain output {{ type nat hook output priority -100; policy accept;\n{rules}}}\n\
             }}\n"
        );
        for node in &world.nodes {
            node.netns().nft(&ruleset);
        }
        Self(world)
    }
}

impl Drop for HostPort<'_> {
    fn drop(&mut self) {
        for node in &self.0.nodes {
            node.netns().nft("delete table inet hostport\n");
        }
    }
}

#[test]
fn beside_a_hostport_rule_service_addresses_still_answer_from_their_own_endpoints() {
    need!(
        "beside_a_hostport_rule_service_addresses_still_answer_from_their_own_endpoints",
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb
    );
    let world = world();
    let _rules = HostPort::install(&world);
    let mut all = cells(&world, |_| true);
    all.extend(unused(&world));
    check(all);
}

#[test]
fn beside_a_hostport_rule_the_nodes_port_still_goes_to_the_hostport_pod() {
    need!(
        "beside_a_hostport_rule_the_nodes_port_still_goes_to_the_hostport_pod",
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb
    );
    let world = world();
    let _rules = HostPort::install(&world);
    let mut cells = Vec::new();
    for six in [false, true] {
        let to = SocketAddr::new(world.place("A").address(six), PORT);
        cells.extend(line(&world, "hostPort on A", to, true, &["a2K"; 6]));
    }
    // A CNI masquerades the way of a pod to itself; this table does not.
    cells.retain(|cell| cell.source.name != "a2");
    check(cells);
}
