//! How one Service stands, from what is known of it: pure. A node knows it from its own parts, `ferrolb status` of a cluster from its API.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_api::endpoints::EndpointIndex;
use ferrolb_api::family::Family;
use ferrolb_api::reason::Reason;
use ferrolb_api::traffic::choices::Choices;
use ferrolb_api::view::{Service, ServiceType};

use super::view::{AddressStatus, EndpointCount, ServiceState, ServiceStatus};
use crate::authority::Standing;

/// Whether the addresses of a Service are in a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Programmed {
    /// They are.
    Yes,
    /// Not yet.
    No,
    /// That is not for the teller to say, for this reason.
    Unasked(&'static str),
}

/// What there is to say of a Service. `orphan` says why nobody announces an address.
pub fn status(
    key: &ObjectKey,
    standing: &Standing,
    vips: Vec<AddressStatus>,
    programmed: Programmed,
    endpoints: EndpointCount,
    orphan: impl FnOnce(&AddressStatus) -> (Reason, String),
) -> ServiceStatus {
    let view = &standing.service;
    let (state, reason, message) = state(standing, &vips, programmed, endpoints, orphan);
    ServiceStatus {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        service_type: view.service_type,
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
    standing: &Standing,
    vips: &[AddressStatus],
    programmed: Programmed,
    endpoints: EndpointCount,
    orphan: impl FnOnce(&AddressStatus) -> (Reason, String),
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
    if programmed == Programmed::No {
        let text = "its addresses are not in this node's kernel yet".to_owned();
        return (ServiceState::Pending, Reason::NotProgrammed, text);
    }
    // Addresses of another class are another load balancer's to announce; they are programmed all the same.
    let vips = match standing.reason {
        Reason::OtherClass => &[],
        _ => vips,
    };
    if let Some(alone) = vips.iter().find(|v| v.node.is_none()) {
        let (reason, text) = orphan(alone);
        return (ServiceState::Pending, reason, text);
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
    let (reason, text) = match programmed {
        Programmed::Unasked(text) => (standing.reason, text),
        _ => (Reason::Programmed, "its addresses are in the kernel"),
    };
    (ServiceState::Serving, reason, text.to_owned())
}

/// Counts the endpoints that a Service has and uses; local are those on `me`.
pub fn count(
    slices: &EndpointIndex,
    key: &ObjectKey,
    view: &Service,
    me: Option<&str>,
) -> EndpointCount {
    let served = || Family::ALL.into_iter().filter(|f| view.has_family(*f));
    let mut used = BTreeSet::new();
    let mut local = BTreeSet::new();
    for family in served() {
        // Ports that have the same endpoints share a choice, so that a thousand of them cost what one costs.
        let choices = Choices::new(slices.of(key), view, family, me.unwrap_or_default(), None);
        for target in choices.shared().iter().flat_map(|s| &s.cluster) {
            used.insert(target.addr.ip());
            if me.is_some() && target.endpoint.node.as_deref() == me {
                local.insert(target.addr.ip());
            }
        }
    }
    let total: BTreeSet<IpAddr> = slices
        .of(key)
        .flat_map(|s| s.endpoints.iter().map(|e| e.address))
        .filter(|a| view.has_family(Family::of(*a)))
        .collect();
    EndpointCount {
        used: used.len(),
        local: me.map(|_| local.len()),
        total: total.len(),
    }
}
