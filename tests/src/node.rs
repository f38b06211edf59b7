//! A node: a host on the LAN with pods behind it, and the `ferrolb node` process on it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::lan::{Host, Lan};
use crate::netns::Netns;
use crate::paths::ferrolb;
use crate::pod::Pod;
use crate::pod_net::PodNet;
use crate::process::Process;

/// How a node's pods are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodLinks {
    /// With a veth and a route for each pod.
    Routed,
    /// With a shared bridge, `cni0`.
    Bridge,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Its name, `node-N`.
    pub name: String,
    /// N: the node's LAN address is 172.17.0.(10+N), its pods' range is 10.244.N.0/24.
    pub number: u8,
    /// Its host on the LAN.
    pub host: Host,
    pods: PodNet,
    agent: Option<Process>,
}

impl Node {
    /// Creates a node on the LAN with forwarding enabled, as a CNI does.
    pub fn new(lan: &mut Lan, number: u8, links: PodLinks) -> Self {
        let name = format!("node-{number}");
        let host = lan.plug(&name, 10 + number);
        for knob in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            let _ = host.netns.sysctl(knob, "1");
        }
        if links == PodLinks::Bridge {
            host.netns.ip(&format!(
                "link add cni0 type bridge\n\
                 addr add {}/24 dev cni0\n\
                 addr add {}/64 dev cni0 nodad\n\
                 link set cni0 up\n",
                gateway4(number),
                gateway6(number)
            ));
        }
        Self {
            name,
            number,
            pods: PodNet::new(number, &host.netns, links),
            host,
            agent: None,
        }
    }

    /// Adds routes to the pods of the other nodes.
    pub fn routes_to(&self, others: &[&Node]) {
        let mut lines = String::new();
        for other in others.iter().filter(|other| other.number != self.number) {
            let Host { v4, v6, .. } = &other.host;
            lines.push_str(&format!(
                "route replace {} via {v4}\nroute replace {} via {v6}\n",
                pod_cidr4(other.number),
                pod_cidr6(other.number)
            ));
        }
        self.host.netns.ip(&lines);
    }

    /// The node's namespace.
    pub fn netns(&self) -> &Netns {
        &self.host.netns
    }

    /// Creates a pod on the node, without a server.
    pub fn pod(&mut self, name: &str) -> Pod {
        self.pods.plug(name)
    }

    /// The pod network, for a kubelet.
    pub fn pod_net(&self) -> PodNet {
        self.pods.clone()
    }

    /// Starts or restarts `ferrolb node` on it.
    pub fn start_agent(&mut self, setup: &AgentSetup) {
        let mut command = setup.environment(self);
        command.extend(setup.confined.iter().cloned());
        command.push(ferrolb().display().to_string());
        command.extend(setup.arguments(self));
        let (program, arguments) = command.split_first().expect("it is not empty");
        let log = setup.folder.join(format!("{}.log", self.name));
        let folder = self.folder(setup);
        std::fs::create_dir_all(&folder).expect("a folder for the node's state");
        self.agent = Some(Process::start(
            &self.host.netns,
            &self.name,
            Path::new(program),
            arguments,
            &log,
        ));
    }

    /// The running agent.
    pub fn agent(&mut self) -> Option<&mut Process> {
        self.agent.as_mut()
    }

    /// Whether an agent was started and not dropped since.
    pub fn has_agent(&self) -> bool {
        self.agent.is_some()
    }

    /// Drops the agent, which ends it.
    pub fn drop_agent(&mut self) {
        self.agent = None;
    }

    /// The node's socket.
    pub fn socket(&self, setup: &AgentSetup) -> PathBuf {
        self.folder(setup).join("node.sock")
    }

    fn folder(&self, setup: &AgentSetup) -> PathBuf {
        setup.folder.join(&self.name)
    }

    /// The output of `ferrolb status -o json`, parsed.
    pub fn status(&self, setup: &AgentSetup) -> Result<Value, String> {
        let text = self.status_text(setup, true)?;
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
    }

    /// The output of `ferrolb status`.
    pub fn status_text(&self, setup: &AgentSetup, json: bool) -> Result<String, String> {
        let socket = self.socket(setup).display().to_string();
        let mut arguments = vec!["status", "--socket", &socket];
        if json {
            arguments.extend(["-o", "json"]);
        }
        let output = self
            .host
            .netns
            .output(&ferrolb().display().to_string(), &arguments);
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

/// The source of the nodes' configuration.
#[derive(Debug, Clone)]
pub enum AgentSource {
    /// A folder of manifests; a static list names all nodes.
    Manifests(PathBuf),
    /// An API server, with the settings of the DaemonSet.
    Api(InCluster),
}

/// The settings that a DaemonSet passes to the nodes.
#[derive(Debug, Clone)]
pub struct InCluster {
    /// The arguments.
    pub arguments: Vec<String>,
    /// Variables: name, value.
    pub variables: Vec<(String, String)>,
    /// Variables that hold the node's name.
    pub names: Vec<String>,
}

/// The settings that all nodes of an installation share.
#[derive(Debug, Clone)]
pub struct AgentSetup {
    /// The folder with each node's state, socket and log.
    pub folder: PathBuf,
    /// The source that the nodes read.
    pub source: AgentSource,
    /// The KubeProxyConfiguration.
    pub config: Option<PathBuf>,
    /// The key that seals the nodes' packets.
    pub key_file: PathBuf,
    /// All nodes: name and LAN address.
    pub members: Vec<(String, Ipv4Addr)>,
    /// `ipvs` or `none`.
    pub proxy: String,
    /// Additional arguments.
    pub extra: Vec<String>,
    /// A command prefix that gives the node a pod's files and confines it like its pod, or nothing.
    pub confined: Vec<String>,
}

/// The range of the nodes' ClusterIPs.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";

impl AgentSetup {
    /// The usual setup: everything is in `folder`, including a fresh key.
    pub fn new(folder: &Path, manifests: &Path, nodes: &[Node], proxy: &str) -> Self {
        let key_file = folder.join("key");
        std::fs::write(&key_file, format!("{}\n", "7f".repeat(32)))
            .expect("the key can be written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&key_file, mode).expect("the key can be made private");
        Self {
            folder: folder.to_path_buf(),
            source: AgentSource::Manifests(manifests.to_path_buf()),
            config: None,
            key_file,
            members: nodes
                .iter()
                .map(|node| (node.name.clone(), node.host.v4))
                .collect(),
            proxy: proxy.to_owned(),
            extra: Vec::new(),
            confined: Vec::new(),
        }
    }

    /// The command prefix that sets the variables of one node.
    fn environment(&self, node: &Node) -> Vec<String> {
        let AgentSource::Api(given) = &self.source else {
            return Vec::new();
        };
        let variables = given.variables.iter().map(|(n, v)| format!("{n}={v}"));
        let names = given.names.iter().map(|n| format!("{n}={}", node.name));
        std::iter::once("/usr/bin/env".to_owned())
            .chain(variables)
            .chain(names)
            .collect()
    }

    /// The command line of one node.
    pub fn arguments(&self, node: &Node) -> Vec<String> {
        let shown = |path: &Path| path.display().to_string();
        let mut arguments = match &self.source {
            AgentSource::Manifests(_) => vec!["node".to_owned()],
            AgentSource::Api(given) => given.arguments.clone(),
        };
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        if let AgentSource::Manifests(folder) = &self.source {
            option("--manifests", shown(folder));
            for (name, address) in &self.members {
                option("--member", format!("{name}={address}"));
            }
            option("--service-cidr", SERVICE_CIDR.to_owned());
            option("--node-name", node.name.clone());
        }
        option("--state", shown(&node.folder(self).join("state")));
        option("--key-file", shown(&self.key_file));
        option("--proxy", self.proxy.clone());
        option("--socket", shown(&node.socket(self)));
        if let Some(config) = &self.config {
            option("--config", shown(config));
        }
        arguments.extend(self.extra.iter().cloned());
        arguments
    }
}

/// How long a node may take from its start to its first complete answer.
pub const READY: Duration = Duration::from_secs(15);

/// The IPv4 prefix of a node's pods.
pub fn pod_cidr4(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

/// The IPv6 prefix of a node's pods.
pub fn pod_cidr6(number: u8) -> String {
    format!("fd00:10:244:{number}::/64")
}

pub(crate) fn gateway4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, number, 1)
}

pub(crate) fn gateway6(number: u8) -> Ipv6Addr {
    pod6(number, 1)
}

pub(crate) fn pod6(number: u8, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x10, 0x244, u16::from(number), 0, 0, 0, host)
}

/// The problems in a node's status. That a node is often late is left out: it says something about the machine and nothing about
/// what is tested.
pub fn problems(status: &Value) -> Vec<Value> {
    let all = status["problems"].as_array().into_iter().flatten();
    let late = |problem: &&Value| {
        let message = problem["message"].as_str().unwrap_or_default();
        problem["origin"] == "speaker" && message.starts_with("this node is late so often")
    };
    all.filter(|problem| !late(problem)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lateness_is_left_out() {
        let said = ferrolb_speaker::problem::Problem::Slow {
            node: "a".to_owned(),
            multiplier: 2,
            failover_ms: 7000,
        };
        let late = serde_json::json!({"origin": "speaker", "message": said.to_string()});
        let other = serde_json::json!({"origin": "speaker", "message": "another"});
        let status = serde_json::json!({"problems": [late, other]});
        assert_eq!(problems(&status), [other]);
    }
}
