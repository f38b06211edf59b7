//! Which node announces what, as the API shows it: `kubectl get servicel2statuses`, `ferrolb status --kubeconfig`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use ferrolb_tests::client::{arp, mac};
use ferrolb_tests::paths::{ferrolb, workspace};
use ferrolb_tests::plane::User;
use ferrolb_tests::rows::{DNS, WEB};
use ferrolb_tests::wait;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::story::{EXTERNAL, SOON, Story};
use crate::{needs, shared};

/// `ferrolb status` of the cluster, as an administrator sees it from elsewhere.
fn status(story: &Story, more: &[&str]) -> String {
    let output = Command::new(ferrolb())
        .arg("status")
        .arg("--kubeconfig")
        .arg(story.plane.kubeconfig(User::Admin))
        .args(more)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "");
    String::from_utf8(output.stdout).unwrap()
}

fn services(story: &Story) -> Vec<Value> {
    let status: Value = serde_json::from_str(&status(story, &["-o", "json"])).unwrap();
    assert_eq!(status["problems"], serde_json::json!([]));
    status["services"].as_array().unwrap().clone()
}

pub(super) fn service(story: &Story, namespace: &str, name: &str) -> Value {
    let all = services(story);
    let found = all
        .iter()
        .find(|s| s["namespace"] == namespace && s["name"] == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {all:#?}"))
        .clone()
}

#[test]
fn the_api_shows_who_announces_what_and_so_does_the_status_of_the_cluster() {
    needs!("the_api_shows_who_announces_what_and_so_does_the_status_of_the_cluster");
    let story = Story::begin();
    story.has_announcers();
    let writes = story.writes_of_announcers();
    assert!(
        writes <= 2 * EXTERNAL.len(),
        "{writes} writes about announcers"
    );
    let shown = story.kubectl(&["get", "servicel2statuses", "-n", "metallb-system"]);
    assert!(shown.contains("ALLOCATED NODE"), "{shown}");
    for (namespace, name, address) in EXTERNAL {
        let announcer = story.cluster.announcer(IpAddr::V4(address)).unwrap();
        let service = service(&story, namespace, name);
        assert_eq!(service["addresses"][0]["ip"], address.to_string());
        assert_eq!(service["addresses"][0]["node"], announcer);
        assert_eq!(
            service["addresses"][0]["interfaces"],
            serde_json::json!(["eth0"])
        );
        assert_eq!(service["reason"], "Announced", "{service}");
        assert_eq!(service["pool"], "default");
        let there = story.cluster.node(&announcer);
        let known = story.cluster.service(there, namespace, name).unwrap();
        assert_eq!(service["endpoints"]["used"], known["endpoints"]["used"]);
    }
    let table = status(&story, &[]);
    assert!(table.starts_with("Cluster https://"), "{table}");
    let seen: Value = serde_json::from_str(&status(&story, &["-o", "json"])).unwrap();
    let nodes = seen["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    for node in nodes {
        assert_eq!(node["agent"], "Alive", "{node}");
        assert_eq!(node["version"], seen["version"], "{node}");
    }
}

#[test]
fn the_api_follows_an_announcer_that_dies_with_and_without_a_successor() {
    needs!("the_api_follows_an_announcer_that_dies_with_and_without_a_successor");
    let mut story = Story::begin();
    story.has_announcers();
    let dead = story.cluster.announcer(IpAddr::V4(WEB)).unwrap();
    let agent = story.cluster.node_mut(&dead).agent().unwrap();
    agent.signal(Signal::SIGKILL);
    story.cluster.node_mut(&dead).drop_agent();
    wait::expect("the successor is shown", SOON, || {
        let told = story.told_announcers();
        let shown = service(&story, "default", "web-svc-lb")["addresses"][0]["node"].clone();
        match told.get("default/web-svc-lb") {
            Some(node) if !told.values().any(|node| *node == dead) && shown == **node => Ok(()),
            _ => Err(format!("{told:?}, {shown}")),
        }
    });
    story.kubectl(&["delete", "svc", "web-svc-lb"]);
    wait::expect("nobody announces what is deleted", SOON, || {
        match story.told_announcers() {
            told if told.contains_key("default/web-svc-lb") => Err(format!("{told:?}")),
            _ => Ok(()),
        }
    });
    // The last node that may announce dies, and no other node replaces it: another node removes what it reported.
    let last = story.cluster.announcer(IpAddr::V4(DNS)).unwrap();
    for node in ["node-1", "node-2", "node-3"] {
        if node != last {
            let label = "node.kubernetes.io/exclude-from-external-load-balancers=yes";
            story.kubectl(&["label", "node", node, label]);
        }
    }
    let agent = story.cluster.node_mut(&last).agent().unwrap();
    agent.signal(Signal::SIGKILL);
    story.cluster.node_mut(&last).drop_agent();
    wait::expect(
        "without announcer the reason is that of the event",
        SOON,
        || {
            let dns = service(&story, "kube-system", "coredns-svc-lb-udp");
            if dns["reason"] == "NodeExcluded" && dns["state"] == "Pending" {
                Ok(())
            } else {
                Err(dns.to_string())
            }
        },
    );
    wait::expect("what the dead one said is gone", SOON, || {
        match story.told_announcers() {
            told if told.is_empty() => Ok(()),
            told => Err(format!("{told:?}")),
        }
    });
}

#[test]
fn an_address_of_another_load_balancer_class_is_neither_announced_nor_given_again() {
    needs!("an_address_of_another_load_balancer_class_is_neither_announced_nor_given_again");
    let story = Story::begin();
    let theirs = "apiVersion: v1\nkind: Service\nmetadata: {name: theirs}\nspec:\n  type: LoadBalancer\n  \
                  loadBalancerClass: example.com/other\n  ports: [{port: 80}]\n";
    story.cluster.manifests.write("theirs.yaml", theirs);
    story
        .plane
        .apply(&story.cluster.manifests.path().join("theirs.yaml"));
    let shown = r#"{"status":{"loadBalancer":{"ingress":[{"ip":"172.17.255.4"}]}}}"#;
    let status = [
        "patch",
        "svc",
        "theirs",
        "--subresource=status",
        "--type=merge",
        "-p",
        shown,
    ];
    story.kubectl(&status);
    story.create("later");
    let next = Ipv4Addr::new(172, 17, 255, 5);
    story.is_given("default", "later", next);
    // The later Service is announced, so the earlier ones must have been decided too.
    story.is_answered(next);
    let asked = arp(&story.cluster.client.netns, Ipv4Addr::new(172, 17, 255, 4));
    assert_eq!(asked, Vec::<String>::new());
    assert_eq!(story.told_announcers().get("default/theirs"), None);
}

#[test]
fn a_host_on_the_network_keeps_its_address_and_the_service_gets_another() {
    needs!("a_host_on_the_network_keeps_its_address_and_the_service_gets_another");
    let mut story = Story::begin();
    let taken = Ipv4Addr::new(172, 17, 255, 4);
    let host = story.cluster.lan.plug("printer", 99);
    host.netns.ip(&format!("addr add {taken}/32 dev eth0\n"));
    story.create("late");
    let next = Ipv4Addr::new(172, 17, 255, 5);
    story.is_given("default", "late", next);
    story.is_answered(next);
    let asked = arp(&story.cluster.client.netns, taken);
    assert_eq!(asked, [mac(&host.netns, "eth0")]);
    // The pool's event names the address and the host.
    wait::expect("the administrator is told", SOON, || {
        let events = story.kubectl(&["get", "events", "-A"]);
        let told = format!("{taken} belongs to the host {}", asked[0]);
        events.contains(&told).then_some(()).ok_or(events)
    });
    // One that comes later asks for no address that is taken either.
    story.create("later");
    story.is_given("default", "later", Ipv4Addr::new(172, 17, 255, 6));
}

#[test]
fn a_cluster_that_cannot_be_asked_is_an_error_that_names_it() {
    needs!("a_cluster_that_cannot_be_asked_is_an_error_that_names_it");
    let (plane, _running) = shared();
    let ask = |kubeconfig: &Path| {
        let asked = Command::new(ferrolb())
            .arg("status")
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .output();
        let output = asked.unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    };
    let missing = ask(Path::new("/nonexistent"));
    assert!(missing.contains("/nonexistent"), "{missing}");
    // The controller's account may not list what the status needs.
    plane.apply(&workspace().join("deploy/kustomize/crds/namespace.yaml"));
    plane.apply(&workspace().join("deploy/kustomize/base/namespace.yaml"));
    plane.apply(&workspace().join("deploy/kustomize/base/rbac.yaml"));
    let less = plane.service_account_kubeconfig("ferrolb-system", "controller", plane.server());
    let refused = ask(&less);
    assert!(
        refused.contains("not allowed to list and watch endpointslices"),
        "{refused}"
    );
}
