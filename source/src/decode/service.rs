//! The Service.

mod addresses;
mod ports;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use addresses::{Status, cluster_ips, external_ips, ingress};
use ferrolb_api::view::service::DualStack;
use ferrolb_api::view::{Service, ServiceType, TrafficPolicy};
use ferrolb_api::{Family, ObjectKey};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use ports::{Port, optional_port, ports};
use serde::Deserialize;
use serde_json::Value;

use super::raw::{Raw, net, one_of, strings, typed};
use super::{FieldError, annotations};

/// Labels that assign a Service to another proxy.
const FOREIGN: [&str; 2] = [
    "service.kubernetes.io/service-proxy-name",
    "service.kubernetes.io/headless",
];
/// Kubernetes' default affinity timeout, in seconds.
const AFFINITY_SECONDS: i64 = 10_800;
const AFFINITY_MAX: i64 = 86_400;
/// Ranges that no packet comes from.
const NOBODY: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 32)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128)),
];

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    r#type: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<String>>,
    #[serde(rename = "loadBalancerIP")]
    load_balancer_ip: Option<String>,
    load_balancer_class: Option<String>,
    load_balancer_source_ranges: Option<Vec<String>>,
    ports: Option<Vec<Port>>,
    selector: Option<BTreeMap<String, Option<String>>>,
    external_traffic_policy: Option<String>,
    internal_traffic_policy: Option<String>,
    session_affinity: Option<String>,
    session_affinity_config: Option<AffinityConfig>,
    ip_family_policy: Option<String>,
    ip_families: Option<Vec<String>>,
    health_check_node_port: Option<i64>,
    publish_not_ready_addresses: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Option<ClientIp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientIp {
    timeout_seconds: Option<i64>,
}

/// Reads `spec.ipFamilyPolicy` and the first of `spec.ipFamilies`. Two families without a policy require both (Kubernetes API,
/// Service, defaulting of `ipFamilyPolicy`).
fn families(spec: &Spec) -> Result<(DualStack, Option<Family>), FieldError> {
    const FIELD: &str = "spec.ipFamilies";
    let mut families = Vec::new();
    for (i, text) in spec.ip_families.iter().flatten().enumerate() {
        let family = match text.as_str() {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            other => return Err(one_of(format!("{FIELD}[{i}]"), other, "IPv4 or IPv6")),
        };
        if families.contains(&family) {
            let text = format!("{family} is there twice: name each family once");
            return Err(FieldError::new(format!("{FIELD}[{i}]"), text));
        }
        families.push(family);
    }
    let both = families.len() > 1;
    let policy = match spec.ip_family_policy.as_deref() {
        Some("SingleStack") if both => {
            return Err(FieldError::new(
                FIELD,
                "there are two families, but spec.ipFamilyPolicy is SingleStack: keep one of them",
            ));
        }
        None | Some("") if both => DualStack::Require,
        None | Some("" | "SingleStack") => DualStack::Single,
        Some("PreferDualStack") => DualStack::Prefer,
        Some("RequireDualStack") => DualStack::Require,
        Some(other) => {
            return Err(one_of(
                "spec.ipFamilyPolicy",
                other,
                "SingleStack, PreferDualStack or RequireDualStack",
            ));
        }
    };
    Ok((policy, families.first().copied()))
}

/// Decodes a Service. The notes are about addresses: those that it requests, its externalIPs and its source ranges.
pub(super) fn decode(
    value: &Value,
    key: ObjectKey,
) -> Result<(Service, Vec<FieldError>), FieldError> {
    let raw: Raw<Spec, Status> = typed(value)?;
    let mut metadata = raw.metadata.unwrap_or_default();
    let spec = raw.spec.unwrap_or_default();
    let service_type = service_type(spec.r#type.as_deref())?;
    let (headless, cluster_ips) = cluster_ips(&spec)?;
    let (dual_stack, primary_family) = families(&spec)?;
    let labels = metadata.labels();
    let request = annotations::decode(&metadata.annotations(), spec.load_balancer_ip.as_deref());
    let mut notes = Vec::new();
    let (ingress, ingress_is_mixed) = ingress(raw.status.unwrap_or_default())?;
    let service = Service {
        uid: metadata.uid(),
        created: metadata.created(),
        service_type,
        headless,
        cluster_ips,
        external_ips: external_ips(spec.external_ips.unwrap_or_default(), &mut notes),
        ingress,
        ingress_is_mixed,
        load_balancer_ip: request.load_balancer_ip,
        load_balancer_class: spec.load_balancer_class.filter(|c| !c.is_empty()),
        source_ranges: source_ranges(
            &spec.load_balancer_source_ranges.unwrap_or_default(),
            &mut notes,
        ),
        ports: ports(
            spec.ports.unwrap_or_default(),
            headless || service_type == ServiceType::ExternalName,
        )?,
        selector: strings(spec.selector).into(),
        external_policy: policy("spec.externalTrafficPolicy", spec.external_traffic_policy)?,
        internal_policy: policy("spec.internalTrafficPolicy", spec.internal_traffic_policy)?,
        affinity_seconds: affinity(
            spec.session_affinity.as_deref(),
            spec.session_affinity_config,
        )?,
        dual_stack,
        primary_family,
        health_check_node_port: optional_port(
            "spec.healthCheckNodePort".into(),
            spec.health_check_node_port,
        )?,
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
        foreign_proxy: FOREIGN.iter().any(|label| labels.get(label).is_some()),
        labels,
        annotations: request.annotations,
        key,
    };
    notes.extend(request.notes);
    Ok((service, notes))
}

/// `spec.loadBalancerSourceRanges`. A family without a range has no limit, so where a range cannot be read, each family that has
/// no other one is closed.
fn source_ranges(list: &[String], notes: &mut Vec<FieldError>) -> Vec<IpNet> {
    let mut ranges = Vec::with_capacity(list.len());
    let mut bad = false;
    for (i, text) in list.iter().enumerate() {
        match net(format!("spec.loadBalancerSourceRanges[{i}]"), text) {
            Ok(range) => ranges.push(range),
            Err(mut error) => {
                error.message.push_str(
                    "; a family that has no other range lets nobody in until it is corrected",
                );
                notes.push(error);
                bad = true;
            }
        }
    }
    for nobody in NOBODY.into_iter().filter(|_| bad) {
        let family = Family::of(nobody.addr());
        if !ranges.iter().any(|r| Family::of(r.addr()) == family) {
            ranges.push(nobody);
        }
    }
    ranges
}

fn service_type(text: Option<&str>) -> Result<ServiceType, FieldError> {
    match text {
        None | Some("" | "ClusterIP") => Ok(ServiceType::ClusterIP),
        Some("NodePort") => Ok(ServiceType::NodePort),
        Some("LoadBalancer") => Ok(ServiceType::LoadBalancer),
        Some("ExternalName") => Ok(ServiceType::ExternalName),
        Some(other) => Err(one_of(
            "spec.type",
            other,
            "ClusterIP, NodePort, LoadBalancer or ExternalName",
        )),
    }
}

fn policy(field: &str, text: Option<String>) -> Result<TrafficPolicy, FieldError> {
    match text.as_deref() {
        None | Some("" | "Cluster") => Ok(TrafficPolicy::Cluster),
        Some("Local") => Ok(TrafficPolicy::Local),
        Some(other) => Err(one_of(field, other, "Cluster or Local")),
    }
}

fn affinity(text: Option<&str>, config: Option<AffinityConfig>) -> Result<Option<u32>, FieldError> {
    match text {
        None | Some("" | "None") => return Ok(None),
        Some("ClientIP") => {}
        Some(other) => return Err(one_of("spec.sessionAffinity", other, "None or ClientIP")),
    }
    let seconds = config
        .and_then(|c| c.client_ip)
        .and_then(|c| c.timeout_seconds)
        .unwrap_or(AFFINITY_SECONDS);
    match u32::try_from(seconds) {
        Ok(s) if s > 0 && seconds <= AFFINITY_MAX => Ok(Some(s)),
        _ => Err(FieldError::new(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            format!("{seconds} is out of range: use 1 to {AFFINITY_MAX}"),
        )),
    }
}
