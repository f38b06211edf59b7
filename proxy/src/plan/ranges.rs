//! Ranges that belong to no Service: which sources are pods, and which addresses are ClusterIPs.

use std::net::IpAddr;

use ferrolb_api::Family;
use ferrolb_api::proxy_config::{DetectLocal, InterfaceName};
use ipnet::IpNet;

use crate::config::Config;
use crate::state::State;
use crate::surroundings::Link;

/// The ranges of one family, without overlaps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FamilyRanges {
    /// The range of the ClusterIPs. Connections to addresses in it that no Service has are refused.
    pub services: Vec<IpNet>,
    /// Sources that reach all endpoints as this node's own pods do: those pods, or all pods of the cluster.
    pub pods: Vec<IpNet>,
    /// This node's own pods, as far as its Node object says.
    pub node: Vec<IpNet>,
    /// Sources that are pods anywhere in the cluster.
    pub cluster: Vec<IpNet>,
    /// Interfaces at which the traffic of this node's pods comes in, if it is recognised by that.
    pub interfaces: Option<Interfaces>,
    /// Interfaces at which the traffic of other nodes and their pods comes in.
    pub far: Vec<InterfaceName>,
    /// Pods on one bridge whose traffic does not pass netfilter. Service connections between them are masqueraded.
    pub bridged: Vec<IpNet>,
}

/// Interfaces, by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interfaces {
    /// The one of this name.
    Named(InterfaceName),
    /// All whose names begin so.
    Beginning(InterfaceName),
}

/// The ranges of a family.
///
/// `detectLocalMode` says how pods are recognised. By their interface: then no range says anything about them. By the ranges of
/// this node: then those are its own pods, and all others are outsiders.
///
/// Otherwise, and where the Node has no range, configured cluster ranges define which sources are pods, as in kube-proxy's detector
/// of that name. Without them the pod ranges of the Nodes do: this node's ranges are its own pods, and the ranges of all Nodes are
/// the cluster's. Without those either, nothing is known about pods: no connection to a ClusterIP is masqueraded (kube-proxy's no-op
/// detector), and no source counts as a pod.
pub fn ranges(state: &State, config: &Config, family: Family) -> FamilyRanges {
    let configured = merged(state.proxy().cluster_cidrs.iter().copied(), family);
    let own_node = state.own_node().into_iter();
    let own = merged(own_node.flat_map(|n| n.pod_cidrs.iter().copied()), family);
    let nodes = state.nodes();
    let all = merged(nodes.flat_map(|n| n.pod_cidrs.iter().copied()), family);
    let bridged = if config.bridged_pods {
        own.clone()
    } else {
        Vec::new()
    };
    let by_ranges = || match (configured.is_empty(), all.is_empty()) {
        (false, _) => (configured.clone(), configured),
        (true, false) => (own.clone(), all),
        (true, true) => (Vec::new(), vec![everything(family)]),
    };
    let nowhere = || (Vec::new(), Vec::new());
    let ((pods, cluster), interfaces) = match state.proxy().detect_local {
        DetectLocal::BridgeInterface(name) => (nowhere(), Some(Interfaces::Named(name))),
        DetectLocal::InterfaceNamePrefix(name) => (nowhere(), Some(Interfaces::Beginning(name))),
        DetectLocal::NodeCidr if !own.is_empty() => ((own.clone(), own.clone()), None),
        DetectLocal::NodeCidr | DetectLocal::ClusterCidr => (by_ranges(), None),
    };
    FamilyRanges {
        services: merged(state.ownership().service_ranges().into_iter(), family),
        node: own,
        cluster,
        far: far(state),
        pods,
        interfaces,
        bridged,
    }
}

/// Interfaces with an address of this node, unless pods are on the same network, and tunnels.
fn far(state: &State) -> Vec<InterfaceName> {
    let nodes = state.nodes().flat_map(|n| &n.pod_cidrs);
    let pods: Vec<&IpNet> = state.proxy().cluster_cidrs.iter().chain(nodes).collect();
    let pod = |a: &IpAddr| pods.iter().any(|range| range.contains(a));
    let of_node = |link: &Link| {
        let mut own = link.addresses.iter();
        own.any(|a| state.is_own_address(*a)) && !link.addresses.iter().any(pod)
    };
    let far = |(_, link): &(&InterfaceName, &Link)| link.tunnel || of_node(link);
    state.links().filter(far).map(|(name, _)| *name).collect()
}

/// The networks of a family, without overlaps.
pub(super) fn merged(nets: impl Iterator<Item = IpNet>, family: Family) -> Vec<IpNet> {
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
