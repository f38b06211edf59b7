//! The parts of the installation that no other test applies, and leaving it.

use std::time::Duration;

use ferrolb_tests::paths::workspace;
use ferrolb_tests::plane::{Plane, User};
use ferrolb_tests::wait;

use crate::{needs, shared};

const SOON: Duration = Duration::from_secs(30);

/// The lines that an overlay adds to the base, in which nothing else may differ but the port of the health check.
fn added(plane: &Plane, overlay: &str, port: &str) -> String {
    let built = |folder: &str| {
        let path = workspace().join("deploy/kustomize").join(folder);
        plane.kubectl(&["kustomize", &path.display().to_string()])
    };
    let (base, overlay) = (built("base").replace("10256", port), built(overlay));
    let mut base = base.lines();
    let more: Vec<&str> = overlay
        .lines()
        .filter(|line| {
            let mut rest = base.clone();
            let same = rest.next() == Some(*line);
            if same {
                base = rest;
            }
            !same
        })
        .map(str::trim)
        .collect();
    assert_eq!(base.next(), None, "{more:?}");
    more.join(" ")
}

#[test]
fn each_overlay_adds_what_it_is_for_and_changes_nothing_else() {
    needs!("each_overlay_adds_what_it_is_for_and_changes_nothing_else");
    let (plane, _running) = shared();
    let mount = "mountPath: /var/lib/kube-proxy name: kube-proxy readOnly: true";
    let volume = "configMap: name: kube-proxy name: kube-proxy";
    assert_eq!(
        added(&plane, "kube-proxy-config", "10256"),
        format!(
            "- --kubeconfig=/var/lib/kube-proxy/kubeconfig.conf volumeMounts: - {mount} volumes: - {volume} \
             - --config=/var/lib/kube-proxy/config.conf - {mount} - {volume}"
        )
    );
    assert_eq!(added(&plane, "announcer", "7948"), "- --proxy=none");
}

const POOL: &str = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: lan, namespace: metallb-system}\nspec: {addresses: [192.0.2.0/28]}\n";

/// Applies a text until it is accepted: a definition is served only some time after it was created.
fn apply(plane: &Plane, text: &str) {
    wait::expect("it applies", SOON, || try_apply(plane, text));
}

fn try_apply(plane: &Plane, text: &str) -> Result<(), String> {
    let path = plane.folder().join("applied.yaml");
    std::fs::write(&path, text).unwrap();
    let output = plane.kubectl_as(User::Admin, &["apply", "-f", &path.display().to_string()]);
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
fn deleting_the_workloads_leaves_the_users_pools_and_installing_again_finds_them() {
    needs!("deleting_the_workloads_leaves_the_users_pools_and_installing_again_finds_them");
    let plane = Plane::start();
    plane.install();
    apply(&plane, POOL);
    let pool = "/apis/metallb.io/v1beta1/namespaces/metallb-system/ipaddresspools/lan";
    let uid = plane.get(pool).unwrap()["metadata"]["uid"].clone();
    plane.kustomization("delete", "base");
    let gone = plane.get("/apis/apps/v1/namespaces/ferrolb-system/daemonsets/ferrolb-node");
    assert!(gone.is_err_and(|e| e.starts_with("404")));
    assert_eq!(plane.get(pool).unwrap()["metadata"]["uid"], uid);
    plane.kustomization("apply", "base");
    assert_eq!(plane.get(pool).unwrap()["metadata"]["uid"], uid);
}

#[test]
fn a_field_that_a_kind_does_not_have_is_refused_by_the_api_server() {
    needs!("a_field_that_a_kind_does_not_have_is_refused_by_the_api_server");
    let plane = Plane::start();
    plane.kustomization("apply", "crds");
    apply(&plane, POOL);
    let advertisement = "apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: lan, namespace: metallb-system}\nspec: {nodeSelectors: [{matchLabels: {a: b}}]}\n";
    apply(&plane, advertisement);
    for (text, field) in [
        (
            POOL.replace("{addresses", "{autoassign: false, addresses"),
            "spec.autoassign",
        ),
        (
            POOL.replace(
                "{addresses",
                "{serviceAllocation: {namespace: [a]}, addresses",
            ),
            "spec.serviceAllocation.namespace",
        ),
        (
            advertisement.replace("nodeSelectors", "nodeSelector"),
            "spec.nodeSelector",
        ),
        (
            advertisement.replace("matchLabels", "matchLabel"),
            "spec.nodeSelectors[0].matchLabel",
        ),
    ] {
        let refused = try_apply(&plane, &text).unwrap_err();
        assert!(refused.contains("unknown field"), "{refused}");
        assert!(refused.contains(field), "{refused}");
    }
}
