//! The addresses of a Service: its ClusterIPs, its external addresses, and those that a load balancer assigned.

use std::net::IpAddr;

use ferrolb_api::view::IngressAddress;
use serde::Deserialize;

use super::Spec;
use crate::decode::FieldError;
use crate::decode::raw::ip;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    load_balancer: Option<LoadBalancer>,
}

#[derive(Deserialize)]
struct LoadBalancer {
    ingress: Option<Vec<Ingress>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ingress {
    ip: Option<String>,
    ip_mode: Option<String>,
}

/// Whether the Service is headless, and its ClusterIPs, at most one per family.
pub(super) fn cluster_ips(spec: &Spec) -> Result<(bool, Vec<IpAddr>), FieldError> {
    let mut given: Vec<(String, &str)> = Vec::new();
    match spec.cluster_ips.as_deref() {
        Some(list) if !list.is_empty() => {
            for (i, text) in list.iter().enumerate() {
                given.push((format!("spec.clusterIPs[{i}]"), text));
            }
        }
        _ => {
            if let Some(text) = spec.cluster_ip.as_deref() {
                given.push(("spec.clusterIP".into(), text));
            }
        }
    }
    given.retain(|(_, text)| !text.is_empty());
    if given.iter().any(|(_, text)| *text == "None") {
        return Ok((true, Vec::new()));
    }
    let mut ips: Vec<IpAddr> = Vec::new();
    for (field, text) in given {
        let ip = ip(field.clone(), text)?;
        if ips.iter().any(|known| known.is_ipv4() == ip.is_ipv4()) {
            return Err(FieldError::new(
                field,
                format!("{ip} is the second address of its family: a Service has one per family"),
            ));
        }
        ips.push(ip);
    }
    Ok((false, ips))
}

/// `spec.externalIPs` without duplicates. Each must be an address that clients can route to; one that is not costs only itself.
pub(super) fn external_ips(list: Vec<String>, notes: &mut Vec<FieldError>) -> Vec<IpAddr> {
    let mut ips = Vec::new();
    for (i, text) in list.iter().enumerate() {
        match external_ip(format!("spec.externalIPs[{i}]"), text) {
            Ok(ip) if ips.contains(&ip) => {}
            Ok(ip) => ips.push(ip),
            Err(error) => notes.push(error),
        }
    }
    ips
}

fn external_ip(field: String, text: &str) -> Result<IpAddr, FieldError> {
    let ip = ip(field.clone(), text)?;
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local {
        return Err(FieldError::new(
            field,
            format!("{ip} cannot be an external address: use one that clients can route to"),
        ));
    }
    Ok(ip)
}

/// The addresses in the status, and whether it has other entries.
pub(super) fn ingress(status: Status) -> Result<(Vec<IngressAddress>, bool), FieldError> {
    let entries = status
        .load_balancer
        .and_then(|l| l.ingress)
        .unwrap_or_default();
    let (mut addresses, all) = (Vec::new(), entries.len());
    for (i, entry) in entries.into_iter().enumerate() {
        if let Some(text) = entry.ip.filter(|t| !t.is_empty()) {
            addresses.push(IngressAddress {
                ip: ip(format!("status.loadBalancer.ingress[{i}].ip"), &text)?,
                vip: entry.ip_mode.as_deref() != Some("Proxy"),
            });
        }
    }
    let mixed = addresses.len() < all;
    Ok((addresses, mixed))
}
