//! What the controller relies on in the API server, and what it reports if it lacks a right.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ferrolb_tests::late::Lateness;
use ferrolb_tests::paths::ferrolb;
use ferrolb_tests::plane::{Plane, User};
use ferrolb_tests::wait;

use crate::needs;

const SOON: Duration = Duration::from_secs(40);
const NAMESPACE: &str = "ferrolb-system";
/// Pools as in MetalLB's own documentation, with fields that ferrolb does not read.
const POOLS: &str = "\
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system}
spec:
  addresses: [192.0.2.10-192.0.2.19]
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan, namespace: metallb-system}
";

struct Controller(Child, PathBuf);

impl Controller {
    fn start(plane: &Plane, account: &str) -> Self {
        Self::with_key(plane, account, "")
    }

    /// A controller that keeps the members' key in this Secret; none if it has no name.
    fn with_key(plane: &Plane, account: &str, secret: &str) -> Self {
        let kubeconfig = plane.service_account_kubeconfig(NAMESPACE, account, plane.server());
        let log = plane.folder().join(format!("controller-{account}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let child = Command::new(ferrolb())
            .args(["controller", "--key-secret", secret, "--kubeconfig"])
            .arg(kubeconfig)
            .env("POD_NAMESPACE", NAMESPACE)
            .stdin(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        Self(child, log)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.1).unwrap()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn apply(plane: &Plane, name: &str, text: &str) {
    let path = plane.folder().join(name);
    std::fs::write(&path, text).unwrap();
    plane.apply(&path);
}

fn installed() -> Plane {
    let plane = Plane::start();
    plane.install();
    // A definition is served only some time after it was created.
    let path = plane.folder().join("pools.yaml");
    std::fs::write(&path, POOLS).unwrap();
    let given = ["apply", "-f", &path.display().to_string()];
    wait::expect("the pools apply", SOON, || {
        let output = plane.kubectl_as(User::Admin, &given);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            Ok(())
        } else {
            Err(errors)
        }
    });
    plane
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: LoadBalancer, ports: [{{port: 80}}]}}\n"
    )
}

#[test]
fn an_assignment_is_one_write_with_the_rights_of_the_installation_and_one_event() {
    needs!("an_assignment_is_one_write_with_the_rights_of_the_installation_and_one_event");
    let plane = installed();
    let mut controller = Controller::start(&plane, "controller");
    apply(&plane, "web.yaml", &service("web"));
    let path = "/api/v1/namespaces/default/services/web";
    wait::expect("web has an address", SOON, || {
        let shown = plane.get(path)?["status"]["loadBalancer"]["ingress"][0]["ip"].clone();
        if shown == "192.0.2.10" {
            Ok(())
        } else {
            Err(shown.to_string())
        }
    });
    wait::expect("its event is there", SOON, || {
        let described = plane.kubectl(&["describe", "svc", "web"]);
        if described.contains("Assigned IP [\"192.0.2.10\"]") {
            Ok(())
        } else {
            Err(described)
        }
    });
    let web = plane.get(path).unwrap();
    assert_eq!(
        web["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"],
        "lan"
    );
    wait::holds("it writes once", Duration::from_secs(3), || {
        let writes = plane.writes(&format!("system:serviceaccount:{NAMESPACE}:controller"));
        let about = writes.iter().filter(|w| !w.resource().contains("events"));
        let names: Vec<&str> = about.map(|w| w.object_ref.name.as_str()).collect();
        names == ["web"]
    })
    .unwrap();
    let pool = plane
        .get("/apis/metallb.io/v1beta1/namespaces/metallb-system/ipaddresspools/lan")
        .unwrap();
    // What was applied, with the defaults, and nothing lost.
    let spec = serde_json::json!({
        "addresses": ["192.0.2.10-192.0.2.19"],
        "autoAssign": true,
        "avoidBuggyIPs": false,
    });
    assert_eq!(pool["spec"], spec);
    let columns = plane.kubectl(&["-n", "metallb-system", "get", "ipaddresspools"]);
    assert!(
        columns.contains("AUTO ASSIGN") && columns.contains("192.0.2.10"),
        "{columns}"
    );
    let (lateness, asked) = (Lateness::start(), std::time::Instant::now());
    let pid = nix::unistd::Pid::from_raw(i32::try_from(controller.0.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(controller.0.wait().unwrap().success());
    let (took, limit) = (asked.elapsed(), Duration::from_secs(2) + lateness.so_far());
    assert!(took < limit, "{took:?} and not {limit:?}");
    assert!(controller.log().contains("stopping"));
}

#[test]
fn a_patch_for_an_earlier_service_of_the_name_is_refused() {
    needs!("a_patch_for_an_earlier_service_of_the_name_is_refused");
    let plane = Plane::start();
    apply(&plane, "web.yaml", &service("web"));
    let patch =
        r#"{"metadata":{"uid":"0-0"},"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}"#;
    let given = [
        "patch",
        "svc",
        "web",
        "--subresource=status",
        "--type=merge",
        "-p",
        patch,
    ];
    let refused = plane.kubectl_as(User::Admin, &given);
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "it was taken");
    let known = errors.contains("metadata.uid")
        || errors.contains("(Conflict)")
        || errors.contains("Precondition");
    assert!(known, "{errors}");
}

#[test]
fn a_controller_without_rights_says_which_it_lacks() {
    needs!("a_controller_without_rights_says_which_it_lacks");
    let plane = installed();
    plane.kubectl(&["create", "serviceaccount", "-n", NAMESPACE, "nobody"]);
    let controller = Controller::start(&plane, "nobody");
    let wanted = "not allowed to list and watch services: give this user that right";
    wait::expect("the log says it", SOON, || {
        let log = controller.log();
        if log.contains(wanted) {
            Ok(())
        } else {
            Err(log)
        }
    });
}

#[test]
fn a_deleted_key_is_made_again_and_another_one_is_reported() {
    needs!("a_deleted_key_is_made_again_and_another_one_is_reported");
    let plane = installed();
    let controller = Controller::with_key(&plane, "controller", "ferrolb-members");
    let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets/ferrolb-members");
    let key = |what: &str| {
        wait::expect(what, SOON, || {
            let secret = plane.get(&path)?;
            let key = secret["data"]["key"].as_str().map(str::to_owned);
            key.ok_or(secret.to_string())
        })
    };
    let first = key("the key");
    plane.kubectl(&["-n", NAMESPACE, "delete", "secret", "ferrolb-members"]);
    assert_eq!(key("the key again"), first);
    let said = |text: &str| {
        wait::expect(text, SOON, || {
            let log = controller.log();
            if log.contains(text) { Ok(()) } else { Err(log) }
        });
    };
    said("was deleted; creating it again with the same key");
    let patch = r#"{"data": {"key": "QW5vdGhlciBrZXksIG9mIHdob21zb2V2ZXI="}}"#;
    let change = [
        "-n",
        NAMESPACE,
        "patch",
        "secret",
        "ferrolb-members",
        "-p",
        patch,
    ];
    plane.kubectl(&change);
    said("holds another key now");
    assert_ne!(key("the other key"), first, "the users' key stays");
}
