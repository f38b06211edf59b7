//! How one Service stands, from what is known of it: pure. A node knows it from its own parts, `ferrolb status` of a cluster from its API.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_api::endpoints::EndpointIndex;
use ferrolb_api::family::Family;
use ferrolb_api::quote::quoted;
use ferrolb_api::reason::Reason;
use ferrolb_api::traffic::choices::Choices;
use ferrolb_api::view::{Endpoint, Service, ServiceType, TargetPort};

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

/// Why clients of a port are refused although endpoints are ready.
fn missing_port(view: &Service, ready: usize, index: usize) -> Option<String> {
    let port = view.ports.get(index)?;
    let number = format!("port {}/{}", port.port, port.protocol);
    let have = match ready {
        1 => "1 ready endpoint, but it has no port".to_owned(),
        n => format!("{n} ready endpoints, but none has a port"),
    };
    Some(match &port.target_port {
        TargetPort::Name(name) => format!(
            "clients of {number} are refused: it has {have} for spec.ports[{index}].targetPort {}. Name a {} port of the containers",
            quoted(name),
            port.protocol
        ),
        TargetPort::Number(_) => format!(
            "clients of {number} are refused: it has {have} named {} as spec.ports[{index}].name says. Give the ports of the endpoints and of the Service the same name",
            quoted(&port.name)
        ),
    })
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
    let missing = || Some(missing_port(view, endpoints.ready, endpoints.missing_port?));
    if endpoints.used == 0 {
        if let Some(text) = missing().flatten() {
            return (ServiceState::Pending, Reason::PortNotFound, text);
        }
        let text = "it has no ready endpoint: clients are refused".to_owned();
        return (ServiceState::Pending, Reason::NoEndpoints, text);
    }
    if let Some(vip) = vips.first() {
        let node = vip.node.as_deref().unwrap_or_default();
        let mut text = format!("{} is announced by {node}", vip.ip);
        if let Some(missing) = missing().flatten() {
            text = format!("{text}; {missing}");
        }
        return (ServiceState::Serving, Reason::Announced, text);
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
    let families = || Family::ALL.into_iter().filter(|f| view.has_family(*f));
    let mut used = BTreeSet::new();
    let mut local = BTreeSet::new();
    let mut served = BTreeSet::new();
    for family in families() {
        // Ports that have the same endpoints share a choice, so that a thousand of them cost what one costs.
        let choices = Choices::new(slices.of(key), view, family, me.unwrap_or_default(), None);
        served.extend((0..view.ports.len()).filter(|port| choices.serves(*port)));
        for target in choices.shared().iter().flat_map(|s| &s.cluster) {
            used.insert(target.addr.ip());
            if me.is_some() && target.endpoint.node.as_deref() == me {
                local.insert(target.addr.ip());
            }
        }
    }
    let of_family = |e: &&Endpoint| view.has_family(Family::of(e.address));
    let ready: BTreeSet<IpAddr> = slices
        .of(key)
        .flat_map(|s| &s.endpoints)
        .filter(|e| e.ready && of_family(e))
        .map(|e| e.address)
        .collect();
    let total: BTreeSet<IpAddr> = slices
        .of(key)
        .flat_map(|s| s.endpoints.iter().map(|e| e.address))
        .filter(|a| view.has_family(Family::of(*a)))
        .collect();
    EndpointCount {
        used: used.len(),
        local: me.map(|_| local.len()),
        total: total.len(),
        ready: ready.len(),
        missing_port: (0..view.ports.len())
            .find(|port| !ready.is_empty() && !served.contains(port)),
    }
}
