//! Checks that the product runs no other program. The node, the status and the cleanup run under strace, and each has exactly one
//! exec: its own start.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrolb_tests::need;
use ferrolb_tests::need::{Need, find_tool};
use ferrolb_tests::paths::ferrolb;
use ferrolb_tests::process::Process;
use ferrolb_tests::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::restart_solo::{ENDS, Solo, service};

/// A program under strace, which follows all its threads and children. It ends with the test, even if strace is killed first.
struct Traced {
    process: Process,
    trace: PathBuf,
}

impl Traced {
    fn start(solo: &Solo, name: &str, arguments: Vec<String>) -> Self {
        let trace = solo.folder().join(format!("{name}.trace"));
        // Shows whole paths: by default, strace cuts strings at 32 characters.
        let options = "-f -s 4096 --seccomp-bpf -e trace=execve,execveat -o";
        let mut all: Vec<String> = options.split(' ').map(str::to_owned).collect();
        all.extend([trace.display().to_string(), ferrolb().display().to_string()]);
        all.extend(arguments);
        let strace = find_tool("strace").expect("it is there");
        let log = solo.folder().join(format!("{name}.log"));
        let process = Process::start(solo.node.netns(), name, &strace, &all, &log);
        Self { process, trace }
    }

    /// The traced program: each line of a trace begins with the process ID.
    fn pid(&self) -> Option<Pid> {
        let text = read(&self.trace);
        let pid = text.split_whitespace().next()?.parse().ok()?;
        Some(Pid::from_raw(pid))
    }

    /// Waits for the end, asserts that it was successful, and returns the execs.
    fn execs(mut self) -> Vec<String> {
        let status = self.process.wait(ENDS);
        assert!(
            status.is_some_and(|status| status.success()),
            "{status:?}: {}",
            self.process.log()
        );
        let text = read(&self.trace);
        assert!(
            text.contains("+++ exited with 0 +++"),
            "a whole trace: {text}"
        );
        text.lines()
            .filter(|line| line.contains("exec"))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if let Some(pid) = self.pid().filter(|_| self.process.running()) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[track_caller]
fn only_its_own_start(execs: &[String], command: &str) {
    let program = ferrolb().display().to_string();
    let own = format!("execve(\"{program}\", [\"{program}\", \"{command}\"");
    assert!(
        execs.len() == 1 && execs[0].contains(&own),
        "ferrolb {command} ran: {execs:#?}"
    );
}

#[test]
fn node_status_and_cleanup_run_no_other_program() {
    need!(
        "node_status_and_cleanup_run_no_other_program",
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb,
        Need::Tool("strace")
    );
    let solo = Solo::new("exec");
    let state = solo.folder().join("node-1/state");
    std::fs::create_dir_all(&state).unwrap();
    let node = Traced::start(&solo, "traced-node", solo.setup.arguments(&solo.node));
    solo.serving();
    let ports = "  - {port: 81, targetPort: 8000}\n";
    let third = std::net::Ipv4Addr::new(172, 17, 255, 3);
    solo.manifests
        .write("third.yaml", &service("third", third, "", ports));
    let serves = |known: bool| match solo.service("third") {
        Ok(service) => known && service["state"] == "Serving",
        Err(_) => !known,
    };
    wait::until("a third Service", Duration::from_secs(20), || serves(true));
    let socket = solo.node.socket(&solo.setup).display().to_string();
    let status = ["status", "--socket", &socket].map(str::to_owned).to_vec();
    only_its_own_start(
        &Traced::start(&solo, "traced-status", status).execs(),
        "status",
    );
    solo.manifests.remove("third.yaml");
    wait::until("two Services", Duration::from_secs(20), || serves(false));
    kill(node.pid().expect("it runs"), Signal::SIGTERM).unwrap();
    only_its_own_start(&node.execs(), "node");
    let cleanup = ["cleanup", "--state", &state.display().to_string()]
        .map(str::to_owned)
        .to_vec();
    only_its_own_start(
        &Traced::start(&solo, "traced-cleanup", cleanup).execs(),
        "cleanup",
    );
}
