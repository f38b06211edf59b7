//! The real writer, which writes to an API server.
//!
//! One merge patch of the subresource `status` carries both addresses and annotation. For Services this subresource also accepts
//! changes of annotations, so the controller needs no permission to change the rest of a Service. The patch contains the uid, so
//! the API server refuses it if the Service was recreated. [`events`] writes the events.

pub mod events;

use ferrolb_api::ObjectKey;
use ferrolb_api::annotations::{ALLOCATED_FROM, PREFIXES};
use ferrolb_api::object::Kind;
use ferrolb_api::refusal::Refusal;
use ferrolb_source::cluster::access::refusal;
use k8s_openapi::api::core::v1::Service;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Map, Value, json};

use self::events::{Events, Telling};
use super::diff::Write;
use super::event::Event;
use super::writer::Writer;

/// The name of the writer in managed fields and events.
pub const NAME: &str = "ferrolb-controller";

/// Writes to a cluster's API.
pub struct KubeWriter {
    client: Client,
    events: Events,
}

impl KubeWriter {
    /// `instance` identifies this controller in events: the name of the pod or host.
    pub fn new(client: Client, instance: &str) -> Self {
        Self {
            events: Events::new(client.clone(), NAME, instance),
            client,
        }
    }
}

impl KubeWriter {
    /// The uid of an object, empty if it cannot be found. It is listed, because the controller has no right to get it.
    async fn uid(&self, of: Kind, object: &ObjectKey) -> String {
        let (group, version, kind) = events::regarded(of);
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &object.namespace, &resource);
        let named = ListParams::default().fields(&format!("metadata.name={}", object.name));
        let found = api.list_metadata(&named).await.ok();
        let found = found.and_then(|list| list.items.into_iter().next());
        found.and_then(|o| o.metadata.uid).unwrap_or_default()
    }
}

impl Writer for KubeWriter {
    async fn assign(&self, write: &Write) -> Result<(), Refusal> {
        let services: Api<DynamicObject> = Api::namespaced_with(
            self.client.clone(),
            &write.key.namespace,
            &ApiResource::erase::<Service>(&()),
        );
        let params = PatchParams {
            field_manager: Some(NAME.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(patch(write));
        let done = services.patch_status(&write.key.name, &params, &patch);
        let done = done.await.map(drop);
        done.map_err(|e| refusal(&e, "patch services/status"))
    }

    async fn event(&self, event: &Event) -> Result<(), Refusal> {
        let found = match event.uid.is_empty() && event.of != Kind::Service {
            true => self.uid(event.of, &event.object).await,
            false => event.uid.clone(),
        };
        let telling = Telling {
            of: event.of,
            object: &event.object,
            uid: &found,
            warning: event.kind.is_warning(),
            reason: event.kind.reason(),
            action: event.kind.action(),
            note: &event.note,
        };
        self.events.publish(&telling).await
    }
}

/// The merge patch: absent values are removed, and of the two annotations only the newer one remains.
fn patch(write: &Write) -> Value {
    let mut annotations = Map::new();
    for (i, prefix) in PREFIXES.iter().enumerate() {
        let pool = write.pool.clone().filter(|_| i == 0);
        annotations.insert(format!("{prefix}{ALLOCATED_FROM}"), pool.into());
    }
    let ingress: Vec<Value> = write.addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let ingress = Some(ingress).filter(|list| !list.is_empty());
    let mut metadata = json!({"annotations": annotations});
    if !write.uid.is_empty() {
        metadata["uid"] = write.uid.clone().into();
    }
    json!({"metadata": metadata, "status": {"loadBalancer": {"ingress": ingress}}})
}

#[cfg(test)]
mod tests;
