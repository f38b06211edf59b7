//! An object as a watch delivers it: a tree of values, without the fields that only the API server's bookkeeping needs.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

/// The fields read from `metadata`. `managedFields` alone is often larger than everything else, so it is skipped while parsing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    #[serde(default)]
    labels: Value,
    #[serde(default)]
    annotations: Value,
    #[serde(default)]
    deletion_timestamp: Value,
}

#[derive(Deserialize)]
struct Wire {
    metadata: Metadata,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// An object of any kind.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    /// Only name, namespace, uid and resource version.
    meta: ObjectMeta,
    value: Value,
}

impl Watched {
    /// The tree that [`crate::decode`] reads. Items of a list do not contain their kind, so it is added.
    pub(super) fn tree(mut self, resource: &ApiResource) -> Value {
        if let Some(fields) = self.value.as_object_mut() {
            fields.insert("kind".into(), resource.kind.clone().into());
            fields.insert("apiVersion".into(), resource.api_version.clone().into());
        }
        self.value
    }
}

impl<'de> Deserialize<'de> for Watched {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wire { metadata, rest } = Wire::deserialize(deserializer)?;
        let meta = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            ..ObjectMeta::default()
        };
        let mut value = Value::Object(rest);
        value["metadata"] = json!({
            "name": meta.name,
            "namespace": meta.namespace,
            "uid": meta.uid,
            "labels": metadata.labels,
            "annotations": metadata.annotations,
            "deletionTimestamp": metadata.deletion_timestamp,
        });
        Ok(Self { meta, value })
    }
}

impl Resource for Watched {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}
