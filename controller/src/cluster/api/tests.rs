#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

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
