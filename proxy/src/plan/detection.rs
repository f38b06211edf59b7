//! Whether the pods that exist are recognised as pods, in the way that the KubeProxyConfiguration asks for.

use std::net::IpAddr;

use ferrolb_api::Family;
use ferrolb_api::proxy_config::DetectLocal;
use ipnet::IpNet;

use super::ranges::merged;
use crate::state::State;

/// What follows when a pod is not recognised.
const FOLLOWS: &str = "connections of such pods to ClusterIPs are masqueraded, and a Service with externalTrafficPolicy Local serves them \
                       only from endpoints of this node";

/// The pods that were seen so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// The ranges that were asked about.
    ranges: Vec<IpNet>,
    /// The families in which a pod was seen in them.
    families: Vec<Family>,
}

/// What is doubtful: a family in which pods were seen, but none in the ranges of pods, and a Node without such ranges. Looks at
/// all endpoints as long as that is so, and at none afterwards.
pub fn doubts(state: &State, seen: &mut Seen) -> Vec<String> {
    let config = state.proxy();
    let own = || state.own_node().map(|n| n.pod_cidrs.clone());
    let (field, ranges, only) = match config.detect_local {
        DetectLocal::ClusterCidr => ("clusterCIDR", config.cluster_cidrs.clone(), None),
        DetectLocal::NodeCidr => {
            let name = state.own_name();
            let ranges = own().unwrap_or_default();
            if ranges.is_empty() {
                return vec![format!(
                    "KubeProxyConfiguration: detectLocalMode: NodeCIDR asks for spec.podCIDRs of Node {name}, which has none, so pods are \
                     recognised by clusterCIDR: let the controller manager allocate node CIDRs, or set another mode"
                )];
            }
            ("detectLocalMode: NodeCIDR", ranges, Some(name))
        }
        DetectLocal::BridgeInterface(_) | DetectLocal::InterfaceNamePrefix(_) => return Vec::new(),
    };
    if seen.ranges != ranges {
        *seen = Seen {
            ranges: ranges.clone(),
            families: Vec::new(),
        };
    }
    let mut said = Vec::new();
    for family in Family::ALL {
        let ranges = merged(ranges.iter().copied(), family);
        if ranges.is_empty() || seen.families.contains(&family) {
            continue;
        }
        match first(state, family, only, &ranges) {
            Some((true, _)) => seen.families.push(family),
            Some((false, example)) => {
                let texts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
                said.push(format!(
                    "KubeProxyConfiguration: {field}: {} contains none of the pods seen so far, such as {example}, so {FOLLOWS}: set \
                     clusterCIDR to the ranges of the pods, or choose another detectLocalMode",
                    texts.join(",")
                ));
            }
            None => {}
        }
    }
    said
}

/// A pod in the ranges, or else any pod. Hosts are no pods.
fn first(
    state: &State,
    family: Family,
    only: Option<&str>,
    ranges: &[IpNet],
) -> Option<(bool, IpAddr)> {
    let slices = state.endpoints().all();
    let endpoints = slices.flat_map(|slice| &slice.endpoints);
    let on = |node: &str| only.is_none_or(|only| only == node);
    let pods = endpoints.filter(|e| e.node.as_deref().is_some_and(on));
    let pods = pods.map(|e| e.address);
    let host = |a: IpAddr| state.is_own_address(a) || state.ownership().is_of_a_node(a);
    let mut pods = pods.filter(|a| Family::of(*a) == family && !host(*a));
    let mut other = None;
    let inside = pods.find(|a| {
        other.get_or_insert(*a);
        ranges.iter().any(|range| range.contains(a))
    });
    let inside = inside.map(|a| (true, a));
    inside.or(other.map(|a| (false, a)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ferrolb_api::change::Change;
    use ferrolb_api::object::Object;
    use ferrolb_api::proxy_config::ProxyConfig;

    use super::*;
    use crate::testing::{config, endpoint, node, service, slice, upsert_slice};

    fn state(proxy: ProxyConfig, pods: &[&str], pod_cidrs: &[&str]) -> State {
        let mut state = State::new(&config("A"));
        state.apply(Change::Upsert(Object::ProxyConfig(Box::new(proxy))));
        let mut own = node("A", 0);
        own.pod_cidrs = pod_cidrs.iter().map(|c| c.parse().unwrap()).collect();
        state.apply(Change::Upsert(Object::Node(own.into())));
        let pods = pods.iter().map(|pod| endpoint(pod)).collect();
        state.apply(upsert_slice(slice(&service("web"), pods)));
        state
    }

    fn by(cluster: &[&str], detect_local: DetectLocal) -> ProxyConfig {
        ProxyConfig {
            cluster_cidrs: cluster.iter().map(|c| c.parse().unwrap()).collect(),
            detect_local,
            ..ProxyConfig::default()
        }
    }

    #[test]
    fn ranges_without_any_pod_are_doubtful_until_one_is_seen() {
        let mut seen = Seen::default();
        let far = by(&["10.99.0.0/16"], DetectLocal::ClusterCidr);
        let said = doubts(&state(far.clone(), &["a1"], &[]), &mut seen);
        assert_eq!(said.len(), 1);
        assert!(
            said[0].starts_with(
                "KubeProxyConfiguration: clusterCIDR: 10.99.0.0/16 contains none of the pods seen so far, such as "
            ),
            "{said:?}"
        );
        // A host is no pod, and without a pod there is nothing to doubt.
        assert!(doubts(&state(far.clone(), &["A"], &[]), &mut seen).is_empty());
        let near = by(&["10.244.0.0/16"], DetectLocal::ClusterCidr);
        assert!(doubts(&state(near.clone(), &["b1", "a1"], &[]), &mut seen).is_empty());
        assert_eq!(seen.families, [Family::V4]);
        // The question is asked again for other ranges.
        assert_eq!(doubts(&state(far, &["a1"], &[]), &mut seen).len(), 1);
    }

    #[test]
    fn a_node_without_pod_ranges_cannot_recognise_pods_by_them() {
        let mut seen = Seen::default();
        let config = by(&[], DetectLocal::NodeCidr);
        let said = doubts(&state(config.clone(), &[], &[]), &mut seen);
        assert!(
            said[0].contains("spec.podCIDRs of Node A, which has none"),
            "{said:?}"
        );
        assert!(doubts(&state(config, &[], &["10.244.1.0/24"]), &mut seen).is_empty());
    }
}
