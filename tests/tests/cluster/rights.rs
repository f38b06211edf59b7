//! The rights that the installation grants are sufficient, and no more than necessary. Rights to write are checked with the API
//! server's own log, rights to read by reading the status.

use std::collections::BTreeSet;
use std::process::Command;

use ferrolb_tests::client::arp;
use ferrolb_tests::cluster::NAMESPACE;
use ferrolb_tests::paths::ferrolb;
use ferrolb_tests::rows::WEB;
use ferrolb_tests::wait;
use serde_json::Value;

use crate::needs;
use crate::story::{SOON, Story};

/// Account, verb, group, resource.
type Write = [String; 4];

fn texts(list: &Value) -> Vec<String> {
    let texts = list.as_array().into_iter().flatten();
    texts.filter_map(|t| Some(t.as_str()?.to_owned())).collect()
}

/// The writes that an account's roles allow.
fn granted(story: &Story, account: &str) -> BTreeSet<Write> {
    let mut granted = BTreeSet::new();
    for kind in ["clusterroles", "roles"] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/{kind}");
        let list = story.plane.get(&path).unwrap();
        let name = format!("ferrolb-{account}");
        let roles = list["items"].as_array().unwrap().iter();
        let rules = roles
            .filter(|r| r["metadata"]["name"] == *name)
            .flat_map(|r| r["rules"].as_array().unwrap());
        for rule in rules {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        let is_read = matches!(verb.as_str(), "get" | "list" | "watch");
                        if !is_read {
                            granted.insert([
                                account.to_owned(),
                                verb,
                                group.clone(),
                                resource.clone(),
                            ]);
                        }
                    }
                }
            }
        }
    }
    granted
}

#[test]
fn every_right_to_write_is_used_and_none_is_missing() {
    needs!("every_right_to_write_is_used_and_none_is_missing");
    let story = Story::begin();
    let accounts = ["controller", "node"];
    let of = |account: &str| format!("system:serviceaccount:{NAMESPACE}:{account}");
    let granted: BTreeSet<Write> = accounts.iter().flat_map(|a| granted(&story, a)).collect();
    assert!(granted.len() >= 7, "{granted:?}");
    let unused = || {
        let mut unused = granted.clone();
        for account in accounts {
            for write in story.plane.writes(&of(account)) {
                if (200..300).contains(&write.response_status.code) {
                    let (verb, resource) = (write.verb.clone(), write.resource());
                    let group = write.object_ref.api_group;
                    unused.remove(&[account.to_owned(), verb, group, resource]);
                }
            }
        }
        unused
    };
    let turn = |kind: &str| {
        let patch = serde_json::json!({"spec": {"type": kind}}).to_string();
        story.kubectl(&["patch", "svc", "web-svc-lb", "-p", &patch]);
    };
    story.has_announcers();
    // Addresses are given, announced and reported again, because a repeated event changes the first one. An event repeats once
    // one of the three nodes announces the address for the second time. The third turn makes this happen at the latest.
    for _ in 0..3 {
        turn("ClusterIP");
        wait::expect("nobody announces it", SOON, || {
            let told = story.told_announcers();
            match arp(&story.cluster.client.netns, WEB) {
                macs if macs.is_empty() && !told.contains_key("default/web-svc-lb") => Ok(()),
                macs => Err(format!("{macs:?}, {told:?}")),
            }
        });
        turn("LoadBalancer");
        story.has_addresses();
        story.has_announcers();
        if unused().is_empty() {
            break;
        }
    }
    wait::expect("every right is used", SOON, || match unused() {
        unused if unused.is_empty() => Ok(()),
        unused => Err(format!("{unused:?}")),
    });
    let audit = story.plane.audit();
    let refused: Vec<_> = audit
        .iter()
        .filter(|e| e.response_status.code == 403)
        .filter(|e| accounts.iter().any(|a| e.user.username == of(a)))
        .map(|e| (&e.user.username, &e.verb, e.resource()))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn who_may_only_look_sees_the_status_of_the_cluster() {
    needs!("who_may_only_look_sees_the_status_of_the_cluster");
    let story = Story::begin();
    story.has_announcers();
    story.kubectl(&["create", "serviceaccount", "viewer"]);
    story.kubectl(&[
        "create",
        "clusterrolebinding",
        "viewer",
        "--clusterrole=ferrolb-view",
        "--serviceaccount=default:viewer",
    ]);
    let plane = &story.plane;
    let kubeconfig = plane.service_account_kubeconfig("default", "viewer", plane.server());
    wait::expect("the status, as soon as the binding is known", SOON, || {
        let output = Command::new(ferrolb())
            .args(["status", "-o", "json", "--kubeconfig"])
            .arg(&kubeconfig)
            .output()
            .unwrap();
        let status: Value = serde_json::from_slice(&output.stdout)
            .map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
        let services = status["services"].as_array().unwrap();
        let mut web = services.iter().filter(|s| s["name"] == "web-svc-lb");
        let seen = web.next().is_some_and(|s| s["reason"] == "Announced");
        if seen && status["problems"] == serde_json::json!([]) {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
}
