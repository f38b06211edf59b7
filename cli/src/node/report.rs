//! What a node says of itself, put together from what its parts know. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_api::endpoints::EndpointIndex;
use ferrolb_api::family::Family;
use ferrolb_api::reason::Reason;
use ferrolb_api::source::Problem;
use ferrolb_api::traffic::select;
use ferrolb_api::view::{Service, ServiceType};
use ferrolb_proxy::snapshot::Snapshot as ProxySnapshot;
use ferrolb_speaker::snapshot::{Address, Snapshot as SpeakerSnapshot};

use super::authority::Standing;
use crate::status::view::{
    AddressStatus, EndpointCount, MemberStatus, NodeStatus, ServiceState, ServiceStatus,
};

/// What the parts know.
pub(super) struct Knowledge<'a> {
    /// Name of this node.
    pub(super) me: &'a str,
    /// `ipvs` or `none`.
    pub(super) proxy_mode: &'static str,
    /// Services with their addresses.
    pub(super) standings: &'a BTreeMap<ObjectKey, Standing>,
    /// What is wrong with the input.
    pub(super) problems: Vec<Problem>,
    /// Endpoints.
    pub(super) slices: &'a EndpointIndex,
    /// The proxy, where there is one.
    pub(super) proxy: Option<&'a ProxySnapshot>,
    /// The speaker.
    pub(super) speaker: &'a SpeakerSnapshot,
}

/// The status of the node.
pub(super) fn report(known: &Knowledge<'_>) -> NodeStatus {
    let addresses: BTreeMap<IpAddr, &Address> = known
        .speaker
        .addresses
        .iter()
        .map(|a| (a.address, a))
        .collect();
    let mut problems = known.problems.clone();
    let of_parts = known.speaker.problems.iter().map(|p| ("speaker", p));
    let of_proxy = known
        .proxy
        .into_iter()
        .flat_map(|p| &p.errors)
        .map(|e| ("proxy", e));
    problems.extend(of_parts.chain(of_proxy).map(|(part, message)| Problem {
        origin: part.to_owned(),
        message: message.clone(),
        ..Problem::default()
    }));
    for address in &known.speaker.addresses {
        if let Some(mac) = &address.conflict {
            problems.push(Problem {
                origin: "speaker".to_owned(),
                object: address.address.to_string(),
                message: format!("{mac}, which is no member, claims this address too: find that host and give it another address"),
                ..Problem::default()
            });
        }
    }
    NodeStatus {
        node: known.me.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        proxy: known.proxy_mode.to_owned(),
        settled: known.speaker.settled,
        members: members(known.speaker),
        services: known
            .standings
            .iter()
            .map(|(key, standing)| service(known, &addresses, key, standing))
            .collect(),
        problems,
    }
}

fn members(speaker: &SpeakerSnapshot) -> Vec<MemberStatus> {
    let owned = |name: &str| {
        let of = speaker
            .addresses
            .iter()
            .filter(|a| a.owner.as_deref() == Some(name));
        of.count()
    };
    let members = speaker.members.iter().map(|m| MemberStatus {
        name: m.name.clone(),
        state: format!("{:?}", m.status),
        addresses: owned(&m.name),
        elected: speaker.placer.as_deref() == Some(&m.name),
    });
    members.collect()
}

fn service(
    known: &Knowledge<'_>,
    addresses: &BTreeMap<IpAddr, &Address>,
    key: &ObjectKey,
    standing: &Standing,
) -> ServiceStatus {
    let view = &standing.service;
    let endpoints = count(known, key, view);
    let vips: Vec<AddressStatus> = view
        .vips()
        .map(|ip| {
            let about = addresses.get(&ip);
            AddressStatus {
                ip,
                node: about.and_then(|a| a.owner.clone()),
                reason: about.map_or(Reason::NotSettled, |a| a.reason),
            }
        })
        .collect();
    let (state, reason, message) = state(known, key, standing, &vips, endpoints);
    ServiceStatus {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        service_type: format!("{:?}", view.service_type),
        cluster_ips: view.cluster_ips.clone(),
        addresses: vips,
        ports: ports(view),
        pool: standing.pool.clone(),
        endpoints,
        state,
        reason,
        message,
    }
}

fn ports(view: &Service) -> Vec<String> {
    let ports = view.ports.iter().map(|p| match p.node_port {
        Some(node_port) => format!("{}:{node_port}/{}", p.port, p.protocol),
        None => format!("{}/{}", p.port, p.protocol),
    });
    ports.collect()
}

/// State, reason and sentence of a Service: the first thing that is amiss on the way from the pool to the client.
fn state(
    known: &Knowledge<'_>,
    key: &ObjectKey,
    standing: &Standing,
    vips: &[AddressStatus],
    endpoints: EndpointCount,
) -> (ServiceState, Reason, String) {
    let view = &standing.service;
    if !view.is_proxied() {
        let what = match view.service_type {
            ServiceType::ExternalName => "an alias",
            _ if view.headless => "headless",
            _ => "left to another proxy by its label",
        };
        return (
            ServiceState::Ignored,
            Reason::NotProxied,
            format!("it is {what}: nothing is programmed for it"),
        );
    }
    match standing.reason {
        Reason::Allocated | Reason::NotLoadBalancer | Reason::OtherClass => {}
        reason @ (Reason::NoMajority | Reason::NotSettled) => {
            return (ServiceState::Pending, reason, standing.message.clone());
        }
        reason => return (ServiceState::Refused, reason, standing.message.clone()),
    }
    let programmed = known.proxy.map(|p| {
        p.services
            .get(&key.to_string())
            .is_some_and(|s| s.programmed)
    });
    if programmed == Some(false) {
        let text = "its addresses are not in this node's kernel yet".to_owned();
        return (ServiceState::Pending, Reason::NotProgrammed, text);
    }
    if let Some(orphan) = vips.iter().find(|v| v.node.is_none()) {
        let text = format!(
            "{} is announced by no node; this one: {}",
            orphan.ip, orphan.reason
        );
        return (ServiceState::Pending, orphan.reason, text);
    }
    if endpoints.used == 0 {
        let text = "it has no ready endpoint: clients are refused".to_owned();
        return (ServiceState::Pending, Reason::NoEndpoints, text);
    }
    if let Some(vip) = vips.first() {
        let node = vip.node.as_deref().unwrap_or_default();
        return (
            ServiceState::Serving,
            Reason::Announced,
            format!("{} is announced by {node}", vip.ip),
        );
    }
    match programmed {
        Some(_) => (
            ServiceState::Serving,
            Reason::Programmed,
            "its addresses are in the kernel".to_owned(),
        ),
        None => (
            ServiceState::Serving,
            standing.reason,
            "another proxy serves it".to_owned(),
        ),
    }
}

fn count(known: &Knowledge<'_>, key: &ObjectKey, view: &Service) -> EndpointCount {
    let served = || Family::ALL.into_iter().filter(|f| view.has_family(*f));
    let mut used = BTreeSet::new();
    let mut local = BTreeSet::new();
    for port in &view.ports {
        for family in served() {
            let selection = select(known.slices.of(key), view, port, family, known.me, None);
            used.extend(selection.cluster.iter().map(|t| t.addr.ip()));
            let here = |t: &&ferrolb_api::traffic::Target<'_>| {
                t.endpoint.node.as_deref() == Some(known.me)
            };
            local.extend(selection.cluster.iter().filter(here).map(|t| t.addr.ip()));
        }
    }
    let total: BTreeSet<IpAddr> = known
        .slices
        .of(key)
        .flat_map(|s| s.endpoints.iter().map(|e| e.address))
        .filter(|a| view.has_family(Family::of(a)))
        .collect();
    EndpointCount {
        used: used.len(),
        local: local.len(),
        total: total.len(),
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
