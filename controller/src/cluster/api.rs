//! The real writer.
//!
//! Addresses and annotation go in one merge patch of the subresource `status`: for Services it takes changes of annotations
//! too, so the right to change the rest of a Service is not needed. The uid in the patch makes the API server refuse it for
//! a Service that was made anew. Events are written by [`events`].

pub mod events;

use ferrolb_api::annotations::{ALLOCATED_FROM, PREFIXES};
use ferrolb_api::refusal::Refusal;
use ferrolb_source::cluster::access::refusal;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Map, Value, json};

use self::events::{Events, Telling};
use super::diff::Write;
use super::event::Event;
use super::writer::Writer;

/// Who writes, in managed fields and events.
pub const NAME: &str = "ferrolb-controller";

/// Writes to a cluster's API.
pub struct KubeWriter {
    client: Client,
    events: Events,
}

impl KubeWriter {
    /// `instance`: which of all controllers this is, for events: the name of the pod or host.
    pub fn new(client: Client, instance: &str) -> Self {
        Self {
            events: Events::new(client.clone(), NAME, instance),
            client,
        }
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
        let telling = Telling {
            service: &event.service,
            uid: &event.uid,
            warning: event.kind.is_warning(),
            reason: event.kind.reason(),
            action: event.kind.action(),
            note: &event.note,
        };
        self.events.publish(&telling).await
    }
}

/// The merge patch: what is absent is removed, and of the two annotations only the newer one is left.
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
