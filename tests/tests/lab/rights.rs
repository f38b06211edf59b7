//! Rights: what the node needs, what others may not do, and that the node runs no other program.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ferrolb_tests::cluster::Cluster;
use ferrolb_tests::lan::Lan;
use ferrolb_tests::need;
use ferrolb_tests::need::{Need, find_tool};
use ferrolb_tests::node::PodLinks;
use ferrolb_tests::paths::{TempDir, ferrolb};
use ferrolb_tests::process::Process;
use ferrolb_tests::rows::ADDRESSES;
use ferrolb_tests::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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
    // A copy that the user `nobody` may read and run.
    let program = folder.path().join("ferrolb");
    std::fs::copy(ferrolb(), &program).unwrap();
    let (manifests, state) = (folder.path().join("manifests"), folder.path().join("state"));
    std::fs::create_dir(&manifests).unwrap();
    std::fs::create_dir(&state).unwrap();
    std::os::unix::fs::chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
    let shown = |path: &Path| path.display().to_string();
    let socket = state.join("sock");
    let mut arguments = ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
        .map(str::to_owned)
        .to_vec();
    arguments.extend([
        shown(&program),
        "node".to_owned(),
        "--proxy".to_owned(),
        "none".to_owned(),
    ]);
    arguments.extend(["--node-name", "a", "--node-ip", "172.17.0.11"].map(str::to_owned));
    arguments.extend([
        "--manifests".to_owned(),
        shown(&manifests),
        "--state".to_owned(),
        shown(&state),
        "--socket".to_owned(),
        shown(&socket),
    ]);
    // The LAN segment lives as long as this variable: without it, the interface disappears.
    let mut lan = Lan::new();
    let host = lan.plug("rights", 11);
    let setpriv = find_tool("setpriv").unwrap();
    let node = Process::start(
        &host.netns,
        "node",
        &setpriv,
        &arguments,
        &folder.path().join("log"),
    );
    let sentence = wait::expect("it says what to do", Duration::from_secs(10), || {
        let said = node.log();
        said.lines()
            .find(|line| line.contains("CAP_NET_RAW"))
            .map(str::to_owned)
            .ok_or(said)
    });
    assert!(sentence.contains("run as root"), "{sentence}");
    // It is logged once, not at each attempt.
    wait::holds("it does not repeat itself", Duration::from_secs(2), || {
        node.log().matches("CAP_NET_RAW").count() == 1
    })
    .unwrap();
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
    // The signal goes to the node, and strace ends with it. If strace got the signal, it would leave the node behind.
    let text = || std::fs::read_to_string(&trace).unwrap();
    let pid = text()
        .split_whitespace()
        .next()
        .and_then(|pid| pid.parse().ok());
    kill(
        Pid::from_raw(pid.expect("a line begins with its process")),
        Signal::SIGTERM,
    )
    .unwrap();
    let status = traced.wait(Duration::from_secs(15)).expect("it ends");
    let text = text();
    let calls: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("execve"))
        .collect();
    // The first exec is strace's own start of the node.
    assert_eq!(calls.len(), 1, "{calls:#?} ({status})");
}
