//! A kubelet's reports about its Pods and its Node, as merge patches and objects.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::node::{Node, pod_cidr4, pod_cidr6};

/// The containers are running and ready.
pub(super) fn running(pod: &Pod, host: &[IpAddr], addresses: &[IpAddr]) -> Value {
    let mut status = whole(pod, true, &json!({ "running": { "startedAt": now() } }));
    status["phase"] = json!("Running");
    status["podIP"] = json!(addresses.first());
    status["podIPs"] = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
    status["hostIP"] = json!(host.first());
    status["hostIPs"] = host.iter().map(|ip| json!({ "ip": ip })).collect();
    status["startTime"] = json!(now());
    json!({ "status": status })
}

/// The containers have ended on request.
pub(super) fn ended(pod: &Pod) -> Value {
    let state =
        json!({ "terminated": { "exitCode": 0, "reason": "Completed", "finishedAt": now() } });
    json!({ "status": whole(pod, false, &state) })
}

/// The lab has no server for the Pod's image.
pub(super) fn without_server(pod: &Pod) -> Value {
    let message = "the lab has no server for these labels";
    let state = json!({ "waiting": { "reason": "ImagePullBackOff", "message": message } });
    json!({ "status": whole(pod, false, &state) })
}

fn whole(pod: &Pod, ready: bool, state: &Value) -> Value {
    let condition = |kind: &str, is: bool| {
        let status = if is { "True" } else { "False" };
        json!({ "type": kind, "status": status, "lastTransitionTime": now() })
    };
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let containers: Vec<Value> = containers
        .map(|container| {
            json!({
                "name": container.name, "image": container.image.clone().unwrap_or_default(), "imageID": "",
                "ready": ready, "started": ready, "restartCount": 0, "state": state,
            })
        })
        .collect();
    json!({
        "conditions": [
            condition("PodScheduled", true),
            condition("PodReadyToStartContainers", ready),
            condition("Initialized", true),
            condition("ContainersReady", ready),
            condition("Ready", ready),
        ],
        "containerStatuses": containers,
    })
}

/// A Node as its kubelet registers it.
pub(super) fn node(node: &Node) -> Value {
    let cidrs = [pod_cidr4(node.number), pod_cidr6(node.number)];
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": node.name, "labels": { "kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux" } },
        "spec": { "podCIDR": cidrs[0], "podCIDRs": cidrs },
        "status": {
            "addresses": [
                { "type": "InternalIP", "address": node.host.v4 },
                { "type": "InternalIP", "address": node.host.v6 },
                { "type": "Hostname", "address": node.name },
            ],
            "conditions": [node_condition(true)],
        },
    })
}

/// The patch that sets a Node's readiness.
pub(super) fn node_ready(ready: bool) -> Value {
    json!({ "status": { "conditions": [node_condition(ready)] } })
}

fn node_condition(ready: bool) -> Value {
    json!({
        "type": "Ready", "status": if ready { "True" } else { "False" },
        "reason": if ready { "KubeletReady" } else { "KubeletNotReady" }, "message": "the lab says so",
        "lastHeartbeatTime": now(), "lastTransitionTime": now(),
    })
}

fn now() -> Time {
    Time(Timestamp::now())
}
