//! The users' cluster: three nodes and a client on the LAN, the pods that the manifests select, and `ferrolb node` on each node.
//! The demo and the tests use it.

mod api;
mod confine;
mod pod;

pub use self::api::{Api, NAMESPACE};

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::lan::{Host, Lan};
use crate::manifests::{Manifests, PodMeta};
use crate::node::{AgentSetup, Node, PodLinks};
use crate::paths::TempDir;
use crate::pod::Pod;
use crate::servers::{self, Nginx};
use crate::wait;

/// The ClusterIP of web-svc-cip.yaml in the default range: the first one after the API server's, because it is the first by name.
pub const WEB_CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 2);
/// The number of nodes.
pub const NODES: u8 = 3;
/// The ports of the pods' nginx: they differ from the Service's ports, so that the named target ports matter.
pub const NGINX_PORTS: (u16, u16) = (8080, 8443);
/// The web pods' ports in addition to 8000: long-lived TCP, UDP.
pub const ECHO_PORTS: (u16, u16) = (9000, 9001);

/// The whole cluster. Fields are dropped in order: agents and servers end before their namespaces.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, node-1 first.
    pub nodes: Vec<Node>,
    /// A machine on the LAN that is not a node.
    pub client: Host,
    /// Addresses of the pods of the Deployment `web`, one on each node.
    pub web: Vec<Ipv4Addr>,
    /// The ingress controller's nginx.
    pub nginx: Vec<Nginx>,
    /// The pods that no other part owns: three of `web`, two CoreDNS on the first two nodes, one nginx on the last one.
    pub pods: Vec<Pod>,
    /// The control plane, if there is one.
    pub api: Option<Api>,
    /// The manifests that the agents read.
    pub manifests: Manifests,
    /// The settings with which the agents start.
    pub setup: AgentSetup,
    /// The segment.
    pub lan: Lan,
    folder: TempDir,
}

/// The labels and ports that the manifests' selectors match.
pub mod select {
    use super::PodMeta;

    /// Pods of the Deployment `web`.
    pub fn web() -> PodMeta {
        PodMeta {
            namespace: "default".to_owned(),
            labels: vec![("app", "web")],
            ports: vec![],
        }
    }

    /// CoreDNS.
    pub fn dns() -> PodMeta {
        PodMeta {
            namespace: "kube-system".to_owned(),
            labels: vec![("k8s-app", "kube-dns")],
            ports: vec![],
        }
    }

    /// The ingress controller, with the names of the target ports.
    pub fn ingress() -> PodMeta {
        let (http, https) = super::NGINX_PORTS;
        PodMeta {
            namespace: "ingress-nginx".to_owned(),
            labels: vec![
                ("app.kubernetes.io/name", "ingress-nginx"),
                ("app.kubernetes.io/part-of", "ingress-nginx"),
            ],
            ports: vec![("http", "TCP", http), ("https", "TCP", https)],
        }
    }
}

impl Cluster {
    /// Creates namespaces, pods and manifests. No agent is running yet.
    pub fn new(proxy: &str, links: PodLinks) -> Self {
        let folder = TempDir::new("cluster");
        let mut lan = Lan::new();
        let mut nodes: Vec<Node> = (1..=NODES)
            .map(|number| Node::new(&mut lan, number, links))
            .collect();
        for node in &nodes {
            let all: Vec<&Node> = nodes.iter().collect();
            node.routes_to(&all);
        }
        let client = lan.plug("client", 100);
        let logs = folder.path();
        let manifests = Manifests::examples(&logs.join("manifests"));
        for node in &nodes {
            manifests.node(node);
        }
        let (tcp, udp) = ECHO_PORTS;
        let (mut web, mut pods) = (Vec::new(), Vec::new());
        for node in &mut nodes {
            let mut pod = node.pod(&format!("web-{}", node.number));
            pod.serve(logs, &[8000], &[tcp], &[udp]);
            manifests.pod(node, &pod, &select::web(), true);
            web.push(pod.v4);
            pods.push(pod);
        }
        for node in &mut nodes[..2] {
            let mut pod = node.pod(&format!("coredns-{}", node.number));
            servers::coredns(&mut pod, logs, WEB_CLUSTER_IP);
            manifests.pod(node, &pod, &select::dns(), true);
            pods.push(pod);
        }
        let last = &mut nodes[usize::from(NODES) - 1];
        let mut pod = last.pod(&format!("nginx-{}", last.number));
        let nginx = Nginx::start(&mut pod, logs, NGINX_PORTS.0, NGINX_PORTS.1);
        manifests.pod(last, &pod, &select::ingress(), true);
        pods.push(pod);
        let mut setup = AgentSetup::new(logs, manifests.path(), &nodes, proxy);
        if wait::slowness() > 1 {
            setup
                .extra
                .extend(["--timer-scale".to_owned(), wait::slowness().to_string()]);
        }
        Self {
            nodes,
            client,
            web,
            nginx: vec![nginx],
            pods,
            api: None,
            manifests,
            setup,
            lan,
            folder,
        }
    }

    /// Starts `ferrolb node` on every node and waits until all of them respond.
    pub fn start(&mut self) {
        for node in &mut self.nodes {
            node.start_agent(&self.setup);
        }
        for node in &self.nodes {
            wait::expect(
                &format!("{} answers", node.name),
                Duration::from_secs(15),
                || node.status(&self.setup).map(drop),
            );
        }
    }

    /// The folder with logs and state.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The node with this name.
    pub fn node(&self, name: &str) -> &Node {
        self.nodes
            .iter()
            .find(|node| node.name == name)
            .unwrap_or_else(|| panic!("no node {name}"))
    }

    /// The node with this name, mutable.
    pub fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes
            .iter_mut()
            .find(|node| node.name == name)
            .unwrap_or_else(|| panic!("no node {name}"))
    }

    /// A Service as one node knows it.
    pub fn service(&self, node: &Node, namespace: &str, name: &str) -> Result<Value, String> {
        let status = node.status(&self.setup)?;
        let services = status["services"].as_array().cloned().unwrap_or_default();
        let found = services
            .into_iter()
            .find(|service| service["namespace"] == namespace && service["name"] == name);
        found.ok_or_else(|| format!("{} does not know {namespace}/{name}", node.name))
    }

    /// The ClusterIP that the node programmed, once it is served.
    pub fn cluster_ip(&self, node: &Node, namespace: &str, name: &str) -> Result<Ipv4Addr, String> {
        let service = self.service(node, namespace, name)?;
        if service["state"] != "Serving" {
            return Err(format!("{service}"));
        }
        first_v4(&service["clusterIps"], |value| value.as_str())
            .ok_or_else(|| format!("no ClusterIP: {service}"))
    }

    /// The external addresses that a node shows for a Service.
    pub fn external_ips(
        &self,
        node: &Node,
        namespace: &str,
        name: &str,
    ) -> Result<Vec<IpAddr>, String> {
        let service = self.service(node, namespace, name)?;
        let addresses = service["addresses"].as_array().cloned().unwrap_or_default();
        Ok(addresses
            .iter()
            .filter_map(|address| address["ip"].as_str()?.parse().ok())
            .collect())
    }

    /// The announcer of an address, if all running nodes agree.
    pub fn announcer(&self, address: IpAddr) -> Result<String, String> {
        let running = self.nodes.iter().filter(|node| node.has_agent());
        let mut said = running
            .map(|node| self.announcer_as_seen_by(node, address))
            .collect::<Result<BTreeSet<_>, _>>()?;
        match (said.len(), said.pop_first()) {
            (1, Some(name)) => Ok(name),
            (_, first) => Err(format!("{address}: {first:?} and {said:?}")),
        }
    }

    /// The announcer of an address, as one node sees it.
    pub fn announcer_as_seen_by(&self, node: &Node, address: IpAddr) -> Result<String, String> {
        let status = node.status(&self.setup)?;
        let services = status["services"].as_array().into_iter().flatten();
        let mut entries =
            services.flat_map(|service| service["addresses"].as_array().into_iter().flatten());
        let entry = entries.find(|entry| entry["ip"] == address.to_string());
        let name = entry.and_then(|entry| entry["node"].as_str());
        name.map(str::to_owned)
            .ok_or_else(|| format!("{} knows no announcer of {address}", node.name))
    }

    /// Waits until every running node serves every load-balancer Service of the manifests and each address has one announcer.
    pub fn settle(&self, addresses: &[Ipv4Addr]) -> Result<(), String> {
        for &address in addresses {
            wait::value(
                &format!("one announcer for {address}"),
                Duration::from_secs(20),
                || self.announcer(address.into()),
            )?;
        }
        Ok(())
    }
}

fn first_v4<'a>(list: &'a Value, text: impl Fn(&'a Value) -> Option<&'a str>) -> Option<Ipv4Addr> {
    list.as_array()?
        .iter()
        .filter_map(|value| text(value)?.parse().ok())
        .next()
}
