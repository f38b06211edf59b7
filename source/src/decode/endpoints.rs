//! The EndpointSlice.

use ferrolb_api::view::{Endpoint, EndpointPort, EndpointSlice};
use ferrolb_api::{Family, ObjectKey};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::raw::{Metadata, ip, one_of, port, protocol, typed};
use super::{FieldError, annotations};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    metadata: Option<Metadata>,
    address_type: Option<String>,
    endpoints: Option<Vec<RawEndpoint>>,
    ports: Option<Vec<RawPort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEndpoint {
    addresses: Option<Vec<String>>,
    conditions: Option<Conditions>,
    node_name: Option<String>,
    hints: Option<Hints>,
}

#[derive(Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hints {
    for_nodes: Option<Vec<Hint>>,
    for_zones: Option<Vec<Hint>>,
}

#[derive(Deserialize)]
struct Hint {
    name: String,
}

#[derive(Deserialize)]
struct RawPort {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<i64>,
}

/// Decodes an EndpointSlice; `None` if it holds host names, which no proxy can use.
pub(super) fn decode(
    value: &Value,
    key: ObjectKey,
) -> Result<Option<(EndpointSlice, Vec<FieldError>)>, FieldError> {
    let raw: Raw = typed(value)?;
    let mut metadata = raw.metadata.unwrap_or_default();
    let labels = metadata.labels();
    let annotations = metadata.annotations();
    let (weight, notes) = annotations::weight(&annotations);
    let triggered = annotations
        .get(TRIGGERED)
        .and_then(|text| text.parse::<Timestamp>().ok());
    let Some(service) = labels.get(SERVICE_NAME).filter(|s| !s.is_empty()) else {
        return Err(FieldError::new(
            "metadata.labels",
            format!("the label {SERVICE_NAME} is missing: it says whose endpoints these are"),
        ));
    };
    let family = match raw.address_type.as_deref() {
        Some("IPv4") => Family::V4,
        Some("IPv6") => Family::V6,
        Some("FQDN") => return Ok(None),
        Some(other) => return Err(one_of("addressType", other, "IPv4, IPv6 or FQDN")),
        None => {
            return Err(FieldError::new(
                "addressType",
                "is missing: use IPv4, IPv6 or FQDN",
            ));
        }
    };
    let raw_ports = raw.ports.unwrap_or_default();
    let mut ports = Vec::with_capacity(raw_ports.len());
    for (i, raw) in raw_ports.into_iter().enumerate() {
        // A port without a number means all ports; a proxy cannot use it.
        let Some(number) = raw.port.filter(|n| *n != 0) else {
            continue;
        };
        ports.push(EndpointPort {
            name: raw.name.unwrap_or_default(),
            protocol: protocol(format!("ports[{i}].protocol"), raw.protocol.as_deref())?,
            port: port(format!("ports[{i}].port"), number)?,
        });
    }
    let raw_endpoints = raw.endpoints.unwrap_or_default();
    let mut endpoints = Vec::with_capacity(raw_endpoints.len());
    for (i, raw) in raw_endpoints.into_iter().enumerate() {
        let Some(text) = raw.addresses.as_ref().and_then(|a| a.first()) else {
            continue;
        };
        let field = format!("endpoints[{i}].addresses[0]");
        let address = ip(field.clone(), text)?;
        if Family::of(address) != family {
            return Err(FieldError::new(
                field,
                format!(
                    "{address} is not {family}, the addressType of the slice: write one slice per family"
                ),
            ));
        }
        let conditions = raw.conditions.unwrap_or_default();
        let hints = raw.hints.unwrap_or_default();
        let names = |list: Option<Vec<Hint>>| {
            list.unwrap_or_default()
                .into_iter()
                .map(|h| h.name)
                .collect()
        };
        let ready = conditions.ready.unwrap_or(true);
        endpoints.push(Endpoint {
            address,
            node: raw.node_name.filter(|n| !n.is_empty()),
            ready,
            serving: conditions.serving.unwrap_or(ready),
            terminating: conditions.terminating.unwrap_or(false),
            hint_nodes: names(hints.for_nodes),
            hint_zones: names(hints.for_zones),
            weight,
        });
    }
    let slice = EndpointSlice {
        service: service.clone(),
        key,
        ports,
        endpoints,
        triggered: triggered.map(Timestamp::as_millisecond),
    };
    Ok(Some((slice, notes)))
}
