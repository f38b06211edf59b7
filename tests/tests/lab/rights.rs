//! Rights: what the node needs, what others may not, and that it runs no program.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use ferrolb_tests::cluster::Cluster;
use ferrolb_tests::need;
use ferrolb_tests::need::{Need, find_tool};
use ferrolb_tests::node::PodLinks;
use ferrolb_tests::paths::{TempDir, ferrolb};
use ferrolb_tests::process::Process;
use ferrolb_tests::rows::ADDRESSES;
use ferrolb_tests::wait;

/// Debian's user and group `nogroup`.
const NOBODY: u32 = 65534;

#[test]
fn without_rights_the_node_says_in_one_sentence_what_to_do() {
    need!(
        "without_rights_the_node_says_in_one_sentence_what_to_do",
        Need::Root,
        Need::Ferrolb
    );
    let folder = TempDir::new("rights");
    // A copy that nobody may read and run.
    let program = folder.path().join("ferrolb");
    std::fs::copy(ferrolb(), &program).unwrap();
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::os::unix::fs::chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = Command::new(&program);
    command
        .arg("node")
        .arg("--manifests")
        .arg(folder.path())
        .arg("--state")
        .arg(&state);
    command.arg("--socket").arg(state.join("sock")).args([
        "--node-name",
        "a",
        "--node-ip",
        "127.0.0.1",
        "--proxy",
        "none",
    ]);
    let output = command
        .uid(NOBODY)
        .gid(NOBODY)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    let sentence = said.lines().last().unwrap_or_default();
    assert!(
        sentence.contains("CAP_NET_") || sentence.contains("root"),
        "{said}"
    );
}

#[test]
fn only_root_may_ask_the_node() {
    need!(
        "only_root_may_ask_the_node",
        Need::Root,
        Need::Ferrolb,
        Need::CoreDns,
        Need::Tool("nginx")
    );
    let mut cluster = Cluster::new("none", PodLinks::Routed);
    cluster.start();
    let program = cluster.folder().join("ferrolb");
    std::fs::copy(ferrolb(), &program).unwrap();
    let mut command = Command::new(&program);
    command
        .arg("status")
        .arg("--socket")
        .arg(cluster.nodes[0].socket(&cluster.setup));
    let output = command.uid(NOBODY).gid(NOBODY).output().unwrap();
    assert!(!output.status.success());
    assert!(output.stdout.is_empty());
}

#[test]
fn the_node_runs_no_other_program() {
    need!(
        "the_node_runs_no_other_program",
        Need::Root,
        Need::Ferrolb,
        Need::CoreDns,
        Need::Tool("nginx"),
        Need::Tool("strace")
    );
    let mut cluster = Cluster::new("none", PodLinks::Routed);
    let trace = cluster.folder().join("trace");
    let node = &cluster.nodes[0];
    let mut arguments: Vec<String> = ["-f", "-e", "trace=execve,execveat", "-o"]
        .map(str::to_owned)
        .to_vec();
    arguments.extend([trace.display().to_string(), ferrolb().display().to_string()]);
    arguments.extend(cluster.setup.arguments(node));
    let netns = node.netns().clone();
    std::fs::create_dir_all(cluster.folder().join(&node.name)).unwrap();
    let strace = find_tool("strace").unwrap();
    let mut traced = Process::start(
        &netns,
        "strace",
        &strace,
        &arguments,
        &cluster.folder().join("node-1.log"),
    );
    let setup = cluster.setup.clone();
    for node in &mut cluster.nodes[1..] {
        node.start_agent(&setup);
    }
    cluster.settle(&ADDRESSES).unwrap();
    wait::expect("the traced node answers", Duration::from_secs(15), || {
        cluster.nodes[0].status(&setup).map(drop)
    });
    let status = traced.stop(Duration::from_secs(15));
    let text = std::fs::read_to_string(&trace).unwrap();
    let calls: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("execve"))
        .collect();
    // The first is strace's own start of the node.
    assert_eq!(calls.len(), 1, "{calls:#?} ({status})");
}
