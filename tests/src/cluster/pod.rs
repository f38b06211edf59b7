//! The environment that a pod of the installation gives its only container: arguments, variables, and the credentials of its
//! service account in their usual place.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use crate::need::find_tool;
use crate::node::InCluster;
use crate::plane::Plane;

/// Puts the folder on a file system that only this process sees. The remaining arguments are the command.
const MOUNT: &str = "set -eu\n\
    mount -t tmpfs tmpfs /run\n\
    mkdir -p /run/secrets/kubernetes.io/serviceaccount\n\
    cp \"$1\"/* /run/secrets/kubernetes.io/serviceaccount/\n\
    shift\n\
    exec \"$@\"";

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The arguments of a workload's only container, without those that name paths on the machine.
pub(super) fn arguments(template: &Value) -> Vec<String> {
    let given = &template["spec"]["containers"][0]["args"];
    let given = given.as_array().into_iter().flatten().map(text);
    let places = ["--state=", "--key-file=", "--socket=", "--config="];
    given
        .filter(|argument| !places.iter().any(|p| argument.starts_with(p)))
        .collect()
}

/// Arguments and variables of the nodes' pods, with this server in the ConfigMap `ferrolb`.
pub(super) fn given(template: &Value, server: SocketAddr) -> InCluster {
    let mut given = InCluster {
        arguments: arguments(template),
        variables: Vec::new(),
        names: Vec::new(),
    };
    let listed = &template["spec"]["containers"][0]["env"];
    for variable in listed.as_array().into_iter().flatten() {
        let name = text(&variable["name"]);
        let from = &variable["valueFrom"];
        if from["fieldRef"]["fieldPath"] == "spec.nodeName" {
            given.names.push(name);
        } else if from["configMapKeyRef"]["name"] == "ferrolb"
            && from["configMapKeyRef"]["key"] == "server"
        {
            given.variables.push((name, format!("https://{server}")));
        } else {
            // The container has the host's folder mounted there; the lab has no container.
            assert_eq!(variable["value"], "/host/proc/sys/net", "{variable}");
            given.variables.push((name, "/proc/sys/net".to_owned()));
        }
    }
    given
}

/// The command prefix that puts a service account's token, and the authority, where a pod has them.
pub(super) fn credentials(
    plane: &Plane,
    folder: &Path,
    namespace: &str,
    account: &str,
) -> Vec<String> {
    let files = folder.join(format!("serviceaccount-{account}"));
    fs::create_dir_all(&files).expect("a folder for the credentials");
    let token = plane.service_account_token(namespace, account);
    let authority = fs::read_to_string(&plane.access().ca).expect("the authority can be read");
    for (name, content) in [
        ("token", token.as_str()),
        ("ca.crt", &authority),
        ("namespace", namespace),
    ] {
        fs::write(files.join(name), content).expect("a file of the credentials");
    }
    let unshare = find_tool("unshare").expect("unshare").display().to_string();
    let files = files.display().to_string();
    [&unshare, "--mount", "sh", "-c", MOUNT, "sh", &files]
        .map(str::to_owned)
        .into()
}
