//! The real writer.
//!
//! Addresses and annotation go in one merge patch of the subresource `status`: for Services it takes changes of annotations
//! too, so the right to change the rest of a Service is not needed. The uid in the patch makes the API server refuse it for
//! a Service that was made anew. Events go to events.k8s.io/v1; one that repeats becomes a series of the first.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ferrolb_api::annotations::{ALLOCATED_FROM, PREFIXES};
use ferrolb_api::cluster::chain;
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::events::v1::Event as ApiEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Map, Value, json};

use super::diff::Write;
use super::event::Event;
use super::writer::{WriteError, Writer};

/// Who writes, in managed fields and events.
pub const NAME: &str = "ferrolb-controller";
/// An answer that takes longer is none: the connection may be dead.
const PATIENCE: Duration = Duration::from_secs(15);
/// An event that comes again within this time is one of a series.
const SERIES: Duration = Duration::from_secs(360);

/// By uid, reason and note: name of the event, how often it came, when last.
type Told = BTreeMap<(String, &'static str, String), (String, i32, Instant)>;

/// Writes to a cluster's API.
pub struct KubeWriter {
    client: Client,
    instance: String,
    told: Mutex<Told>,
}

impl KubeWriter {
    /// `instance`: which of all controllers this is, for events: the name of the pod or host.
    pub fn new(client: Client, instance: &str) -> Self {
        let instance = match instance {
            "" => NAME,
            // The API server takes no longer one.
            name => &name[..name.floor_char_boundary(128)],
        };
        Self {
            client,
            instance: instance.to_owned(),
            told: Mutex::default(),
        }
    }

    /// The series that an event belongs to, if it came before, with its number in it.
    fn earlier(&self, event: &Event) -> Option<(String, i32)> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, count, last) = told.get(&identity(event))?;
        (last.elapsed() < SERIES).then(|| (name.clone(), count.saturating_add(1)))
    }

    fn remember(&self, event: &Event, name: String, count: i32) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, (_, _, last)| last.elapsed() < SERIES);
        told.insert(identity(event), (name, count, Instant::now()));
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
        let events: Api<ApiEvent> = Api::namespaced(self.client.clone(), &event.service.namespace);
        let now = Timestamp::now();
        if let Some((name, count)) = self.earlier(event) {
            let series = json!({"series": {"count": count, "lastObservedTime": MicroTime(now)}});
            let patch = Patch::Merge(series);
            let params = PatchParams::default();
            let done = events.patch(&name, &params, &patch);
            match answer(done, "patch events.events.k8s.io").await {
                // It may have expired.
                Err(WriteError::Stale(_)) => {}
                Ok(()) => {
                    self.remember(event, name, count);
                    return Ok(());
                }
                failed => return failed,
            }
        }
        let name = format!("{}.{:x}", event.service.name, now.as_nanosecond());
        let new = describe(event, &name, &self.instance, now);
        let params = PostParams::default();
        let done = events.create(&params, &new);
        answer(done, "create events.events.k8s.io").await?;
        self.remember(event, name, 1);
        Ok(())
    }
}

fn identity(event: &Event) -> (String, &'static str, String) {
    (event.uid.clone(), event.kind.reason(), event.note.clone())
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

fn describe(event: &Event, name: &str, instance: &str, now: Timestamp) -> ApiEvent {
    let kind = if event.kind.is_warning() {
        "Warning"
    } else {
        "Normal"
    };
    ApiEvent {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(event.service.namespace.clone()),
            ..ObjectMeta::default()
        },
        action: Some(event.kind.action().to_owned()),
        reason: Some(event.kind.reason().to_owned()),
        note: Some(event.note.clone()),
        type_: Some(kind.to_owned()),
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(NAME.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            namespace: Some(event.service.namespace.clone()),
            name: Some(event.service.name.clone()),
            uid: Some(event.uid.clone()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        }),
        ..ApiEvent::default()
    }
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
