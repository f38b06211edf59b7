//! The users' workloads on the real control plane. The controllers create Pods from the Deployment, the lab's kubelet runs them
//! on three nodes, and the controllers create EndpointSlices from them.

use std::collections::BTreeSet;

use ferrolb_tests::wait;
use serde_json::Value;

use crate::needs;
use crate::scene::{WHILE, name, names_of_targets, scene, scene_alone};

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
