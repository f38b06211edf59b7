//! The Pod.

use ferrolb_api::ObjectKey;
use ferrolb_api::view::{ContainerPort, Pod};
use serde::Deserialize;
use serde_json::Value;

use super::raw::{Condition, Raw, ip, port, protocol, typed};
use super::{FieldError, annotations};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    ports: Option<Vec<Port>>,
    restart_policy: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    name: Option<String>,
    protocol: Option<String>,
    container_port: Option<i64>,
}

#[derive(Default, Deserialize)]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: Option<String>,
}

/// Decodes a Pod.
pub(super) fn decode(value: &Value, key: ObjectKey) -> Result<(Pod, Vec<FieldError>), FieldError> {
    let raw: Raw<Spec, Status> = typed(value)?;
    let mut metadata = raw.metadata.unwrap_or_default();
    let (weight, notes) = annotations::weight(&metadata.annotations());
    let spec = raw.spec.unwrap_or_default();
    let status = raw.status.unwrap_or_default();
    let mut ports = ports("containers", spec.containers.unwrap_or_default(), |_| true)?;
    // A sidecar is an init container that keeps running. Its ports come after those of the containers.
    ports.extend(self::ports(
        "initContainers",
        spec.init_containers.unwrap_or_default(),
        |c| c.restart_policy.as_deref() == Some("Always"),
    )?);
    let mut ips = Vec::new();
    for (i, entry) in status.pod_ips.unwrap_or_default().iter().enumerate() {
        if let Some(text) = entry.ip.as_deref().filter(|t| !t.is_empty()) {
            ips.push(ip(format!("status.podIPs[{i}].ip"), text)?);
        }
    }
    if ips.is_empty()
        && let Some(text) = status.pod_ip.filter(|t| !t.is_empty())
    {
        ips.push(ip("status.podIP", &text)?);
    }
    let pod = Pod {
        key,
        labels: metadata.labels(),
        ips,
        node: spec.node_name.filter(|n| !n.is_empty()),
        ports,
        ready: status
            .conditions
            .unwrap_or_default()
            .iter()
            .find(|c| c.r#type.as_deref() == Some("Ready"))
            .is_none_or(|c| c.status.as_deref() == Some("True")),
        terminating: metadata.is_deleted(),
        finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
        weight,
    };
    Ok((pod, notes))
}

fn ports(
    list: &str,
    containers: Vec<Container>,
    runs: impl Fn(&Container) -> bool,
) -> Result<Vec<ContainerPort>, FieldError> {
    let mut ports = Vec::new();
    for (c, container) in containers.into_iter().enumerate() {
        if !runs(&container) {
            continue;
        }
        for (p, raw) in container.ports.unwrap_or_default().into_iter().enumerate() {
            let field = |name: &str| format!("spec.{list}[{c}].ports[{p}].{name}");
            let Some(number) = raw.container_port else {
                return Err(FieldError::new(field("containerPort"), "is missing"));
            };
            ports.push(ContainerPort {
                name: raw.name.unwrap_or_default(),
                protocol: protocol(field("protocol"), raw.protocol.as_deref())?,
                port: port(field("containerPort"), number)?,
            });
        }
    }
    Ok(ports)
}
