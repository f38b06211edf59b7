//! Three nodes with a kubelet on the shared plane, and a namespace of the API for each test.

use std::any::Any;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ferrolb_tests::client::{self, Answer, Ask};
use ferrolb_tests::lan::Lan;
use ferrolb_tests::node::{Node, PodLinks};
use ferrolb_tests::paths::workspace;
use ferrolb_tests::plane::Plane;
use ferrolb_tests::plane::kubelet::{Kubelet, Servers};
use ferrolb_tests::wait;
use serde_json::Value;

use crate::{alone, one_of, shared};

pub(super) const WHILE: Duration = Duration::from_secs(40);

/// Three nodes with a kubelet.
pub(super) struct World {
    pub(super) kubelet: Kubelet,
    nodes: Vec<Node>,
    _lan: Lan,
}

/// The world for one test, in an API namespace of its own.
pub(super) struct Scene {
    pub(super) plane: Arc<Plane>,
    namespace: String,
    pub(super) world: Arc<World>,
    _turn: MutexGuard<'static, ()>,
    _held: Box<dyn Any>,
}

fn world(plane: &Plane) -> World {
    let mut lan = Lan::new();
    let nodes: Vec<Node> = (1..=3)
        .map(|number| Node::new(&mut lan, number, PodLinks::Routed))
        .collect();
    let all: Vec<&Node> = nodes.iter().collect();
    for node in &nodes {
        node.routes_to(&all);
    }
    let servers = Servers::new(plane.folder()).with_web().short_grace();
    let kubelet = Kubelet::start(plane, &all, servers);
    World {
        kubelet,
        nodes,
        _lan: lan,
    }
}

pub(super) fn scene(namespace: &str) -> Scene {
    let (plane, running) = shared();
    scene_on(plane, Box::new(running), namespace)
}

/// A scene with the plane for this test alone.
pub(super) fn scene_alone(namespace: &str) -> Scene {
    let (plane, alone) = alone();
    scene_on(plane, Box::new(alone), namespace)
}

fn scene_on(plane: Arc<Plane>, held: Box<dyn Any>, namespace: &str) -> Scene {
    static WORLD: Mutex<Weak<World>> = Mutex::new(Weak::new());
    // Tests run one after another, because all of them would see what one does to a node.
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let world = one_of(&WORLD, || world(&plane));
    plane.kubectl(&["create", "namespace", namespace]);
    Scene {
        plane,
        namespace: namespace.to_owned(),
        world,
        _turn: turn,
        _held: held,
    }
}

fn example(name: &str) -> PathBuf {
    let mut found = Vec::new();
    let mut folders = vec![workspace().join("deploy/examples")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() == name {
                found.push(entry.path());
            }
        }
    }
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found.remove(0)
}

impl Scene {
    pub(super) fn kubectl(&self, arguments: &[&str]) -> String {
        let mut all = vec!["-n", self.namespace.as_str()];
        all.extend(arguments);
        self.plane.kubectl(&all)
    }

    pub(super) fn apply(&self, file: &str) {
        self.kubectl(&["apply", "-f", &example(file).display().to_string()]);
    }

    fn list(&self, path: &str) -> Vec<Value> {
        let list = self.plane.get(path).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    pub(super) fn pods(&self) -> Vec<Value> {
        self.list(&format!("/api/v1/namespaces/{}/pods", self.namespace))
    }

    /// Waits until this many Pods are ready and not being deleted, and returns them.
    pub(super) fn ready_pods(&self, count: usize) -> Vec<Value> {
        wait::expect(&format!("{count} ready pods"), WHILE, || {
            let pods = self.pods();
            let ready: Vec<Value> = pods
                .iter()
                .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
                .filter(|pod| pod["status"]["phase"] == "Running" && is_ready(pod))
                .cloned()
                .collect();
            if ready.len() == count {
                Ok(ready)
            } else {
                let seen: Vec<_> = pods.iter().map(|pod| pod["status"].to_string()).collect();
                Err((seen, self.world.kubelet.problems()))
            }
        })
    }

    /// The endpoints in all slices of a Service.
    pub(super) fn endpoints(&self, service: &str) -> Vec<Value> {
        let path = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector=kubernetes.io/service-name%3D{service}",
            self.namespace
        );
        let slices = self.list(&path);
        let endpoints = slices
            .iter()
            .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
        endpoints.collect()
    }

    /// What the server of a Pod answers to a node.
    pub(super) fn ask(&self, pod: &Value) -> std::io::Result<Answer> {
        let address: Ipv4Addr = pod["status"]["podIP"].as_str().unwrap().parse().unwrap();
        let server = SocketAddr::from((address, 8000));
        self.world.nodes[0]
            .netns()
            .run(move || client::http(server, Ask::default()))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.plane
            .kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}

pub(super) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|is| is["type"] == "Ready" && is["status"] == "True")
    })
}

pub(super) fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

pub(super) fn names_of_targets(endpoints: &[Value]) -> BTreeSet<String> {
    endpoints
        .iter()
        .map(|endpoint| endpoint["targetRef"]["name"].as_str().unwrap().to_owned())
        .collect()
}
