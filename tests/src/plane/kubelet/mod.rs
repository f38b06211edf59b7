//! The kubelet of the lab, a single one for all of its nodes, with a scheduler. It registers the nodes, binds Pods to them,
//! creates a namespace with a server for each Pod, and maintains the Pod's status, with the permissions of its own user. There
//! are no images, volumes or probes: a Pod is ready when its server listens. If a test changes a status, the change stays.

mod follow;
mod life;
mod schedule;
mod servers;
mod status;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::json;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

pub use self::servers::Servers;
use super::{Plane, User};
use crate::node::Node;
use crate::pod_net::PodNet;

/// The pause before a request that the API server refused or did not receive is retried.
const PAUSE: Duration = Duration::from_millis(200);

/// The running kubelet. When it is dropped, the pods and their servers end; their objects stay.
#[derive(Debug)]
pub struct Kubelet {
    context: Arc<Context>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    worker: Option<JoinHandle<()>>,
}

/// State that all of its tasks share.
struct Context {
    client: Client,
    places: BTreeMap<String, Place>,
    servers: Servers,
    turn: AtomicUsize,
    problems: Mutex<Vec<String>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context({:?}, {:?})", self.places.keys(), self.servers)
    }
}

/// A node's data that matter to its pods.
#[derive(Debug, Clone)]
struct Place {
    net: PodNet,
    addresses: Vec<IpAddr>,
}

impl Kubelet {
    /// Registers the nodes and runs their Pods from now on.
    pub fn start(plane: &Plane, nodes: &[&Node], servers: Servers) -> Self {
        grant(plane);
        let places = nodes.iter().map(|node| {
            let place = Place {
                net: node.pod_net(),
                addresses: vec![node.host.v4.into(), node.host.v6.into()],
            };
            (node.name.clone(), place)
        });
        let places = places.collect();
        let objects: Vec<_> = nodes.iter().map(|node| status::node(node)).collect();
        let config = plane.kubeconfig(User::Kubelet);
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = std::sync::mpsc::channel();
        let worker = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime starts");
            runtime.block_on(async {
                let context = Arc::new(Context {
                    client: client(&config).await,
                    places,
                    servers,
                    turn: AtomicUsize::new(0),
                    problems: Mutex::new(Vec::new()),
                });
                for object in &objects {
                    context.register(object).await;
                }
                let _ = ready.send((Arc::clone(&context), Handle::current()));
                tokio::select! {
                    () = follow::follow(&context) => {}
                    _ = stopped => {}
                }
            });
            // This ends the tasks and their pods; it waits for a server that is just starting.
        });
        let (context, runtime) = started.recv().expect("the kubelet starts");
        Self {
            context,
            runtime,
            stop: Some(stop),
            worker: Some(worker),
        }
    }

    /// Sets the Ready condition of a node's object. Its pods continue to run.
    pub fn set_node_ready(&self, name: &str, ready: bool) {
        let (context, name) = (Arc::clone(&self.context), name.to_owned());
        let (done, waited) = std::sync::mpsc::channel();
        self.runtime.spawn(async move {
            let nodes: Api<core::Node> = Api::all(context.client.clone());
            let (parameters, patch) = (PatchParams::default(), status::node_ready(ready));
            let patch = Patch::Strategic(&patch);
            context
                .insist(&format!("status of {name}"), || async {
                    nodes
                        .patch_status(&name, &parameters, &patch)
                        .await
                        .map(drop)
                })
                .await;
            let _ = done.send(());
        });
        waited.recv().expect("the kubelet runs");
    }

    /// Errors that retries did not resolve.
    pub fn problems(&self) -> Vec<String> {
        let problems = self.context.problems.lock();
        problems.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// Grants exactly the permissions of the kubelet's user. A plane that was used before already has them.
fn grant(plane: &Plane) {
    let rules = json!([
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "delete"] },
        { "apiGroups": [""], "resources": ["pods/status", "nodes/status"], "verbs": ["patch"] },
        { "apiGroups": [""], "resources": ["pods/binding"], "verbs": ["create"] },
        { "apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "create", "patch"] },
    ]);
    let name = User::Kubelet.name();
    let role = json!({ "metadata": { "name": name }, "rules": rules });
    let binding = json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name }],
    });
    for (kind, object) in [("clusterroles", role), ("clusterrolebindings", binding)] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/{kind}");
        let answer = plane
            .access()
            .request(User::Admin, "POST", &path, Some(&object));
        let (code, body) = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(code == 201 || code == 409, "{path}: {code}: {body}");
    }
}

async fn client(config: &std::path::Path) -> Client {
    let config = Kubeconfig::read_from(config).expect("the kubeconfig was just written");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(config, &options)
        .await
        .expect("it has one context");
    Client::try_from(config).expect("a client needs no more")
}

impl Context {
    /// Creates a Node and removes the taint that admission adds to new nodes, which a node lifecycle controller would do.
    async fn register(&self, object: &serde_json::Value) {
        let nodes: Api<core::Node> = Api::all(self.client.clone());
        let node: core::Node =
            serde_json::from_value(object.clone()).expect("it is a Node's shape");
        let name = node.metadata.name.clone().unwrap_or_default();
        let (post, patch) = (PostParams::default(), PatchParams::default());
        self.insist(&name, || async {
            nodes.create(&post, &node).await.map(drop)
        })
        .await;
        let tidy = json!({ "metadata": { "labels": object["metadata"]["labels"] }, "spec": { "taints": null } });
        let tidy = Patch::Merge(&tidy);
        self.insist(&name, || async {
            nodes.patch(&name, &patch, &tidy).await.map(drop)
        })
        .await;
    }

    /// Retries until it succeeds, or until the API server reports that it cannot: the object is gone, exists already, or was
    /// replaced by another.
    async fn insist<F: Future<Output = kube::Result<()>>>(
        &self,
        what: &str,
        attempt: impl Fn() -> F,
    ) {
        loop {
            match attempt().await {
                Ok(()) => return,
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
                Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => {
                    return self.problem(format!("{what}: {}", status.message));
                }
                // Unreachable, or not permitted yet.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn problem(&self, text: String) {
        eprintln!("kubelet: {text}");
        let problems = self.problems.lock();
        problems.unwrap_or_else(PoisonError::into_inner).push(text);
    }
}
