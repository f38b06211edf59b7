//! The objects of the matrix's world: the configuration, the pool, a Service for each case, and the nodes' host-network pods.
//! Also checks what a node must report once it has them.

use serde_json::{Value, json};

use ferrolb_tests::lan::Host;
use ferrolb_tests::node::problems;
use ferrolb_tests::paths::workspace;

use super::table::{CASES, Case};
use super::world::{NODE_PORT, PORT, TARGET};

/// The users' configuration, with a range of IPv6 pods in addition to their own.
pub(crate) fn proxy_config() -> String {
    let path = workspace().join("deploy/examples/kube-proxy-config.yaml");
    let text = std::fs::read_to_string(&path).expect("the users' configuration");
    let (ours, both) = (
        "clusterCIDR: 10.244.0.0/16\n",
        "clusterCIDR: 10.244.0.0/16,fd00:10:244::/48\n",
    );
    assert!(text.contains(ours), "{}", path.display());
    text.replace(ours, both)
}

/// The pool of the load-balancer addresses.
pub(crate) fn pool() -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": { "name": "matrix", "namespace": "metallb-system" },
        "spec": { "addresses": ["172.17.255.0/24", "fd00:17:255::/112"] },
    })
}

/// The name of a case's Service.
pub(crate) fn name(index: usize) -> String {
    format!("case-{index}")
}

/// The node port of a case.
pub(crate) fn node_port(index: usize) -> u16 {
    NODE_PORT + u16::try_from(index).expect("few cases")
}

/// The Service of a case.
pub(crate) fn service(index: usize, case: &Case, client: &Host, a: &Host) -> Value {
    let low = 10 + index;
    let port = |name: &str, protocol: &str| json!({ "name": name, "protocol": protocol, "port": PORT, "targetPort": TARGET, "nodePort": node_port(index) });
    let policy = |local| if local { "Local" } else { "Cluster" };
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name(index),
            "namespace": "default",
            "annotations": { "metallb.io/loadBalancerIPs": format!("172.17.255.{low},fd00:17:255::{low:x}") },
        },
        "spec": {
            "type": "LoadBalancer",
            "ipFamilyPolicy": "RequireDualStack",
            "ipFamilies": ["IPv4", "IPv6"],
            "clusterIP": format!("10.96.1.{low}"),
            "clusterIPs": [format!("10.96.1.{low}"), format!("fd00:96::{low:x}")],
            "externalIPs": [format!("198.51.100.{low}"), format!("2001:db8:51::{low:x}")],
            "selector": { case.selects: "yes" },
            "externalTrafficPolicy": policy(case.external_local),
            "internalTrafficPolicy": policy(case.internal_local),
            "ports": [port("tcp", "TCP"), port("udp", "UDP")],
        },
    });
    if case.ranges {
        let ranges =
            [client, a].map(|host| [format!("{}/32", host.v4), format!("{}/128", host.v6)]);
        object["spec"]["loadBalancerSourceRanges"] = json!(ranges.concat());
    }
    object
}

/// A pod in its node's network.
pub(crate) fn host_pod(node: &str, name: &str, host: &Host) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": format!("host-{}", name.to_lowercase()), "namespace": "default", "labels": { "hosts": "yes" } },
        "spec": { "nodeName": node, "hostNetwork": true, "containers": [{ "name": "server", "image": "lab" }] },
        "status": {
            "phase": "Running",
            "podIP": host.v4,
            "podIPs": [{ "ip": host.v4 }, { "ip": host.v6 }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

/// Whether a node knows every Service, has its addresses in the kernel and reports no problem.
pub(crate) fn programmed(status: &Value) -> Result<(), String> {
    let problems = problems(status);
    if !problems.is_empty() {
        return Err(format!("problems: {problems:?}"));
    }
    let services = status["services"].as_array().cloned().unwrap_or_default();
    let waits = services.iter().find(|service| {
        let early = ["NotSettled", "NoMajority", "NotProgrammed"];
        early.contains(&service["reason"].as_str().unwrap_or_default())
            || service["state"] == "Refused"
            || service["addresses"].as_array().map(Vec::len) != Some(2)
    });
    match waits {
        Some(service) => Err(service.to_string()),
        None if services.len() < CASES.len() => Err(format!("{} Services", services.len())),
        None => Ok(()),
    }
}

/// JSON is valid YAML.
pub(crate) fn yaml(object: &Value) -> String {
    serde_json::to_string_pretty(object).expect("a value can be printed") + "\n"
}
