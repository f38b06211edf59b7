//! Converts a tree of values, from YAML or JSON, to the views.
//!
//! Each kind has a file with its slim raw form (serde, only the fields that are used) and the conversion to a view. A wrong type,
//! an unknown word or a number out of range is an error with the path of the field. Anything else that ferrolb has no use for is
//! ignored. An object is accepted or rejected as a whole, with two exceptions, which are recorded as notes: an invalid request
//! for addresses does not cost a Service its ClusterIP, and one bad pool in MetalLB's old ConfigMap does not affect the others.

use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::problem::{Cause, Consequence, Problem, Subject, shown};
use serde_json::Value;

use crate::yaml;

use kinds::{ignored_note, kind};

pub(crate) mod annotations;
pub(crate) mod duration;
pub(crate) mod endpoints;
mod kinds;
pub(crate) mod legacy;
mod namespace;
pub(crate) mod node;
pub(crate) mod pod;
pub(crate) mod pool;
pub(crate) mod proxy_config;
pub(crate) mod raw;
pub(crate) mod selector;
pub(crate) mod service;
mod service_cidr;
pub(crate) mod timestamp;
mod unknown;

#[cfg(test)]
mod slips;
#[cfg(test)]
mod tests;

/// What is wrong with one field of an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// Path of the field (`spec.ports[0].port`).
    pub field: String,
    /// What is wrong and how to fix it.
    pub message: String,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }

    /// Converts the error to a problem.
    pub(crate) fn problem(self, subject: Subject, consequence: Consequence) -> Problem {
        let cause = Cause::Invalid { text: self.message };
        Problem::new(subject, cause)
            .field(self.field)
            .so(consequence)
    }
}

/// The result of decoding an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// An object that ferrolb reads, with errors in it that do not make it unusable.
    Good(Box<Object>, Vec<FieldError>),
    /// An object that cannot be used, with its identity if that could be read.
    Broken(Option<(Kind, ObjectKey)>, FieldError),
    /// An object that ferrolb does not use. The note says so if the owner might expect otherwise.
    Ignored(Option<FieldError>),
}

/// The subject of messages about an object: the object itself if its kind and name are valid, otherwise what can be read of them,
/// quoted if it is not safe for a terminal.
pub fn subject(value: &Value, default_namespace: &str) -> Subject {
    let Some(kind_name) = text(value, "/kind") else {
        return Subject::Other {
            title: "object".to_owned(),
        };
    };
    let api_version = text(value, "/apiVersion").unwrap_or_default();
    if let Ok(Some(kind)) = kind(kind_name, api_version) {
        if kind == Kind::ProxyConfig {
            return Subject::Kind { kind };
        }
        if let Ok(key) = key(value, kind, default_namespace) {
            return Subject::object_of(kind, key);
        }
    }
    let namespace = match kind_name {
        "Node" | "Namespace" | "ServiceCIDR" | "KubeProxyConfiguration" => "",
        _ => text(value, "/metadata/namespace").unwrap_or(default_namespace),
    };
    let kind = shown(kind_name);
    let title = match text(value, "/metadata/name") {
        Some(name) => format!("{kind} {}", ObjectKey::new(shown(namespace), shown(name))),
        None => kind,
    };
    Subject::Other { title }
}

/// Where MetalLB 0.9 keeps its configuration by default.
pub const METALLB_NAMESPACE: &str = "metallb-system";

/// Decodes one object. Namespaced objects without a namespace are placed in `default_namespace`.
pub fn object(value: &Value, default_namespace: &str) -> Decoded {
    object_with(value, default_namespace, METALLB_NAMESPACE)
}

/// Like [`object`], with a different namespace for the ConfigMap of MetalLB 0.9.
pub fn object_with(value: &Value, default_namespace: &str, metallb_namespace: &str) -> Decoded {
    let broken =
        |field: &str, message: String| Decoded::Broken(None, FieldError::new(field, message));
    if !value.is_object() {
        return broken(
            "",
            "this is not a Kubernetes object: write one with apiVersion, kind and metadata".into(),
        );
    }
    let Some(kind_name) = text(value, "/kind") else {
        return broken("kind", "is missing: say what the object is".into());
    };
    let Some(api_version) = text(value, "/apiVersion") else {
        return broken(
            "apiVersion",
            "is missing: say which version of the kind this is".into(),
        );
    };
    let kind = match kind(kind_name, api_version) {
        Ok(Some(kind)) => kind,
        Ok(None) => return Decoded::Ignored(ignored_note(kind_name, api_version)),
        Err(error) => return Decoded::Broken(None, error),
    };
    let key = match key(value, kind, default_namespace) {
        Ok(key) => key,
        Err(error) => return Decoded::Broken(None, error),
    };
    let decoded = match kind {
        Kind::Service => service::decode(value, key.clone())
            .map(|(s, notes)| (Object::Service(Arc::new(s)), notes)),
        Kind::EndpointSlice => match endpoints::decode(value, key.clone()) {
            Ok(Some((slice, notes))) => Ok((Object::EndpointSlice(Arc::new(slice)), notes)),
            Ok(None) => return Decoded::Ignored(None),
            Err(error) => Err(error),
        },
        Kind::Node => {
            node::decode(value, key.clone()).map(|n| (Object::Node(n.into()), Vec::new()))
        }
        Kind::ServiceCidr => service_cidr::decode(value, key.clone())
            .map(|r| (Object::ServiceCidr(r.into()), Vec::new())),
        Kind::Namespace => {
            namespace::decode(value, key.clone()).map(|n| (Object::Namespace(n.into()), Vec::new()))
        }
        Kind::Pod => {
            pod::decode(value, key.clone()).map(|(p, notes)| (Object::Pod(Arc::new(p)), notes))
        }
        Kind::IpAddressPool => pool::decode_pool(value, key.clone())
            .map(|p| (Object::IpAddressPool(p.into()), Vec::new())),
        Kind::L2Advertisement => pool::decode_advertisement(value, key.clone())
            .map(|a| (Object::L2Advertisement(a.into()), Vec::new())),
        Kind::LegacyConfig => match legacy::decode(value, key.clone(), metallb_namespace) {
            Ok(Some((config, notes))) => Ok((Object::LegacyConfig(config.into()), notes)),
            Ok(None) => {
                return Decoded::Ignored(legacy::elsewhere(value, &key, metallb_namespace));
            }
            Err(error) => Err(error),
        },
        Kind::ProxyConfig => proxy_config::decode(value)
            .map(|(config, notes)| (Object::ProxyConfig(Box::new(config)), notes)),
    };
    match decoded {
        Ok((object, notes)) => Decoded::Good(Box::new(object), notes),
        Err(error) => Decoded::Broken(Some((kind, key)), error),
    }
}

/// The fields of an object that its kind does not have. Other kinds than those that are read have none.
pub(crate) fn unknown_fields(value: &Value) -> Vec<FieldError> {
    let api_version = text(value, "/apiVersion").unwrap_or_default();
    match text(value, "/kind").map(|name| kind(name, api_version)) {
        Some(Ok(Some(kind))) => unknown::fields(value, kind),
        _ => Vec::new(),
    }
}

/// The items of a `List`, each with `apiVersion` and `kind` (a typed list omits them); `None` if the value is not a list.
pub fn items(value: &mut Value) -> Option<Vec<Value>> {
    let kind = text(value, "/kind")?.strip_suffix("List")?.to_owned();
    let version = text(value, "/apiVersion").map(str::to_owned);
    let items = match value.get_mut("items")?.take() {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        _ => return None,
    };
    let named = |mut item: Value| {
        if let Some(fields) = item.as_object_mut()
            && !kind.is_empty()
        {
            fields.entry("kind").or_insert_with(|| kind.clone().into());
            if let Some(version) = &version {
                fields
                    .entry("apiVersion")
                    .or_insert_with(|| version.clone().into());
            }
        }
        item
    };
    Some(items.into_iter().map(named).collect())
}

/// The KubeProxyConfiguration in kubeadm's ConfigMap `kube-proxy`, and its field there; `None` if the value is no such ConfigMap.
pub fn embedded(value: &Value) -> Option<(&'static str, Result<Value, FieldError>)> {
    const FIELD: &str = "data[config.conf]";
    let is = |pointer, word| text(value, pointer) == Some(word);
    if !(is("/kind", "ConfigMap") && is("/apiVersion", "v1") && is("/metadata/name", "kube-proxy"))
    {
        return None;
    }
    let inner = text(value, "/data/config.conf")?;
    let read = yaml::value(inner).map_err(|error| {
        let line = error.line.map(|l| format!("line {l} of the text: "));
        FieldError::new(FIELD, format!("{}{error}", line.unwrap_or_default()))
    });
    Some((FIELD, read))
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer)?.as_str().filter(|s| !s.is_empty())
}

fn key(value: &Value, kind: Kind, default_namespace: &str) -> Result<ObjectKey, FieldError> {
    if kind == Kind::ProxyConfig {
        return Ok(ObjectKey::new("", "kube-proxy"));
    }
    let name = match value.pointer("/metadata/name") {
        Some(Value::String(name)) if !name.is_empty() => name,
        Some(Value::Null | Value::String(_)) | None => {
            return Err(FieldError::new(
                "metadata.name",
                "is missing: name the object",
            ));
        }
        Some(_) => {
            return Err(FieldError::new(
                "metadata.name",
                "is not a string: put it in quotes",
            ));
        }
    };
    raw::check_name("metadata.name", name, 253)?;
    if matches!(kind, Kind::Node | Kind::Namespace | Kind::ServiceCidr) {
        return Ok(ObjectKey::new("", name));
    }
    let namespace = match value.pointer("/metadata/namespace") {
        Some(Value::String(namespace)) if !namespace.is_empty() => namespace,
        Some(Value::Null | Value::String(_)) | None => default_namespace,
        Some(_) => {
            return Err(FieldError::new(
                "metadata.namespace",
                "is not a string: put it in quotes",
            ));
        }
    };
    raw::check_name("metadata.namespace", namespace, 63)?;
    Ok(ObjectKey::new(namespace, name))
}
