//! The users' workloads on the real control plane: the controllers make Pods from their Deployment, the lab's kubelet runs them on three nodes, and the
//! controllers make EndpointSlices from those.

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

use crate::{alone, needs, one_of, shared};

const WHILE: Duration = Duration::from_secs(40);
/// How long a server goes on after its Pod is deleted.
const SHUTDOWN: Duration = Duration::from_secs(4);

/// Three nodes with a kubelet.
struct World {
    kubelet: Kubelet,
    nodes: Vec<Node>,
    _lan: Lan,
}

/// The world for one test, in a namespace of the API that the test has for itself.
struct Scene {
    plane: Arc<Plane>,
    namespace: String,
    world: Arc<World>,
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
    let servers = Servers::new(plane.folder())
        .with_web()
        .shutdown(SHUTDOWN * wait::slowness());
    let kubelet = Kubelet::start(plane, &all, servers);
    World {
        kubelet,
        nodes,
        _lan: lan,
    }
}

fn scene(namespace: &str) -> Scene {
    let (plane, running) = shared();
    scene_on(plane, Box::new(running), namespace)
}

/// With the plane for this test alone.
fn scene_alone(namespace: &str) -> Scene {
    let (plane, alone) = alone();
    scene_on(plane, Box::new(alone), namespace)
}

fn scene_on(plane: Arc<Plane>, held: Box<dyn Any>, namespace: &str) -> Scene {
    static WORLD: Mutex<Weak<World>> = Mutex::new(Weak::new());
    // One after another: what one does to a node would be seen by all.
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
    fn kubectl(&self, arguments: &[&str]) -> String {
        let mut all = vec!["-n", self.namespace.as_str()];
        all.extend(arguments);
        self.plane.kubectl(&all)
    }

    fn apply(&self, file: &str) {
        self.kubectl(&["apply", "-f", &example(file).display().to_string()]);
    }

    fn list(&self, path: &str) -> Vec<Value> {
        let list = self.plane.get(path).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    fn pods(&self) -> Vec<Value> {
        self.list(&format!("/api/v1/namespaces/{}/pods", self.namespace))
    }

    /// Waits until so many Pods are ready and not being deleted, and gives them.
    fn ready_pods(&self, count: usize) -> Vec<Value> {
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

    /// The endpoints of all slices of a Service.
    fn endpoints(&self, service: &str) -> Vec<Value> {
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

    /// What the server of a Pod says to a node.
    fn ask(&self, pod: &Value) -> std::io::Result<Answer> {
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

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|is| is["type"] == "Ready" && is["status"] == "True")
    })
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

fn names_of_targets(endpoints: &[Value]) -> BTreeSet<String> {
    endpoints
        .iter()
        .map(|endpoint| endpoint["targetRef"]["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_users_deployment_becomes_three_pods_that_answer_and_endpoints_on_three_nodes() {
    needs!("the_users_deployment_becomes_three_pods_that_answer_and_endpoints_on_three_nodes");
    let scene = scene("deployed");
    scene.apply("web-deploy.yaml");
    scene.apply("web-svc-cip.yaml");
    let pods = scene.ready_pods(3);
    for pod in &pods {
        let answer = scene.ask(pod).unwrap();
        assert_eq!(answer.pod, name(pod));
    }
    let nodes: BTreeSet<_> = pods
        .iter()
        .map(|pod| pod["spec"]["nodeName"].as_str().unwrap())
        .collect();
    assert_eq!(nodes, ["node-1", "node-2", "node-3"].into());
    let wanted: BTreeSet<String> = pods.iter().map(name).collect();
    let endpoints = wait::expect("three endpoints", WHILE, || {
        let endpoints = scene.endpoints("web-svc-cip");
        let ready = endpoints
            .iter()
            .all(|one| one["conditions"]["ready"] == true);
        if ready && names_of_targets(&endpoints) == wanted {
            Ok(endpoints)
        } else {
            Err(endpoints)
        }
    });
    assert!(endpoints.iter().all(|one| one["nodeName"].is_string()));
    let made = scene
        .plane
        .writes("system:serviceaccount:kube-system:endpointslice-controller");
    assert!(!made.is_empty(), "the real controller made the slices");
    assert_eq!(scene.world.kubelet.problems(), [""; 0]);
}

#[test]
fn a_deleted_pod_serves_until_it_ends_and_is_replaced() {
    needs!("a_deleted_pod_serves_until_it_ends_and_is_replaced");
    let scene = scene("replaced");
    scene.apply("web-deploy.yaml");
    scene.apply("web-svc-cip.yaml");
    let first = scene.ready_pods(3);
    let victim = &first[0];
    let victims_name = name(victim);
    wait::until("its endpoint is there", WHILE, || {
        names_of_targets(&scene.endpoints("web-svc-cip")).contains(&victims_name)
    });
    scene.kubectl(&["delete", "pod", &victims_name, "--wait=false"]);
    wait::expect("its endpoint is terminating and serving", WHILE, || {
        let endpoints = scene.endpoints("web-svc-cip");
        let is = |one: &Value, what: &str| one["conditions"][what] == true;
        let mut of_victim = endpoints
            .iter()
            .filter(|one| one["targetRef"]["name"] == victims_name.as_str());
        if of_victim.any(|one| is(one, "terminating") && is(one, "serving") && !is(one, "ready")) {
            Ok(())
        } else {
            Err(endpoints)
        }
    });
    let answer = scene.ask(victim).unwrap();
    assert_eq!(answer.pod, victims_name);
    wait::until("its object is gone", WHILE, || {
        !scene.pods().iter().any(|pod| name(pod) == victims_name)
    });
    let after = scene.ready_pods(3);
    assert!(after.iter().all(|pod| name(pod) != victims_name));
    assert!(scene.ask(victim).is_err(), "its server has ended");
}

#[test]
fn workloads_go_on_while_the_api_server_is_away_and_change_when_it_is_back() {
    needs!("workloads_go_on_while_the_api_server_is_away_and_change_when_it_is_back");
    let scene = scene_alone("outage");
    scene.apply("web-deploy.yaml");
    let pods = scene.ready_pods(3);
    scene.plane.stop_apiserver();
    for pod in &pods {
        assert_eq!(scene.ask(pod).unwrap().pod, name(pod));
    }
    scene.plane.compact_etcd();
    scene.plane.start_apiserver();
    let kept: BTreeSet<String> = scene.ready_pods(3).iter().map(name).collect();
    assert_eq!(kept, pods.iter().map(name).collect());
    scene.kubectl(&["scale", "deployment", "web", "--replicas=4"]);
    let more = scene.ready_pods(4);
    assert!(more.iter().all(|pod| scene.ask(pod).is_ok()));
}

#[test]
fn a_daemon_set_has_a_pod_on_each_node_and_an_unready_node_gets_no_others() {
    needs!("a_daemon_set_has_a_pod_on_each_node_and_an_unready_node_gets_no_others");
    let scene = scene("daemons");
    let template = r#"{ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "web", "image": "lab" }] } }"#;
    let file = scene.plane.folder().join("daemons.json");
    let text = format!(
        r#"{{ "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {{ "name": "each" }},
             "spec": {{ "selector": {{ "matchLabels": {{ "app": "web" }} }}, "template": {template} }} }}"#
    );
    std::fs::write(&file, text).unwrap();
    scene.kubectl(&["apply", "-f", &file.display().to_string()]);
    let pods = scene.ready_pods(3);
    let mut nodes: Vec<_> = pods
        .iter()
        .map(|pod| pod["spec"]["nodeName"].as_str().unwrap())
        .collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["node-1", "node-2", "node-3"]);
    scene.kubectl(&["delete", "daemonset", "each"]);
    scene.ready_pods(0);
    scene.world.kubelet.set_node_ready("node-2", false);
    scene.apply("web-deploy.yaml");
    let pods = scene.ready_pods(3);
    scene.world.kubelet.set_node_ready("node-2", true);
    assert!(
        pods.iter().all(|pod| pod["spec"]["nodeName"] != "node-2"),
        "{pods:?}"
    );
}

#[test]
fn a_pod_without_a_server_says_so_and_can_be_deleted() {
    needs!("a_pod_without_a_server_says_so_and_can_be_deleted");
    let scene = scene("unknown");
    scene.kubectl(&["run", "unknown", "--image=lab"]);
    wait::expect("its status says why it does not run", WHILE, || {
        let pods = scene.pods();
        let reason =
            pods[0]["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
        if reason == "ImagePullBackOff" {
            Ok(())
        } else {
            Err(pods)
        }
    });
    scene.kubectl(&["delete", "pod", "unknown", "--grace-period=1"]);
    assert!(scene.pods().is_empty());
}
