//! The real writer.
//!
//! Addresses and annotation go in one merge patch of the subresource `status`: for Services it takes changes of annotations
//! too, so the right to change the rest of a Service is not needed. The uid in the patch makes the API server refuse it for
//! a Service that was made anew. Events are written by [`events`].

pub mod events;

use std::time::Duration;

use ferrolb_api::annotations::{ALLOCATED_FROM, PREFIXES};
use ferrolb_source::cluster::access::chain;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Map, Value, json};

use self::events::{Events, Telling};
use super::diff::Write;
use super::event::Event;
use super::writer::{WriteError, Writer};

/// Who writes, in managed fields and events.
pub const NAME: &str = "ferrolb-controller";
/// An answer that takes longer is none: the connection may be dead.
const PATIENCE: Duration = Duration::from_secs(15);

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
    async fn assign(&self, write: &Write) -> Result<(), WriteError> {
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
        answer(done, "patch services/status").await
    }

    async fn event(&self, event: &Event) -> Result<(), WriteError> {
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

/// Waits for an answer. `right`: what the request needs to be allowed.
pub(super) async fn answer<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
    right: &str,
) -> Result<(), WriteError> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(refusal(&error, right)),
        Err(_) => Err(WriteError::Unreachable(format!(
            "nothing within {} s",
            PATIENCE.as_secs()
        ))),
    }
}

fn refusal(error: &kube::Error, right: &str) -> WriteError {
    let kube::Error::Api(status) = error else {
        return WriteError::Unreachable(chain(error));
    };
    let message: String = status.message.chars().take(300).collect();
    match status.code {
        404 | 409 => WriteError::Stale(message),
        422 if message.contains("metadata.uid") => WriteError::Stale(message),
        401 => WriteError::Refused(
            "the API server does not accept these credentials: renew the token or the kubeconfig"
                .to_owned(),
        ),
        // Other refusals of that code (a namespace that ends, a quota) are for other reasons than rights.
        403 if message.contains(" cannot ") => WriteError::Refused(format!(
            "not allowed to {right}: give this user that right (deploy/kustomize/base/rbac.yaml has it)"
        )),
        429 | 500.. => WriteError::Unreachable(message),
        _ => WriteError::Refused(message),
    }
}

#[cfg(test)]
mod tests;
