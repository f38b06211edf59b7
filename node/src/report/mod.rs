//! What a node says of itself, put together from what its parts know. Pure.

pub mod service;
#[cfg(test)]
mod tests;
mod unannounced;
pub mod view;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_api::endpoints::EndpointIndex;
use ferrolb_api::problem::{Cause, Part, Problem, Subject};
use ferrolb_api::reason::Reason;
use ferrolb_proxy::snapshot::Snapshot as ProxySnapshot;
use ferrolb_speaker::snapshot::{Address, Snapshot as SpeakerSnapshot};

use crate::authority::Standing;
use crate::report::service::{Programmed, count, status};
use crate::report::unannounced::Unannounced;
use crate::report::view::{AddressStatus, MemberStatus, NodeStatus, ServiceState, ServiceStatus};

/// What the parts know.
pub(crate) struct Knowledge<'a> {
    /// Name of this node.
    pub(crate) me: &'a str,
    /// `ipvs` or `none`.
    pub(crate) proxy_mode: &'static str,
    /// Services with their addresses.
    pub(crate) standings: &'a BTreeMap<ObjectKey, Standing>,
    /// What is wrong with the input.
    pub(crate) problems: Vec<Problem>,
    /// Endpoints.
    pub(crate) slices: &'a EndpointIndex,
    /// The proxy, where there is one.
    pub(crate) proxy: Option<&'a ProxySnapshot>,
    /// The speaker.
    pub(crate) speaker: &'a SpeakerSnapshot,
}

/// The status of the node.
pub(crate) fn report(known: &Knowledge<'_>) -> NodeStatus {
    let addresses: BTreeMap<IpAddr, &Address> = known
        .speaker
        .addresses
        .iter()
        .map(|a| (a.address, a))
        .collect();
    let mut problems = known.problems.clone();
    problems.extend(known.speaker.problems.iter().map(|p| {
        let subject = Subject::Part {
            part: Part::Speaker,
            of: p.object(),
        };
        let text = p.to_string();
        Problem::new(subject, Cause::Reported { text })
    }));
    let of_proxy = known.proxy.into_iter().flat_map(|p| &p.errors);
    problems.extend(of_proxy.map(|text| {
        let text = text.clone();
        Problem::new(Subject::part(Part::Proxy), Cause::Reported { text })
    }));
    let of_services = known.proxy.into_iter().flat_map(|p| p.problems.values());
    let of_services = of_services.flatten().cloned();
    problems.extend(of_services.map(|problem| problem.at(Part::Proxy.to_string())));
    for address in &known.speaker.addresses {
        if let Some(conflict) = &address.conflict {
            let subject = Subject::Address {
                part: Part::Speaker,
                address: address.address,
            };
            let text = conflict.to_string();
            problems.push(Problem::new(subject, Cause::Reported { text }));
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
    let mine = |name: &str| name == known.me;
    let vips: Vec<AddressStatus> = standing
        .service
        .vips()
        .map(|ip| {
            let about = addresses.get(&ip);
            let own = about.filter(|a| a.owner.as_deref().is_some_and(mine));
            AddressStatus {
                ip,
                node: about.and_then(|a| a.owner.clone()),
                interfaces: own.map(|a| a.interfaces.clone()).unwrap_or_default(),
                reason: about.map_or(Reason::NotSettled, |a| a.reason),
            }
        })
        .collect();
    let programmed = match known.proxy {
        None => Programmed::Unasked("another proxy serves it"),
        Some(proxy) => {
            let of = proxy.services.get(&key.to_string());
            match of.is_some_and(|s| s.programmed) {
                true => Programmed::Yes,
                false => Programmed::No,
            }
        }
    };
    let orphan = |orphan: &AddressStatus| {
        let about = Unannounced {
            ip: orphan.ip,
            pool: standing.pool.as_deref(),
            node: known.me,
            reason: orphan.reason,
        };
        (orphan.reason, about.sentence())
    };
    let endpoints = count(known.slices, key, &standing.service, Some(known.me));
    let mut status = status(key, standing, vips, programmed, endpoints, orphan);
    // What it is not given beside what works.
    if status.state == ServiceState::Serving
        && let Some((reason, problem)) = known.proxy.and_then(|p| p.refusal(&key.to_string()))
    {
        status.state = ServiceState::Refused;
        status.reason = reason;
        status.message = format!("{}: {}", problem.field, problem.message());
    }
    status
}
