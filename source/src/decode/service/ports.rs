//! The ports of a Service.

use std::collections::BTreeSet;

use ferrolb_api::quote::quoted;
use ferrolb_api::view::{ServicePort, TargetPort};
use serde::Deserialize;
use serde_json::Value;

use crate::decode::FieldError;
use crate::decode::raw::{port, protocol};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Port {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<i64>,
    target_port: Option<Value>,
    node_port: Option<i64>,
}

/// The ports. If there are several, each needs a name, and all must differ. Only a Service without addresses of its own may have
/// none.
pub(super) fn ports(list: Vec<Port>, may_be_empty: bool) -> Result<Vec<ServicePort>, FieldError> {
    if list.is_empty() && !may_be_empty {
        return Err(FieldError::new(
            "spec.ports",
            "is empty: a Service needs at least one port",
        ));
    }
    let many = list.len() > 1;
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    let mut ports = Vec::with_capacity(list.len());
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
            // IANA_SVC_NAME, which Kubernetes also requires for container ports.
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

/// An optional port; Kubernetes uses 0 for unset.
pub(super) fn optional_port(field: String, number: Option<i64>) -> Result<Option<u16>, FieldError> {
    match number {
        None | Some(0) => Ok(None),
        Some(number) => port(field, number).map(Some),
    }
}
