//! The folder that the nodes read: the users' manifests exactly as in `deploy/examples/`, plus the objects that a cluster would
//! have: a Node for each node, a Pod for each pod.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::node::{Node, pod_cidr4, pod_cidr6};
use crate::pod::Pod;

/// The folder.
#[derive(Debug, Clone)]
pub struct Manifests {
    path: PathBuf,
}

/// What a Pod object contains besides its addresses and node.
#[derive(Debug, Clone, Default)]
pub struct PodMeta {
    /// Namespace.
    pub namespace: String,
    /// Labels.
    pub labels: Vec<(&'static str, &'static str)>,
    /// Named ports: name, protocol, number.
    pub ports: Vec<(&'static str, &'static str, u16)>,
}

impl Manifests {
    /// Creates an empty folder.
    pub fn empty(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self {
            path: path.to_path_buf(),
        }
    }

    /// Creates a folder with the users' manifests, byte for byte.
    pub fn examples(path: &Path) -> Self {
        let made = Self::empty(path);
        copy_tree(&crate::paths::workspace().join("deploy/examples"), path);
        made
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one file atomically: a reader sees either the old content or the new one.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).expect("a folder can be made");
        }
        // The name ends in .yaml only after all of the content is written.
        let draft = path.with_extension("draft");
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, &path))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Removes one file.
    pub fn remove(&self, name: &str) {
        let path = self.path.join(name);
        fs::remove_file(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Writes a Node object.
    pub fn node(&self, node: &Node) {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": node.name },
            "spec": { "podCIDRs": [pod_cidr4(node.number), pod_cidr6(node.number)] },
            "status": {
                "addresses": [
                    { "type": "InternalIP", "address": node.host.v4 },
                    { "type": "InternalIP", "address": node.host.v6 },
                ],
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        });
        self.write(&format!("lab-{}.yaml", node.name), &yaml(&object));
    }

    /// Writes a Pod object, ready or not.
    pub fn pod(&self, node: &Node, pod: &Pod, meta: &PodMeta, ready: bool) {
        self.write(
            &pod_file(&pod.name),
            &yaml(&pod_object(node, pod, meta, ready)),
        );
    }

    /// Removes a Pod object.
    pub fn remove_pod(&self, name: &str) {
        self.remove(&pod_file(name));
    }
}

fn pod_file(name: &str) -> String {
    format!("lab-pod-{name}.yaml")
}

/// A Pod as a kubelet would report it.
fn pod_object(node: &Node, pod: &Pod, meta: &PodMeta, ready: bool) -> Value {
    let labels: serde_json::Map<String, Value> = meta
        .labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    let ports: Vec<Value> = meta.ports.iter().map(|(name, protocol, port)| json!({ "name": name, "protocol": protocol, "containerPort": port })).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": pod.name, "namespace": meta.namespace, "labels": labels },
        "spec": { "nodeName": node.name, "containers": [{ "name": "server", "image": "lab", "ports": ports }] },
        "status": {
            "phase": "Running",
            "podIP": pod.v4,
            "podIPs": [{ "ip": pod.v4 }, { "ip": pod.v6 }],
            "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }],
        },
    })
}

/// JSON is YAML.
fn yaml(object: &Value) -> String {
    serde_json::to_string_pretty(object).expect("a value can be printed") + "\n"
}

fn copy_tree(from: &Path, to: &Path) {
    let entries = fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    for entry in entries.flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            fs::create_dir_all(&target).expect("a folder can be made");
            copy_tree(&source, &target);
        } else {
            let bytes = fs::read(&source).expect("an example can be read");
            fs::write(&target, bytes).expect("a manifest can be written");
        }
    }
}
