//! Which endpoints a node may use: Kubernetes' endpoint selection (kube-proxy's topology.go) as pure functions.
//!
//! | policy | endpoints |
//! |---|---|
//! | Cluster | ready ones that match the topology; if none is ready, those that are serving and terminating |
//! | Local | ready ones on this node; if none, its serving and terminating ones; topology is ignored |
//!
//! Topology is all or nothing and considers only ready endpoints. If all of them have node hints and one names this node, those
//! for this node are used. Otherwise, if all have zone hints and one names this zone, those for this zone are used. Otherwise
//! hints are ignored. `publishNotReadyAddresses` is not considered here: the writer of the slices marks the endpoints as ready.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::Family;
use crate::reason::Reason;
use crate::view::{Endpoint, EndpointSlice, Service, ServicePort, TrafficPolicy};

pub mod choices;
#[cfg(test)]
mod tests;

/// One endpoint for one Service port, with its target port resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Address and port of the server.
    pub addr: SocketAddr,
    /// The endpoint as Kubernetes describes it.
    pub endpoint: &'a Endpoint,
    /// Whether it runs on the node that asks.
    pub local: bool,
    /// Which of the distinct port lists in the slices applies to it (see [`choices`]).
    list: usize,
}

impl Target<'_> {
    /// Which of the distinct port lists in the slices applies to it; pass it to [`choices::Numbers`].
    pub fn list(&self) -> usize {
        self.list
    }
}

/// The endpoints that a node may use for a Service port. All lists are ordered by address and port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection<'a> {
    /// Under policy Cluster. It is empty exactly when no endpoint is usable anywhere, whatever the Service's policies are.
    pub cluster: Vec<Target<'a>>,
    /// Under policy Local; empty for a Service without Local traffic.
    pub local: Vec<Target<'a>>,
    /// Present in the slices but in neither list: not ready, terminating while others are ready, or preferred for another node or
    /// zone. Their existing connections continue.
    pub draining: Vec<Target<'a>>,
}

impl<'a> Selection<'a> {
    /// Whether [`Selection::drained`] includes a target of this selection.
    pub fn is_drained(&self, policy: TrafficPolicy, target: &Target<'_>) -> bool {
        let has = |list: &[Target<'a>]| list.binary_search_by_key(&target.addr, |t| t.addr).is_ok();
        match policy {
            TrafficPolicy::Cluster => !has(&self.cluster),
            TrafficPolicy::Local => target.local && has(&self.draining),
        }
    }

    /// The targets that a virtual server under this policy keeps but sends no new connections to: all that are present but not
    /// chosen; under Local, only this node's. (Unlike `draining`, this includes targets that the *other* policy still uses.)
    pub fn drained(&self, policy: TrafficPolicy) -> impl Iterator<Item = &Target<'a>> {
        let chosen = reachable(self, policy);
        let other = match policy {
            TrafficPolicy::Cluster => self.local.as_slice(),
            TrafficPolicy::Local => &[],
        };
        self.draining
            .iter()
            .filter(move |t| policy == TrafficPolicy::Cluster || t.local)
            .chain(
                other
                    .iter()
                    .filter(move |t| chosen.binary_search_by_key(&t.addr, |c| c.addr).is_err()),
            )
    }
}

/// The endpoints that `node` (in `zone`) may use for one port of a Service in one family.
///
/// `slices` are those of the Service, in any order; ports match by name and protocol. An address and port that appear several times,
/// in one slice or in several, count once: a ready one wins over one that is serving and terminating, that one over the rest, then a local
/// one, then the first.
pub fn select<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    service: &Service,
    port: &ServicePort,
    family: Family,
    node: &str,
    zone: Option<&str>,
) -> Selection<'a> {
    let mut all: BTreeMap<SocketAddr, Target<'a>> = BTreeMap::new();
    for slice in slices {
        let ports = || {
            slice
                .ports
                .iter()
                .filter(|p| p.name == port.name && p.protocol == port.protocol && p.port != 0)
        };
        for endpoint in &slice.endpoints {
            if Family::of(endpoint.address) != family {
                continue;
            }
            let local = endpoint.node.as_deref() == Some(node);
            for p in ports() {
                let addr = SocketAddr::new(endpoint.address, p.port);
                let target = Target {
                    addr,
                    endpoint,
                    local,
                    list: 0,
                };
                let known = all.entry(addr).or_insert(target);
                if precedence(&target) < precedence(known) {
                    *known = target;
                }
            }
        }
    }
    let all: Vec<Target<'a>> = all.into_values().collect();
    choose(&all, service, node, zone)
}

/// Which of several entries for one address and port counts; the least one does. A pod that takes over the address of an old one
/// counts before it, in whatever slices they are (Kubernetes API, EndpointSlice: consumers must expect duplicates; kube-proxy
/// since 1.36). Of equally good ones, a local one counts.
fn precedence(target: &Target<'_>) -> (u8, bool) {
    let endpoint = target.endpoint;
    let usable = match (endpoint.ready, endpoint.serving && endpoint.terminating) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 2,
    };
    (usable, !target.local)
}

/// `all`: every target once, ordered by address and port.
fn choose<'a>(
    all: &[Target<'a>],
    service: &Service,
    node: &str,
    zone: Option<&str>,
) -> Selection<'a> {
    let topology = topology(all, node, zone);
    let pick = |wanted: &dyn Fn(&Target<'a>) -> bool| -> Vec<Target<'a>> {
        all.iter().filter(|t| wanted(t)).copied().collect()
    };
    let or_terminating = |ready: Vec<Target<'a>>, only_local: bool| {
        if ready.is_empty() {
            pick(&|t| (t.local || !only_local) && t.endpoint.serving && t.endpoint.terminating)
        } else {
            ready
        }
    };
    let cluster = or_terminating(
        pick(&|t| t.endpoint.ready && topology.allows(t.endpoint)),
        false,
    );
    let local = if service.uses_local_endpoints() {
        or_terminating(pick(&|t| t.local && t.endpoint.ready), true)
    } else {
        Vec::new()
    };
    let has = |list: &[Target<'a>], t: &Target<'a>| {
        list.binary_search_by_key(&t.addr, |c| c.addr).is_ok()
    };
    let draining = pick(&|t| !has(&cluster, t) && !has(&local, t));
    Selection {
        cluster,
        local,
        draining,
    }
}

/// What the hints of all ready endpoints together require.
enum Topology<'n> {
    SameNode(&'n str),
    SameZone(&'n str),
    Any,
}

impl Topology<'_> {
    fn allows(&self, endpoint: &Endpoint) -> bool {
        match self {
            Self::SameNode(node) => endpoint.hint_nodes.iter().any(|h| h == node),
            Self::SameZone(zone) => endpoint.hint_zones.iter().any(|h| h == zone),
            Self::Any => true,
        }
    }
}

fn topology<'n>(all: &[Target<'_>], node: &'n str, zone: Option<&'n str>) -> Topology<'n> {
    let ready = || all.iter().map(|t| t.endpoint).filter(|e| e.ready);
    let every_names = |hints: fn(&Endpoint) -> &[String], wanted: &str| {
        ready().all(|e| !hints(e).is_empty())
            && ready().any(|e| hints(e).iter().any(|h| h == wanted))
    };
    if every_names(|e| &e.hint_nodes, node) {
        return Topology::SameNode(node);
    }
    match zone.filter(|z| !z.is_empty()) {
        Some(zone) if every_names(|e| &e.hint_zones, zone) => Topology::SameZone(zone),
        _ => Topology::Any,
    }
}

/// The endpoints that receive new connections under a policy.
pub fn reachable<'s, 'a>(selection: &'s Selection<'a>, policy: TrafficPolicy) -> &'s [Target<'a>] {
    match policy {
        TrafficPolicy::Cluster => &selection.cluster,
        TrafficPolicy::Local => &selection.local,
    }
}

/// Why an endpoint is or is not used under a policy.
pub fn endpoint_reason(
    selection: &Selection<'_>,
    policy: TrafficPolicy,
    target: &Target<'_>,
) -> Reason {
    let endpoint = target.endpoint;
    if reachable(selection, policy)
        .binary_search_by_key(&target.addr, |t| t.addr)
        .is_ok()
    {
        Reason::EndpointUsed
    } else if policy == TrafficPolicy::Local && !target.local {
        Reason::EndpointNotLocal
    } else if endpoint.ready {
        Reason::EndpointElsewhere
    } else if endpoint.terminating {
        Reason::EndpointTerminating
    } else {
        Reason::EndpointNotReady
    }
}

/// Why a Service port has no endpoint for new connections: [`Reason::NoEndpoints`] (reject), [`Reason::NoLocalEndpoint`] (drop,
/// because other nodes serve it), or `None` if it has some.
pub fn refusal(selection: &Selection<'_>, policy: TrafficPolicy) -> Option<Reason> {
    if !reachable(selection, policy).is_empty() {
        None
    } else if selection.cluster.is_empty() {
        Some(Reason::NoEndpoints)
    } else {
        Some(Reason::NoLocalEndpoint)
    }
}
