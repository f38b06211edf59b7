//! A restart of `ferrolb node` on the same node under load: nothing is lost, and nothing in the kernel is written again.

use std::time::Duration;

use ferrolb_tests::client::{arp, ask_again, mac};
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::process::Process;
use ferrolb_tests::wait;
use nix::sys::signal::Signal;

use crate::restart_load::Load;
use crate::restart_solo::{KEPT, Solo, WEB};

/// How many answers each stream must get in each phase.
const PHASE: u64 = 8;
/// How many requests must be answered in total.
const REQUESTS: u64 = 1000;

#[test]
fn a_restart_under_load_loses_nothing_and_writes_nothing() {
    need!(
        "a_restart_under_load_loses_nothing_and_writes_nothing",
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb,
        Need::Tool("ipvsadm"),
        Need::Tool("arping")
    );
    let mut solo = Solo::new("restart");
    solo.start();
    let macs = [mac(solo.node.netns(), "eth0")];
    let client = solo.client.netns.clone();
    let ask_again = || {
        let neighbours = [(WEB, &*macs[0]), (KEPT, &*macs[0])];
        ask_again(&client, "eth0", &neighbours);
    };
    let before = solo.kernel();
    let watched = Watched::start(&solo);
    let load = Load::start(solo.traffic());
    for signal in [
        Signal::SIGTERM,
        Signal::SIGKILL,
        Signal::SIGKILL,
        Signal::SIGTERM,
    ] {
        solo.end(signal);
        before.same(&solo.kernel(), &format!("after {signal}"));
        if signal == Signal::SIGTERM {
            // The client sends a new ARP request, and only the kernel is there to answer.
            ask_again();
            for address in [WEB, KEPT] {
                assert_eq!(
                    arp(&solo.client.netns, address),
                    macs,
                    "{address} is left to the kernel"
                );
            }
        }
        load.pass(PHASE);
        solo.start();
        before.same(
            &solo.kernel(),
            &format!("after a start that followed {signal}"),
        );
        ask_again();
        load.pass(PHASE);
    }
    wait::until(
        "the addresses left to the kernel go away",
        Duration::from_secs(15),
        || {
            let text = solo
                .node
                .netns()
                .sh("ip", &["-o", "-4", "addr", "show", "dev", "eth0"]);
            !text.contains("172.17.255.")
        },
    );
    ask_again();
    load.pass(PHASE);
    wait::until("a thousand requests", Duration::from_secs(30), || {
        load.requests() >= REQUESTS
    });
    before.same(&solo.kernel(), "at the end");
    assert_eq!(watched.commits(&solo), Vec::<String>::new());
    let tally = load.finish();
    println!("4 restarts: {tally}");
}

/// The output of `nft monitor`. Only here can one see a change that is made and then reverted.
struct Watched {
    monitor: Process,
}

/// A table of the test's own. It is created before and after everything else.
const MARKER: &str = "lab_marker";

impl Watched {
    fn start(solo: &Solo) -> Self {
        let log = solo.folder().join("nft-monitor.log");
        let program = ferrolb_tests::need::find_tool("nft").expect("it is there");
        let arguments = ["-n".to_owned(), "monitor".to_owned()];
        let monitor = Process::start(solo.node.netns(), "nft monitor", &program, &arguments, &log);
        let watched = Self { monitor };
        // `nft monitor` is listening once it reports the marker.
        wait::until("nft monitor listens", Duration::from_secs(10), || {
            let netns = solo.node.netns();
            netns.nft(&format!(
                "add table ip {MARKER}\ndelete table ip {MARKER}\n"
            ));
            watched.monitor.log().contains(MARKER)
        });
        watched
    }

    /// Everything since the start that does not belong to the marker.
    fn commits(&self, solo: &Solo) -> Vec<String> {
        solo.node.netns().nft("add table ip lab_marker_end\n");
        let log = wait::expect(
            "nft monitor comes to the end",
            Duration::from_secs(10),
            || {
                let log = self.monitor.log();
                // The line that ends this generation names the process that made it, at the end of the line.
                let end = log.split_once("lab_marker_end").map(|(_, end)| end);
                if end.is_some_and(|end| end.contains("by process") && end.ends_with('\n')) {
                    Ok(log)
                } else {
                    Err(log)
                }
            },
        );
        let theirs = |line: &&str| !line.contains(MARKER) && !line.contains("by process");
        let mut lines: Vec<String> = log.lines().filter(theirs).map(str::to_owned).collect();
        let by = |line: &&str| line.contains("by process") && line.contains("ferrolb");
        lines.extend(log.lines().filter(by).map(str::to_owned));
        lines
    }
}
