//! Pods are recognised by the interface at which their traffic comes in, as `detectLocalMode` asks for.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ferrolb_tests::client::{Answer, http};
use ferrolb_tests::cluster::Cluster;
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::netns::Netns;
use ferrolb_tests::node::PodLinks;
use ferrolb_tests::wait;

use crate::policy;
use crate::restart_solo::service;

const ECHO: Ipv4Addr = Ipv4Addr::new(172, 17, 255, 78);
const NODE_PORT: u16 = 30080;

fn config(mode: &str) -> String {
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n{mode}"
    )
}

/// Twelve connections; the endpoints take turns.
fn ask(from: &Netns, to: Ipv4Addr, port: u16) -> Result<Vec<Answer>, String> {
    let to = SocketAddr::from((to, port));
    let one = move || http(to, policy::ask()).map_err(|error| error.to_string());
    (0..12).map(|_| from.run(one)).collect()
}

/// The pods that answered, and the addresses from which they saw the client.
fn seen(answers: &[Answer]) -> (BTreeSet<&str>, BTreeSet<IpAddr>) {
    let pods = answers.iter().map(|a| a.pod.as_str());
    let from = answers.iter().map(|a| a.from.ip());
    (pods.collect(), from.collect())
}

fn recognised(links: PodLinks, mode: &str) {
    let mut cluster = Cluster::new("ipvs", links);
    cluster
        .manifests
        .write("kube-proxy-config.yaml", &config(mode));
    let port = format!("  - {{name: http, port: 80, targetPort: 8000, nodePort: {NODE_PORT}}}\n");
    let local = "  externalTrafficPolicy: Local\n";
    let text = service("echo", ECHO, local, &port);
    cluster.manifests.write("echo.yaml", &text);
    cluster.start();
    cluster.settle(&[ECHO]).unwrap();
    let node = &cluster.nodes[0];
    let virtual_ip = cluster.cluster_ip(node, "default", "echo").unwrap();
    let all = BTreeSet::from(["web-1", "web-2", "web-3"]);
    let (pod, other) = (&cluster.pods[0], &cluster.pods[1]);
    let near = |address: Ipv4Addr| BTreeSet::from([IpAddr::V4(address)]);
    // An endpoint that is its own client sees its node. All others see the pod.
    wait::expect(
        "a pod reaches all endpoints by the load balancer",
        Duration::from_secs(20),
        || {
            let answers = ask(&pod.netns, ECHO, 80)?;
            let far: Vec<Answer> = answers.into_iter().filter(|a| a.pod != pod.name).collect();
            let seen = seen(&far);
            let right = seen.0 == BTreeSet::from(["web-2", "web-3"]) && seen.1 == near(pod.v4);
            right.then_some(()).ok_or(format!("{seen:?}"))
        },
    );
    wait::expect(
        "a pod keeps its address on its way to a ClusterIP",
        Duration::from_secs(20),
        || {
            let answers = ask(&pod.netns, virtual_ip, 80)?;
            let far: Vec<Answer> = answers.into_iter().filter(|a| a.pod != pod.name).collect();
            let right = seen(&far).1 == near(pod.v4);
            right.then_some(()).ok_or(format!("{far:?}"))
        },
    );
    wait::expect("the node reaches all", Duration::from_secs(20), || {
        let answers = ask(node.netns(), ECHO, 80)?;
        let pods = seen(&answers).0;
        (pods == all).then_some(()).ok_or(format!("{pods:?}"))
    });
    // A pod of another node is an outsider here: it comes in by the LAN.
    let what = "a pod of another node reaches the endpoints of this node, with its address";
    wait::expect(what, Duration::from_secs(20), || {
        let answers = ask(&other.netns, node.host.v4, NODE_PORT)?;
        let seen = seen(&answers);
        let right = seen.0 == BTreeSet::from(["web-1"]) && seen.1 == near(other.v4);
        right.then_some(()).ok_or(format!("{seen:?}"))
    });
    let listed = node
        .netns()
        .sh("nft", &["list", "set", "inet", "ferrolb", "podif"]);
    let shown = match links {
        PodLinks::Routed => "\"veth*\"",
        PodLinks::Bridge => "\"cni0\"",
    };
    assert!(listed.contains(shown), "{listed}");
    let log = cluster.folder().join(format!("{}.log", node.name));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(!log.contains("somebody changed"), "{log}");
}

#[test]
fn pods_are_recognised_by_the_beginning_of_their_interfaces_names() {
    need!(
        "pods_are_recognised_by_the_beginning_of_their_interfaces_names",
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb,
        Need::CoreDns,
        Need::Tool("nginx")
    );
    recognised(
        PodLinks::Routed,
        "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}\n",
    );
}

#[test]
fn pods_are_recognised_by_their_bridge() {
    need!(
        "pods_are_recognised_by_their_bridge",
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb,
        Need::CoreDns,
        Need::Tool("nginx")
    );
    recognised(
        PodLinks::Bridge,
        "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}\n",
    );
}
