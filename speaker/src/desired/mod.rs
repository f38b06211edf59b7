//! Which addresses this node may announce and on which interfaces, or why it may not. Pure.
//!
//! The ownership machine decides which of the permitted nodes announces. The checks run in the order in which a user wants to
//! read about them: first the configuration, then the node, its endpoints, its proxy and its interfaces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::Labels;
use ferrolb_api::crd::{IpAddressPool, L2Advertisement};
use ferrolb_api::reason::Reason;
use ferrolb_api::view::{Service, TrafficPolicy};

use crate::apply::probe::{Probes, Verdict};
use crate::link::{Links, Patterns, choose};
use crate::machine::Moved;
use crate::snapshot::Advertised;
use crate::state::State;

pub(crate) mod leaving;
#[cfg(test)]
mod tests;

/// Indexes of the interfaces on which this node may announce an address, at least one. Otherwise the reason why it may not.
pub(crate) type Answer = Result<BTreeSet<u32>, Reason>;

/// The inputs besides the objects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    /// This node's name.
    pub me: &'a str,
    /// The addresses that the proxy has programmed. `None`: another proxy is in use, and there is nothing to ask.
    pub programmed: Option<&'a BTreeSet<IpAddr>>,
    /// The interfaces.
    pub links: &'a Links,
    /// Which interfaces lead to containers only.
    pub patterns: &'a Patterns,
    /// Which addresses hosts on the LAN have.
    pub probes: &'a Probes,
    /// Interfaces with an open socket. Without one (no permission to open it, or it just broke) nothing can be announced there.
    pub open: &'a BTreeSet<u32>,
}

/// The full pass: computes the answer for every address. [`refresh`] must end at the same.
#[cfg(test)]
pub(crate) fn desired(state: &State, around: Surroundings<'_>) -> BTreeMap<IpAddr, Answer> {
    state
        .addresses()
        .map(|a| (a, eligible(state, around, a)))
        .collect()
}

/// The answers that changed: the addresses, and those of them that this node may announce now and could not before, or the other
/// way round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Another answer than before.
    pub answers: BTreeSet<IpAddr>,
    /// Permitted now, or no longer.
    pub permitted: Moved,
}

/// Updates the answers. Only those of dirty addresses are computed again.
pub(crate) fn refresh(
    answers: &mut BTreeMap<IpAddr, Answer>,
    state: &State,
    around: Surroundings<'_>,
    dirty: &BTreeSet<IpAddr>,
) -> Changed {
    let mut changed = Changed::default();
    for &address in dirty {
        let now = state.has(address).then(|| eligible(state, around, address));
        let may = matches!(now, Some(Ok(_)));
        let then = match &now {
            Some(answer) => answers.insert(address, answer.clone()),
            None => answers.remove(&address),
        };
        if now != then {
            changed.answers.insert(address);
        }
        match (may, matches!(then, Some(Ok(_)))) {
            (true, false) => changed.permitted.added.insert(address),
            (false, true) => changed.permitted.removed.insert(address),
            _ => false,
        };
    }
    changed
}

/// The answer for one address.
pub(crate) fn eligible(state: &State, around: Surroundings<'_>, address: IpAddr) -> Answer {
    let interfaces = permitted(state, around, address)?;
    match around.probes.verdict(address) {
        Verdict::Free => Ok(interfaces),
        Verdict::Unknown => Err(Reason::AddressUnchecked),
        Verdict::Taken(_) => Err(Reason::AddressOwned),
    }
}

/// The answer for one address, if no host on the LAN has it.
pub(crate) fn permitted(state: &State, around: Surroundings<'_>, address: IpAddr) -> Answer {
    if state.owner(address).is_some() {
        return Err(Reason::AddressOwned);
    }
    let services: Vec<&Service> = state.services(address).collect();
    let covering = covering(state, address);
    if covering.is_empty() {
        return Err(Reason::NoAdvertisement);
    }
    let labels = node(state, around.me)?;
    let selecting: Vec<_> = covering
        .into_iter()
        .filter(|a| {
            a.node_selectors.is_empty() || a.node_selectors.iter().any(|s| s.matches(&labels))
        })
        .collect();
    if selecting.is_empty() {
        return Err(Reason::NodeNotSelected);
    }
    if !services.iter().any(|s| serves(state, around.me, s)) {
        return Err(Reason::NoLocalEndpoint);
    }
    if around
        .programmed
        .is_some_and(|programmed| !programmed.contains(&address))
    {
        return Err(Reason::NotProgrammed);
    }
    let everywhere = selecting.iter().any(|a| a.interfaces.is_empty());
    let named: BTreeSet<String> = selecting
        .iter()
        .flat_map(|a| a.interfaces.iter().cloned())
        .collect();
    let mut interfaces = choose::choose(
        around.links,
        around.patterns,
        address,
        (!everywhere).then_some(&named),
    );
    interfaces.retain(|i| around.open.contains(i));
    if interfaces.is_empty() {
        return Err(Reason::NoInterface);
    }
    Ok(interfaces)
}

/// The advertisements that cover an address.
fn covering(state: &State, address: IpAddr) -> Vec<&L2Advertisement> {
    let services: Vec<&Service> = state.services(address).collect();
    let (pool, advertisements) = match state.pool(address) {
        Some((pool, advertisements)) => (pool, advertisements),
        None => return Vec::new(),
    };
    let mut all = advertisements;
    all.retain(|a| covers(a, pool, &services));
    all
}

/// What covers the address, if this node may not announce it because none of that fits this node.
pub(crate) fn advertised(state: &State, address: IpAddr, reason: Reason) -> Advertised {
    if !matches!(reason, Reason::NodeNotSelected | Reason::NoInterface) {
        return Advertised::default();
    }
    let covering = covering(state, address);
    let on = covering.iter().flat_map(|a| &a.interfaces);
    let on: BTreeSet<&String> = on.collect();
    Advertised {
        on: on.into_iter().cloned().collect(),
        by: covering.iter().map(|a| a.key.to_string()).collect(),
    }
}

/// Whether an advertisement covers this pool and any of these Services.
fn covers(advertisement: &L2Advertisement, pool: &IpAddressPool, services: &[&Service]) -> bool {
    let any_pool = advertisement.pools.is_empty() && advertisement.pool_selectors.is_empty();
    let this_pool = any_pool
        || advertisement.pools.contains(&pool.key.name)
        || advertisement
            .pool_selectors
            .iter()
            .any(|s| s.matches(&pool.labels));
    let selectors = &advertisement.service_selectors;
    this_pool
        && (selectors.is_empty()
            || services
                .iter()
                .any(|s| selectors.iter().any(|x| x.matches(&s.labels))))
}

/// The labels of this node, if it may announce at all. Without any Node objects, nothing forbids it. If there are Node objects
/// but none for this node, the node was deleted.
fn node(state: &State, me: &str) -> Result<Labels, Reason> {
    let Some(node) = state.nodes().get(me) else {
        if !state.nodes().is_empty() {
            return Err(Reason::NodeLeaving);
        }
        return Ok([("kubernetes.io/hostname", me)].into());
    };
    if node.excluded {
        return Err(Reason::NodeExcluded);
    }
    if node.network_unavailable {
        return Err(Reason::NetworkUnavailable);
    }
    if node.leaving {
        return Err(Reason::NodeLeaving);
    }
    Ok(node.labels.clone())
}

/// Whether this node serves clients of this Service. With the policy Cluster it always does: without endpoints it refuses them,
/// which is better than silence.
fn serves(state: &State, me: &str, service: &Service) -> bool {
    service.external_policy == TrafficPolicy::Cluster
        || state
            .endpoints
            .of(&service.key)
            .flat_map(|slice| &slice.endpoints)
            .any(|e| e.node.as_deref() == Some(me) && (e.ready || e.serving))
}
