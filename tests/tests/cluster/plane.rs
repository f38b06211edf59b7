//! Tests of the lab's control plane itself, so that conclusions from it are valid.

use std::time::Duration;

use ferrolb_tests::lan::Lan;
use ferrolb_tests::node::{Node, PodLinks};
use ferrolb_tests::plane::{Relay, User};
use ferrolb_tests::wait;

use crate::{alone, needs, shared};

const WHILE: Duration = Duration::from_secs(20);

#[test]
fn the_plane_is_ready_and_its_programs_say_their_versions() {
    needs!("the_plane_is_ready_and_its_programs_say_their_versions");
    let (plane, _running) = shared();
    let version = plane.kubectl(&["version"]);
    for side in ["Client", "Server"] {
        assert!(
            version.contains(&format!("{side} Version: v1.36.")),
            "{version}"
        );
    }
    let account = plane
        .get("/api/v1/namespaces/default/serviceaccounts/default")
        .unwrap();
    assert_eq!(account["metadata"]["name"], "default");
    let bundle = plane
        .get("/api/v1/namespaces/default/configmaps/kube-root-ca.crt")
        .unwrap();
    assert!(
        bundle["data"]["ca.crt"]
            .as_str()
            .unwrap()
            .contains("BEGIN CERTIFICATE")
    );
}

#[test]
fn a_token_without_a_role_may_do_nothing_and_no_token_still_less() {
    needs!("a_token_without_a_role_may_do_nothing_and_no_token_still_less");
    let (plane, _running) = shared();
    let refused = plane.kubectl_as(User::Stranger, &["get", "services"]);
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success()
            && errors.contains("Forbidden")
            && errors.contains("lab-stranger"),
        "{errors}"
    );
    // The manager's own role allows reading pods but not deleting them.
    let may = |verb: &str| {
        let output = plane.kubectl_as(
            User::ControllerManager,
            &["auth", "can-i", verb, "services"],
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!((may("list"), may("delete")), ("yes".into(), "no".into()));
}

#[test]
fn a_service_account_has_the_rights_of_its_role_and_no_others() {
    needs!("a_service_account_has_the_rights_of_its_role_and_no_others");
    let (plane, _running) = shared();
    plane.kubectl(&["create", "namespace", "rights"]);
    plane.kubectl(&["create", "serviceaccount", "-n", "rights", "reader"]);
    plane.kubectl(&[
        "create",
        "clusterrole",
        "lab-reader",
        "--verb=get,list",
        "--resource=services",
    ]);
    plane.kubectl(&[
        "create",
        "clusterrolebinding",
        "lab-reader",
        "--clusterrole=lab-reader",
        "--serviceaccount=rights:reader",
    ]);
    let config = plane.service_account_kubeconfig("rights", "reader", plane.server());
    let as_reader = |arguments: &[&str]| {
        let config = config.display().to_string();
        let mut all = vec!["--kubeconfig", config.as_str()];
        all.extend(arguments);
        plane.kubectl_as(User::Stranger, &all)
    };
    wait::until("the role is in force", WHILE, || {
        as_reader(&["get", "services", "-A"]).status.success()
    });
    let refused = as_reader(&["get", "secrets"]);
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        errors.contains("system:serviceaccount:rights:reader"),
        "{errors}"
    );
}

#[test]
fn the_audit_log_shows_who_wrote_what() {
    needs!("the_audit_log_shows_who_wrote_what");
    let (plane, _running) = shared();
    plane.kubectl(&[
        "create",
        "configmap",
        "audited",
        "--from-literal=seen=by-the-log",
    ]);
    let written = wait::expect("the write is logged", WHILE, || {
        let mut writes = plane.writes(User::Admin.name());
        writes.retain(|event| event.object_ref.name == "audited");
        writes.pop().ok_or("nothing of that name")
    });
    assert!(
        written.is("lab-admin", "create", "configmaps"),
        "{written:?}"
    );
    assert_eq!(written.object_ref.namespace, "default");
    assert_eq!(written.response_status.code, 201);
    assert_eq!(written.request_object["data"]["seen"], "by-the-log");
    let managed = plane.audit().into_iter().any(|event| {
        event.is_write()
            && event
                .user
                .username
                .starts_with("system:serviceaccount:kube-system:")
    });
    assert!(managed, "each controller has a name of its own");
}

#[test]
fn objects_outlive_the_api_server() {
    needs!("objects_outlive_the_api_server");
    let (plane, _alone) = alone();
    plane.kubectl(&["create", "configmap", "kept"]);
    plane.stop_apiserver();
    let gone = plane.get("/readyz").unwrap_err();
    assert!(gone.contains("connect"), "{gone}");
    plane.start_apiserver();
    plane.kubectl(&["get", "configmap", "kept"]);
}

#[test]
fn a_watch_of_a_compacted_version_is_answered_with_410() {
    needs!("a_watch_of_a_compacted_version_is_answered_with_410");
    let (plane, _alone) = alone();
    let path = "/api/v1/namespaces/default/configmaps";
    let list = plane.get(path).unwrap();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    for name in ["one", "two", "three"] {
        plane.kubectl(&["create", "configmap", name]);
    }
    let watch = format!("{path}?watch=true&resourceVersion={version}&timeoutSeconds=1");
    let watched = || plane.access().request(User::Admin, "GET", &watch, None);
    let before = watched().unwrap().1;
    assert!(before.contains("three"), "{before}");
    plane.expire_watches();
    let (code, body) = watched().unwrap();
    assert!(
        code == 410 || body.contains("\"code\":410"),
        "{code}: {body}"
    );
}

#[test]
fn a_node_reaches_the_api_through_the_relay_until_it_is_cut() {
    needs!("a_node_reaches_the_api_through_the_relay_until_it_is_cut");
    let (plane, _running) = shared();
    let mut lan = Lan::new();
    let node = Node::new(&mut lan, 1, PodLinks::Routed);
    let mut relay = Relay::start(&mut lan, plane.server());
    let ca = plane.access().ca.display().to_string();
    let url = format!("https://{}/version", relay.address());
    let asks_for = |seconds: &str| {
        let output = node
            .netns()
            .output("curl", &["-sS", "-m", seconds, "--cacert", &ca, &url]);
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    };
    let asks = || asks_for("20");
    assert!(asks().contains("gitVersion"), "{}", asks());
    relay.cut();
    let refused = asks();
    assert!(
        refused.contains("Failed to connect") || refused.contains("refused"),
        "{refused}"
    );
    relay.mend();
    assert!(asks().contains("gitVersion"), "{}", asks());
    relay.blackhole();
    let silent = asks_for("2");
    assert!(silent.contains("timed out"), "{silent}");
    relay.mend();
    wait::until("the node finds it again", WHILE, || {
        asks().contains("gitVersion")
    });
}
