//! The treatment of each endpoint of a Service, computed once for all ports that it serves.

use std::hash::{DefaultHasher, Hash, Hasher};

use ferrolb_api::reason::Reason;
use ferrolb_api::traffic::{Selection, Target, endpoint_reason, reachable};
use ferrolb_api::view::TrafficPolicy;

use super::{Backend, Place, Role, Way};
use crate::state::State;

/// The most endpoints times fronts that a node programs for one Service. More would fill the memory of the kernel and of the
/// node.
pub(super) const MOST: usize = 100_000;

/// The endpoints of a selection, ordered by address and port.
pub(super) fn backends(state: &State, selection: &Selection<'_>) -> Vec<Backend> {
    let lists = [&selection.cluster, &selection.local, &selection.draining];
    let mut all: Vec<&Target<'_>> = lists.into_iter().flatten().collect();
    all.sort_unstable_by_key(|t| t.addr);
    all.dedup_by_key(|t| t.addr);
    all.into_iter()
        .map(|target| Backend {
            addr: target.addr,
            list: target.list(),
            node: target.endpoint.node.clone(),
            place: if state.is_own_address(target.addr.ip()) {
                Place::Host
            } else if target.local {
                Place::Here
            } else {
                Place::Elsewhere
            },
            way: Way::Translate,
            cluster: role(selection, TrafficPolicy::Cluster, target),
            local: role(selection, TrafficPolicy::Local, target),
        })
        .collect()
}

fn role(selection: &Selection<'_>, policy: TrafficPolicy, target: &Target<'_>) -> Role {
    let chosen = reachable(selection, policy);
    let takes_new = chosen
        .binary_search_by_key(&target.addr, |t| t.addr)
        .is_ok();
    let weight = if takes_new {
        Some(target.endpoint.weight.map_or(1, |w| w.get().into()))
    } else {
        selection.is_drained(policy, target).then_some(0)
    };
    Role {
        weight,
        reason: endpoint_reason(selection, policy, target),
    }
}

/// Keeps at most `most` endpoints of a set. Those that take new connections come first, then those on this node. Among the rest,
/// the choice differs from node to node and changes little when an endpoint comes or goes. Returns whether any had to be left
/// out.
pub(super) fn limit(backends: &mut [Backend], most: usize, node: &str) -> bool {
    if backends.len() <= most {
        return false;
    }
    let rank = |backend: &Backend| {
        let takes_new = [backend.cluster, backend.local]
            .iter()
            .any(|role| role.weight.is_some_and(|w| w > 0));
        let mut hasher = DefaultHasher::new();
        (node, backend.addr).hash(&mut hasher);
        let near = backend.place != Place::Elsewhere;
        (!takes_new, !near, hasher.finish(), backend.addr)
    };
    let mut order: Vec<usize> = (0..backends.len()).collect();
    order.sort_by_cached_key(|index| backends.get(*index).map(rank));
    for index in order.split_off(most) {
        if let Some(backend) = backends.get_mut(index) {
            let left_out = Role {
                weight: None,
                reason: Reason::OverLimit,
            };
            (backend.cluster, backend.local) = (left_out, left_out);
        }
    }
    true
}
