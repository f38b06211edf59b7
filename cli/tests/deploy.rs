//! The installation's YAML is what the program says and asks for, no more and no less.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ferrolb_source::cluster::{Resources, Settings, rights};
use ferrolb_source::decode::METALLB_NAMESPACE;
use ferrolb_source::yaml;
use serde_json::Value;

/// Subject, namespace of the binding, group, resource, name, verb; an empty namespace or name is all of them.
type Grant = (String, String, String, String, String, String);

const SYSTEM: &str = "ferrolb-system";
const FERROLB: &str = env!("CARGO_BIN_EXE_ferrolb");

fn kustomize(folder: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../deploy/kustomize", folder]
        .iter()
        .collect()
}

fn base() -> PathBuf {
    kustomize("base")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(base().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn documents(file: &str) -> Vec<Value> {
    let text = read(file);
    let parts = text.split("\n---\n");
    parts
        .map(|part| yaml::value(part).unwrap_or_else(|e| panic!("{file}: {e}")))
        .collect()
}

fn resources() -> Vec<String> {
    let all = documents("kustomization.yaml").remove(0);
    texts(&all["resources"])
}

fn texts(list: &Value) -> Vec<String> {
    let texts = list.as_array().into_iter().flatten();
    texts.map(|t| t.as_str().unwrap().to_owned()).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn objects() -> Vec<Value> {
    resources()
        .iter()
        .flat_map(|file| documents(file))
        .collect()
}

fn of_kind(kind: &str) -> Vec<Value> {
    let mut all = objects();
    all.retain(|o| o["kind"] == kind);
    all
}

/// Every single thing that is allowed to somebody.
fn granted() -> BTreeSet<Grant> {
    let mut grants = BTreeSet::new();
    for kind in ["Role", "ClusterRole"] {
        for binding in of_kind(&format!("{kind}Binding")) {
            let namespace = text(&binding["metadata"]["namespace"]);
            assert_eq!(binding["roleRef"]["kind"], kind);
            let roles = of_kind(kind);
            let role = roles
                .iter()
                .find(|r| {
                    r["metadata"]["name"] == binding["roleRef"]["name"]
                        && text(&r["metadata"]["namespace"]) == namespace
                })
                .unwrap_or_else(|| panic!("no role for {binding}"));
            for subject in binding["subjects"].as_array().unwrap() {
                assert_eq!(subject["kind"], "ServiceAccount");
                assert_eq!(subject["namespace"], SYSTEM);
                for [group, resource, name, verb] in allowed(role) {
                    let account = text(&subject["name"]);
                    grants.insert((account, namespace.clone(), group, resource, name, verb));
                }
            }
        }
    }
    grants
}

/// Group, resource, name and verb of every single thing that a role allows.
fn allowed(role: &Value) -> BTreeSet<[String; 4]> {
    let mut all = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        let mut names = texts(&rule["resourceNames"]);
        if names.is_empty() {
            names.push(String::new());
        }
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for name in &names {
                    for verb in texts(&rule["verbs"]) {
                        all.insert([group.clone(), resource.clone(), name.clone(), verb]);
                    }
                }
            }
        }
    }
    all
}

#[test]
fn the_definitions_are_those_that_the_program_prints() {
    let printed = Command::new(FERROLB).arg("crds").output().unwrap();
    assert!(printed.status.success());
    let file = std::fs::read_to_string(kustomize("crds").join("crds.yaml")).unwrap();
    let (header, rest) = file.split_once('\n').unwrap();
    assert!(header.starts_with('#'), "{header}");
    assert!(
        rest.as_bytes() == printed.stdout,
        "crds.yaml is not what `ferrolb crds` prints: print it anew, below the first line"
    );
}

#[test]
fn the_workloads_hold_nothing_that_the_users_pools_need() {
    let held: BTreeSet<(String, String)> = objects()
        .iter()
        .map(|o| (text(&o["kind"]), text(&o["metadata"]["name"])))
        .collect();
    let kinds: Vec<&str> = held.iter().map(|(kind, _)| kind.as_str()).collect();
    assert!(!kinds.contains(&"CustomResourceDefinition"), "{held:?}");
    let namespaces = held.iter().filter(|(kind, _)| kind == "Namespace");
    let namespaces: Vec<&str> = namespaces.map(|(_, name)| name.as_str()).collect();
    assert_eq!(namespaces, [SYSTEM]);
}

#[test]
fn every_file_is_part_of_the_installation_and_reads_as_objects() {
    let mut files: Vec<String> = std::fs::read_dir(base())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "kustomization.yaml")
        .collect();
    files.sort();
    let mut listed = resources();
    listed.sort();
    assert_eq!(files, listed);
    for object in objects() {
        let name = &object["metadata"]["name"];
        assert!(
            object["apiVersion"].is_string() && object["kind"].is_string() && name.is_string(),
            "{object}"
        );
    }
}

#[test]
fn the_rights_are_those_that_are_used() {
    let mut used: BTreeSet<Grant> = BTreeSet::new();
    for (account, which) in [
        ("controller", Resources::Controller),
        ("node", Resources::Node),
    ] {
        let mut uses =
            |namespace: &str, group: &str, resource: &str, name: &str, verbs: &[&str]| {
                for verb in verbs {
                    let texts =
                        [account, namespace, group, resource, name, verb].map(str::to_owned);
                    used.insert(texts.into());
                }
            };
        for right in rights(&Settings::new(which)) {
            uses(
                &right.namespace.unwrap_or_default(),
                &right.group,
                &right.resource,
                &right.name.unwrap_or_default(),
                &["list", "watch"],
            );
        }
        // What is written; the cluster tier finds all of it, and no more, in the log of the API server (rights.rs).
        uses("", "events.k8s.io", "events", "", &["create", "patch"]);
        if which == Resources::Controller {
            uses("", "", "services/status", "", &["patch"]);
            uses(SYSTEM, "", "secrets", "", &["create"]);
            uses(SYSTEM, "", "secrets", "ferrolb-members", &["get"]);
            uses(SYSTEM, "coordination.k8s.io", "leases", "", &["list"]);
        } else {
            let (namespace, group) = (METALLB_NAMESPACE, "metallb.io");
            let (object, status) = ("servicel2statuses", "servicel2statuses/status");
            uses(namespace, group, object, "", &["list", "create", "delete"]);
            uses(namespace, group, status, "", &["patch"]);
            uses(
                SYSTEM,
                "coordination.k8s.io",
                "leases",
                "",
                &["create", "patch"],
            );
        }
    }
    assert_eq!(granted(), used);
    let any = |g: &&Grant| [&g.2, &g.3, &g.4, &g.5].iter().any(|t| t.contains('*'));
    assert_eq!(granted().iter().find(any), None);
}

#[test]
fn who_may_only_look_may_ask_what_the_status_of_a_cluster_asks() {
    let mut asked: BTreeSet<[String; 4]> = BTreeSet::new();
    for right in rights(&Settings::new(Resources::Node)) {
        let name = right.name.unwrap_or_default();
        for verb in ["list", "watch"] {
            let (group, resource) = (right.group.clone(), right.resource.clone());
            asked.insert([group, resource, name.clone(), verb.to_owned()]);
        }
    }
    for (group, resource) in [
        ("metallb.io", "servicel2statuses"),
        ("", "events"),
        ("coordination.k8s.io", "leases"),
    ] {
        asked.insert([group, resource, "", "list"].map(str::to_owned));
    }
    let roles = of_kind("ClusterRole");
    let mut view = roles.iter();
    let view = view.find(|r| r["metadata"]["name"] == "ferrolb-view");
    assert_eq!(allowed(view.unwrap()), asked);
}

/// The program takes the arguments and variables of a container, and all that it then lacks is a cluster.
fn starts(container: &Value) {
    let words = texts(&container["args"]);
    let (_, help) = run(Command::new(FERROLB).args([&words[0], "--help"]));
    // A long line is wrapped.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let listed = container["env"].as_array().into_iter().flatten();
    for variable in listed.map(|v| text(&v["name"])) {
        // That one is read without an option.
        let known = variable == "POD_NAMESPACE" || help.contains(&format!("[env: {variable}="));
        assert!(known, "{variable}: {help}");
    }
    // The state is made where it is missing, which comes before the first look at the cluster: not on this machine.
    let here = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&words[0]);
    let moved = words.iter().map(|word| match word.split_once('=') {
        Some(("--state", path)) => format!("--state={}{path}", here.display()),
        _ => word.clone(),
    });
    // FERROLB_SERVER is optional, and without it no credentials that a machine has lead anywhere.
    let (code, said) = run(Command::new(FERROLB).args(moved).env_clear());
    assert_eq!(code, Some(1), "{words:?}: {said}");
    assert!(said.contains("no way to the API server is known"), "{said}");
}

/// How a run that must be short ends, and what it says.
fn run(command: &mut Command) -> (Option<i32>, String) {
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(30) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn what_the_pods_refer_to_is_there() {
    let accounts: Vec<String> = of_kind("ServiceAccount")
        .iter()
        .map(|a| text(&a["metadata"]["name"]))
        .collect();
    for kind in ["Deployment", "DaemonSet"] {
        let all = of_kind(kind);
        assert_eq!(all.len(), 1, "{kind}");
        let workload = &all[0];
        let template = &workload["spec"]["template"];
        assert_eq!(
            workload["spec"]["selector"]["matchLabels"],
            template["metadata"]["labels"]
        );
        assert!(accounts.contains(&text(&template["spec"]["serviceAccountName"])));
        let container = &template["spec"]["containers"][0];
        assert_eq!(container["image"], "ferrolb:0.1.0");
        let context = &container["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(texts(&context["capabilities"]["drop"]), ["ALL"]);
        starts(container);
    }
    let key = &of_kind("DaemonSet")[0]["spec"]["template"]["spec"]["volumes"];
    let secrets: Vec<String> = key
        .as_array()
        .unwrap()
        .iter()
        .map(|v| text(&v["secret"]["secretName"]))
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(secrets, ["ferrolb-members"]);
}

#[test]
fn the_hosts_sysctls_are_where_the_node_looks_for_them() {
    let pod = &of_kind("DaemonSet")[0]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let find = |list: &Value, field: &str, wanted: &Value| {
        let mut found = list.as_array().unwrap().iter();
        let found = found.find(|entry| entry[field] == *wanted);
        found.unwrap_or_else(|| panic!("no {wanted}")).clone()
    };
    let variable = find(&container["env"], "name", &"FERROLB_NET_SYSCTLS".into());
    let mount = find(&container["volumeMounts"], "mountPath", &variable["value"]);
    let volume = find(&pod["volumes"], "name", &mount["name"]);
    assert_eq!(volume["hostPath"]["path"], "/proc/sys/net");
}

#[test]
fn the_members_service_names_every_pod_of_the_nodes_ready_or_not() {
    let services = of_kind("Service");
    let service = &services[0];
    let name = format!(
        "{}/{}",
        text(&service["metadata"]["namespace"]),
        text(&service["metadata"]["name"])
    );
    let (_, help) = run(Command::new(FERROLB).args(["node", "--help"]));
    assert!(
        help.contains(&format!("[default: {name}]")),
        "{name}: {help}"
    );
    assert_eq!(service["spec"]["clusterIP"], "None");
    assert_eq!(service["spec"]["publishNotReadyAddresses"], true);
    let pods = &of_kind("DaemonSet")[0]["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&service["spec"]["selector"], pods);
}
