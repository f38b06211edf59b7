//! The Service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use super::raw::{Metadata, ip, net, one_of, port, protocol, quoted, strings, typed};
use super::{FieldError, annotations};
use crate::ObjectKey;
use crate::view::service::DualStack;
use crate::view::{IngressAddress, Service, ServicePort, ServiceType, TargetPort, TrafficPolicy};

/// Labels by which a Service is another proxy's.
const FOREIGN: [&str; 2] = [
    "service.kubernetes.io/service-proxy-name",
    "service.kubernetes.io/headless",
];
/// Kubernetes' default and bound of the affinity timeout.
const AFFINITY_SECONDS: i64 = 10_800;
const AFFINITY_MAX: i64 = 86_400;

#[derive(Deserialize)]
struct Raw {
    metadata: Option<Metadata>,
    spec: Option<Spec>,
    status: Option<Status>,
}

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
    health_check_node_port: Option<i64>,
    publish_not_ready_addresses: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<i64>,
    target_port: Option<Value>,
    node_port: Option<i64>,
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

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
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

/// Decodes a Service; the notes are about its request for addresses.
pub(super) fn decode(
    value: &Value,
    key: ObjectKey,
) -> Result<(Service, Vec<FieldError>), FieldError> {
    let raw: Raw = typed(value)?;
    let mut metadata = raw.metadata.unwrap_or_default();
    let spec = raw.spec.unwrap_or_default();
    let service_type = service_type(spec.r#type.as_deref())?;
    let (headless, cluster_ips) = cluster_ips(&spec)?;
    let labels = metadata.labels();
    let request = annotations::decode(&metadata.annotations(), spec.load_balancer_ip.as_deref());
    let service = Service {
        service_type,
        headless,
        cluster_ips,
        external_ips: external_ips(spec.external_ips.unwrap_or_default())?,
        ingress: ingress(raw.status.unwrap_or_default())?,
        load_balancer_ip: request.load_balancer_ip,
        load_balancer_class: spec.load_balancer_class.filter(|c| !c.is_empty()),
        source_ranges: spec
            .load_balancer_source_ranges
            .unwrap_or_default()
            .iter()
            .enumerate()
            .map(|(i, text)| net(format!("spec.loadBalancerSourceRanges[{i}]"), text))
            .collect::<Result<_, _>>()?,
        ports: ports(
            spec.ports.unwrap_or_default(),
            headless || service_type == ServiceType::ExternalName,
        )?,
        selector: strings(spec.selector),
        external_policy: policy("spec.externalTrafficPolicy", spec.external_traffic_policy)?,
        internal_policy: policy("spec.internalTrafficPolicy", spec.internal_traffic_policy)?,
        affinity_seconds: affinity(
            spec.session_affinity.as_deref(),
            spec.session_affinity_config,
        )?,
        dual_stack: match spec.ip_family_policy.as_deref() {
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
        },
        health_check_node_port: optional_port(
            "spec.healthCheckNodePort".into(),
            spec.health_check_node_port,
        )?,
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
        foreign_proxy: FOREIGN.iter().any(|label| labels.contains_key(*label)),
        labels,
        annotations: request.annotations,
        key,
    };
    Ok((service, request.notes))
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

fn cluster_ips(spec: &Spec) -> Result<(bool, Vec<IpAddr>), FieldError> {
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

fn external_ips(list: Vec<String>) -> Result<Vec<IpAddr>, FieldError> {
    let mut ips = Vec::new();
    for (i, text) in list.iter().enumerate() {
        let field = format!("spec.externalIPs[{i}]");
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
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    Ok(ips)
}

fn ingress(status: Status) -> Result<Vec<IngressAddress>, FieldError> {
    let entries = status
        .load_balancer
        .and_then(|l| l.ingress)
        .unwrap_or_default();
    let mut addresses = Vec::new();
    for (i, entry) in entries.into_iter().enumerate() {
        if let Some(text) = entry.ip.filter(|t| !t.is_empty()) {
            addresses.push(IngressAddress {
                ip: ip(format!("status.loadBalancer.ingress[{i}].ip"), &text)?,
                vip: entry.ip_mode.as_deref() != Some("Proxy"),
            });
        }
    }
    Ok(addresses)
}

fn ports(list: Vec<Port>, may_be_empty: bool) -> Result<Vec<ServicePort>, FieldError> {
    if list.is_empty() && !may_be_empty {
        return Err(FieldError::new(
            "spec.ports",
            "is empty: a Service needs at least one port",
        ));
    }
    let many = list.len() > 1;
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    let mut ports = Vec::new();
    for (i, raw) in list.into_iter().enumerate() {
        let field = |name: &str| format!("spec.ports[{i}].{name}");
        let name = raw.name.unwrap_or_default();
        if many && name.is_empty() {
            return Err(FieldError::new(
                field("name"),
                "is missing: with several ports each needs a name",
            ));
        }
        if name.len() > 63 {
            return Err(FieldError::new(
                field("name"),
                format!("{} is too long: use at most 63 letters", quoted(&name)),
            ));
        }
        let protocol = protocol(field("protocol"), raw.protocol.as_deref())?;
        let Some(number) = raw.port else {
            return Err(FieldError::new(
                field("port"),
                "is missing: say which port clients use",
            ));
        };
        let port = port(field("port"), number)?;
        if !names.insert(name.clone()) {
            return Err(FieldError::new(
                field("name"),
                format!(
                    "{} is there twice: give each port its own name",
                    quoted(&name)
                ),
            ));
        }
        if !numbers.insert((protocol, port)) {
            return Err(FieldError::new(
                field("port"),
                format!("{port}/{protocol} is there twice: remove one"),
            ));
        }
        ports.push(ServicePort {
            target_port: target_port(field("targetPort"), raw.target_port, port)?,
            node_port: optional_port(field("nodePort"), raw.node_port)?,
            name,
            protocol,
            port,
        });
    }
    Ok(ports)
}

fn target_port(
    field: String,
    value: Option<Value>,
    default: u16,
) -> Result<TargetPort, FieldError> {
    let wrong = |shown: String| {
        FieldError::new(
            field.clone(),
            format!(
                "{shown} is neither a port number nor the name of a container port (at most 15 lower case letters, digits and '-', with a letter among them)"
            ),
        )
    };
    match value {
        None | Some(Value::Null) => Ok(TargetPort::Number(default)),
        Some(Value::Number(n)) => match n.as_i64() {
            Some(0) => Ok(TargetPort::Number(default)),
            Some(n) => port(field, n).map(TargetPort::Number),
            None => Err(wrong(n.to_string())),
        },
        Some(Value::String(name)) if name.is_empty() => Ok(TargetPort::Number(default)),
        Some(Value::String(name)) => {
            // IANA_SVC_NAME, which Kubernetes asks of container ports too.
            let good = name.len() <= 15
                && name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
                && name.chars().any(|c| c.is_ascii_lowercase());
            if good {
                Ok(TargetPort::Name(name))
            } else if name.parse::<u16>().is_ok() {
                Err(FieldError::new(
                    field,
                    format!(
                        "{} is a string: write the number without quotes",
                        quoted(&name)
                    ),
                ))
            } else {
                Err(wrong(quoted(&name)))
            }
        }
        Some(other) => Err(wrong(quoted(&other.to_string()))),
    }
}

fn optional_port(field: String, number: Option<i64>) -> Result<Option<u16>, FieldError> {
    match number {
        None | Some(0) => Ok(None),
        Some(number) => port(field, number).map(Some),
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
