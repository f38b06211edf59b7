//! The Node.

use ferrolb_api::ObjectKey;
use ferrolb_api::view::Node;
use serde::Deserialize;
use serde_json::Value;

use super::FieldError;
use super::raw::{Condition, Raw, ip, net, typed};

const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
const ZONE: &str = "topology.kubernetes.io/zone";
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

#[derive(Default, Deserialize)]
struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
    taints: Option<Vec<Taint>>,
}

#[derive(Deserialize)]
struct Taint {
    key: Option<String>,
}

#[derive(Default, Deserialize)]
struct Status {
    addresses: Option<Vec<Address>>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
struct Address {
    r#type: Option<String>,
    address: Option<String>,
}

/// Decodes a Node.
pub(super) fn decode(value: &Value, key: ObjectKey) -> Result<Node, FieldError> {
    let raw: Raw<Spec, Status> = typed(value)?;
    let mut metadata = raw.metadata.unwrap_or_default();
    let labels = metadata.labels();
    let spec = raw.spec.unwrap_or_default();
    let status = raw.status.unwrap_or_default();
    let mut node = Node {
        name: key.name.clone(),
        uid: metadata.uid(),
        excluded: labels.get(EXCLUDE).is_some(),
        zone: labels.get(ZONE).filter(|z| !z.is_empty()).cloned(),
        labels,
        network_unavailable: status.conditions.unwrap_or_default().iter().any(|c| {
            c.r#type.as_deref() == Some("NetworkUnavailable") && c.status.as_deref() == Some("True")
        }),
        leaving: metadata.is_deleted()
            || spec
                .taints
                .unwrap_or_default()
                .iter()
                .any(|t| t.key.as_deref() == Some(TO_BE_DELETED)),
        ..Node::default()
    };
    for (i, entry) in status.addresses.unwrap_or_default().iter().enumerate() {
        let list = match entry.r#type.as_deref() {
            Some("InternalIP") => &mut node.internal_ips,
            Some("ExternalIP") => &mut node.external_ips,
            _ => continue,
        };
        let text = entry.address.as_deref().unwrap_or_default();
        list.push(ip(format!("status.addresses[{i}].address"), text)?);
    }
    match spec.pod_cidrs {
        Some(cidrs) if !cidrs.is_empty() => {
            for (i, text) in cidrs.iter().enumerate() {
                node.pod_cidrs
                    .push(net(format!("spec.podCIDRs[{i}]"), text)?);
            }
        }
        _ => {
            if let Some(text) = spec.pod_cidr.filter(|t| !t.is_empty()) {
                node.pod_cidrs.push(net("spec.podCIDR", &text)?);
            }
        }
    }
    Ok(node)
}
