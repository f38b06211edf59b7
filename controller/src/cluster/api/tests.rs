#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kube::core::Status;

use super::*;
use crate::testing::{ips, key};

fn write(addresses: &str, pool: Option<&str>) -> Write {
    Write {
        key: key("default/web"),
        uid: "1-2".into(),
        addresses: ips(addresses),
        pool: pool.map(str::to_owned),
        before: Vec::new(),
    }
}

#[test]
fn addresses_annotation_and_uid_are_one_patch() {
    assert_eq!(
        patch(&write("172.17.255.1,fd00::1", Some("default"))),
        json!({
            "metadata": {
                "uid": "1-2",
                "annotations": {
                    "metallb.io/ip-allocated-from-pool": "default",
                    "metallb.universe.tf/ip-allocated-from-pool": null,
                },
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "172.17.255.1"}, {"ip": "fd00::1"}]}},
        })
    );
}

#[test]
fn what_is_taken_away_is_null_in_the_patch() {
    let patch = patch(&write("", None));
    assert_eq!(patch["status"], json!({"loadBalancer": {"ingress": null}}));
    let annotations = patch["metadata"]["annotations"].as_object().unwrap();
    assert!(annotations.len() == 2 && annotations.values().all(Value::is_null));
}

#[test]
fn an_answer_says_whether_to_wait_to_ask_again_or_whom_to_ask() {
    let refused = |code, message: &str| {
        let status = Status::failure(message, "").with_code(code).boxed();
        refusal(&kube::Error::Api(status), "patch services/status")
    };
    for (code, message) in [
        (404, "services \"web\" not found"),
        (409, "Operation cannot be fulfilled"),
        (422, "metadata.uid: Invalid value: field is immutable"),
    ] {
        assert!(
            matches!(refused(code, message), WriteError::Stale(_)),
            "{code}"
        );
    }
    assert_eq!(
        refused(
            403,
            "services \"web\" is forbidden: User \"x\" cannot patch resource"
        )
        .to_string(),
        "not allowed to patch services/status: give this user that right (deploy/kustomize/base/rbac.yaml has it)"
    );
    assert!(matches!(
        refused(503, "etcd is away"),
        WriteError::Unreachable(_)
    ));
    assert!(matches!(
        refused(422, "status.loadBalancer: Forbidden"),
        WriteError::Refused(_)
    ));
}
