//! Elements of the nftables sets and maps, as values: how a key, a class or a range is written.

use std::net::IpAddr;

use ferrolb_api::view::Protocol;
use ipnet::IpNet;

use crate::kernel::rule::{Key, Value, Verdict};
use crate::kernel::table::set;
use crate::kernel::{Element, Family};
use crate::state::State;

/// An element and the name of its set.
pub type Item = (&'static str, Element);

/// Address, port and protocol that a virtual server stands on.
pub type ServerKey = (IpAddr, u16, Protocol);

fn server_key((addr, port, protocol): ServerKey) -> Vec<Key> {
    vec![Key::Addr(addr), Key::Proto(protocol), Key::Port(port)]
}

fn item(set: &'static str, key: Vec<Key>, value: Option<Value>) -> Item {
    (set, Element { key, value })
}

/// The address counts as a service address.
pub fn vip(addr: IpAddr) -> Item {
    item(set::vip(Family::of(addr)), vec![Key::Addr(addr)], None)
}

/// Class of a virtual server.
pub fn class(key: ServerKey, verdict: Verdict) -> Item {
    let set = set::svc(Family::of(key.0));
    item(set, server_key(key), Some(Value::Verdict(verdict)))
}

/// Masquerade class of a virtual server.
pub fn masquerade(key: ServerKey, chain: &'static str) -> Item {
    let verdict = Value::Verdict(Verdict::Goto(chain));
    item(set::masq(Family::of(key.0)), server_key(key), Some(verdict))
}

/// Firewall mark of a virtual server under a Local policy.
pub fn mark(key: ServerKey, mark: u32) -> Item {
    let set = set::mark(Family::of(key.0));
    item(set, server_key(key), Some(Value::Mark(mark)))
}

/// An endpoint of this node may be its own client.
pub fn hairpin(addr: IpAddr) -> Item {
    let set = set::hairpin(Family::of(addr));
    item(set, vec![Key::Addr(addr), Key::Addr(addr)], None)
}

/// Limits a load-balancer server to ranges of sources. Ranges of the other family say nothing about it; none of its own
/// means no limit, as kube-proxy reads it.
pub fn source_ranges(key: ServerKey, ranges: &[IpNet]) -> Vec<Item> {
    let family = Family::of(key.0);
    let ranges = merged(ranges.iter().copied(), family);
    if ranges.is_empty() {
        return Vec::new();
    }
    let limited = item(set::lbsrc(family), server_key(key), None);
    let allowed = ranges.iter().map(|net| {
        let mut parts = server_key(key);
        parts.push(Key::net(net));
        item(set::lballow(family), parts, None)
    });
    std::iter::once(limited).chain(allowed).collect()
}

/// The elements that belong to no Service: ranges of ClusterIPs and of pods.
///
/// Cluster ranges say which sources are pods, as in kube-proxy's detector of that name. Without them the pod ranges of the
/// Nodes do: those of this node are its own pods, those of all the cluster. Without those too nothing is known about pods:
/// nobody is masqueraded to ClusterIPs then (kube-proxy's no-op detector), and nobody counts as a pod.
pub fn globals(state: &State, service_cidrs: &[IpNet], bridged_pods: bool) -> Vec<Item> {
    let mut items = Vec::new();
    for family in Family::ALL {
        let ranges = |name, nets: &[IpNet]| {
            let one = |net| item(name, vec![Key::net(net)], None);
            nets.iter().map(one).collect::<Vec<_>>()
        };
        let configured = merged(state.proxy().cluster_cidrs.iter().copied(), family);
        let own_node = state.own_node().into_iter();
        let own = merged(own_node.flat_map(|n| n.pod_cidrs.iter().copied()), family);
        let all = merged(
            state.nodes().flat_map(|n| n.pod_cidrs.iter().copied()),
            family,
        );
        let (pods, cluster) = match (configured.is_empty(), all.is_empty()) {
            (false, _) => (configured.clone(), configured),
            (true, false) => (own.clone(), all),
            (true, true) => (Vec::new(), vec![everything(family)]),
        };
        let services = merged(service_cidrs.iter().copied(), family);
        items.extend(ranges(set::svccidr(family), &services));
        items.extend(ranges(set::localsrc(family), &pods));
        items.extend(ranges(set::clusrc(family), &cluster));
        if bridged_pods {
            for net in &own {
                let both = vec![Key::net(net), Key::net(net)];
                items.push(item(set::l2pod(family), both, None));
            }
        }
    }
    items
}

/// The networks of a family, without overlaps: an interval set refuses those.
fn merged(nets: impl Iterator<Item = IpNet>, family: Family) -> Vec<IpNet> {
    let own: Vec<IpNet> = nets
        .filter(|n| Family::of(n.addr()) == family)
        .map(|n| n.trunc())
        .collect();
    IpNet::aggregate(&own)
}

fn everything(family: Family) -> IpNet {
    match family {
        Family::V4 => IpNet::V4(ipnet::Ipv4Net::default()),
        Family::V6 => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}
