//! The life cycle of a Pod on its node. Its server starts, and its status reports it. When the Pod is deleted, its server
//! continues for the grace period and ends, then the object is removed (see KEP-1669 for what others see meanwhile: still ready,
//! and terminating).

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{Context, Place, status};
use crate::pod::Pod;

/// Runs until the object is gone. `seen` holds its newest state, and closes when it is gone.
pub(super) async fn live(
    context: Arc<Context>,
    place: Place,
    mut seen: watch::Receiver<core::Pod>,
) {
    let object = seen.borrow().clone();
    let metadata = &object.metadata;
    let name = metadata.name.clone().unwrap_or_default();
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let api: Api<core::Pod> = Api::namespaced(context.client.clone(), &namespace);
    let (pod, status) = begin(&context, place, &object, &name).await;
    report(&context, &api, &name, &status).await;
    let there = terminated(&context, &mut seen).await;
    // Wait for its processes to end.
    let _ = tokio::task::spawn_blocking(move || drop(pod)).await;
    if !there {
        return;
    }
    let status = status::ended(&seen.borrow());
    report(&context, &api, &name, &status).await;
    let mut delete = DeleteParams::default().grace_period(0);
    // Do not delete a later Pod of the same name.
    delete.preconditions = Some(Preconditions {
        uid: metadata.uid.clone(),
        resource_version: None,
    });
    let what = format!("delete {namespace}/{name}");
    context
        .insist(&what, || async {
            api.delete(&name, &delete).await.map(drop)
        })
        .await;
}

/// Creates the namespace and starts the server in it; this blocks until the server listens. If it never does, the Pod counts as
/// having no server.
async fn begin(
    context: &Arc<Context>,
    place: Place,
    object: &core::Pod,
    name: &str,
) -> (Option<Pod>, Value) {
    let (all, own, called) = (Arc::clone(context), object.clone(), name.to_owned());
    let started = tokio::task::spawn_blocking(move || {
        let mut pod = place.net.plug(&called);
        let served = all.servers.start(&own, &mut pod);
        let addresses = [pod.v4.into(), pod.v6.into()];
        served.then(|| {
            let status = status::running(&own, &place.addresses, &addresses);
            (Some(pod), status)
        })
    });
    let started = started.await;
    if started.is_err() {
        context.problem(format!("the server of {name} did not start"));
    }
    let served = started.ok().flatten();
    served.unwrap_or_else(|| (None, status::without_server(object)))
}

/// Waits until the grace period of a deleted Pod is over; returns false if the object disappears earlier.
async fn terminated(context: &Context, seen: &mut watch::Receiver<core::Pod>) -> bool {
    let mut asked = None;
    loop {
        let (deleted, grace) = {
            let object = seen.borrow_and_update();
            let metadata = &object.metadata;
            (
                metadata.deletion_timestamp.is_some(),
                metadata.deletion_grace_period_seconds.unwrap_or_default(),
            )
        };
        if !deleted {
            if seen.changed().await.is_err() {
                return false;
            }
            continue;
        }
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or_default());
        let grace = context.servers.grace.map_or(grace, |own| own.min(grace));
        // A second deletion may shorten the grace period.
        let over = *asked.get_or_insert_with(Instant::now) + grace;
        match timeout_at(over, seen.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return false,
            Err(_) => return true,
        }
    }
}

async fn report(context: &Context, api: &Api<core::Pod>, name: &str, status: &Value) {
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(status));
    context
        .insist(&format!("status of {name}"), || async {
            api.patch_status(name, &parameters, &patch).await.map(drop)
        })
        .await;
}
