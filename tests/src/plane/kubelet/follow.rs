//! Follows all Pods: binds those without a node to one, runs those on a node of the lab, and passes each Pod's changes to the
//! task that runs it.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::{ListParams, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;
use tokio::sync::watch;

use super::{Context, PAUSE, life, schedule};

/// Follows all Pods and starts what they need.
pub(super) async fn follow(context: &Arc<Context>) {
    let pods = Api::<core::Pod>::all(context.client.clone());
    let mut events = pin!(watcher(pods, watcher::Config::default()));
    let mut pods = Pods::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => pods.listed.clear(),
            Ok(Event::InitApply(pod)) => {
                pods.listed.extend(pod.metadata.uid.clone());
                pods.see(context, pod);
            }
            Ok(Event::InitDone) => pods.forget_unlisted(),
            Ok(Event::Apply(pod)) => pods.see(context, pod),
            Ok(Event::Delete(pod)) => pods.forget(&pod),
            // The API server is unreachable, or requires a new list: the watcher handles both.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Pods by UID.
#[derive(Default)]
struct Pods {
    lives: HashMap<String, watch::Sender<core::Pod>>,
    listed: HashSet<String>,
    binding: HashSet<String>,
}

impl Pods {
    fn see(&mut self, context: &Arc<Context>, pod: core::Pod) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if let Some(life) = self.lives.get(&uid) {
            life.send_replace(pod);
            return;
        }
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let Some(node) = node else {
            if pod.metadata.deletion_timestamp.is_none() && self.binding.insert(uid) {
                tokio::spawn(bind(Arc::clone(context), pod));
            }
            return;
        };
        // A node that is not in the lab.
        let Some(place) = context.places.get(&node) else {
            return;
        };
        let (life, seen) = watch::channel(pod);
        self.lives.insert(uid, life);
        tokio::spawn(life::live(Arc::clone(context), place.clone(), seen));
    }

    fn forget(&mut self, pod: &core::Pod) {
        if let Some(uid) = &pod.metadata.uid {
            self.lives.remove(uid);
            self.binding.remove(uid);
        }
    }

    fn forget_unlisted(&mut self) {
        self.lives.retain(|uid, _| self.listed.contains(uid));
        self.binding.retain(|uid| self.listed.contains(uid));
    }
}

/// Binds a Pod to a node as soon as a suitable one exists.
async fn bind(context: Arc<Context>, pod: core::Pod) {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let pods: Api<core::Pod> = Api::namespaced(context.client.clone(), &namespace);
    let nodes: Api<core::Node> = Api::all(context.client.clone());
    let turn = context.turn.fetch_add(1, Ordering::Relaxed);
    loop {
        let listed = nodes.list(&ListParams::default()).await;
        let listed = listed.map(|list| list.items).unwrap_or_default();
        if let Some(node) = schedule::choose(&listed, &pod, turn) {
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name },
                "target": { "apiVersion": "v1", "kind": "Node", "name": node },
            });
            let parameters = PostParams::default();
            context
                .insist(&format!("bind {namespace}/{name}"), || async {
                    pods.create_subresource::<_, serde_json::Value>(
                        "binding",
                        &name,
                        &parameters,
                        &binding,
                    )
                    .await
                    .map(drop)
                })
                .await;
            return;
        }
        tokio::time::sleep(PAUSE).await;
        if matches!(pods.get_opt(&name).await, Ok(None)) {
            return;
        }
    }
}
