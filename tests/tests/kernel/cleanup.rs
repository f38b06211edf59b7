//! `ferrolb cleanup`: afterwards the namespace is as it was before the node ran, and what others created is untouched.

use std::collections::BTreeMap;
use std::path::Path;

use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::netns::Netns;
use nix::sys::signal::Signal;

use crate::foreign::make_foreign_things;
use crate::restart_solo::{Solo, changed};

/// The whole state of a node's namespace.
#[derive(Clone, PartialEq, Eq)]
struct World {
    texts: [String; 5],
    sysctls: BTreeMap<String, String>,
}

impl World {
    fn of(netns: &Netns) -> Self {
        let texts = [
            netns.sh("ip", &["-o", "addr"]),
            netns.sh("ip", &["-N", "route", "show", "table", "all"]),
            netns.sh("ip", &["-6", "-N", "route", "show", "table", "all"]),
            netns.sh("nft", &["-s", "-a", "list", "ruleset"]),
            netns.sh("ipvsadm", &["-Sn"]),
        ];
        let sysctls = netns.run(|| {
            let mut found = BTreeMap::new();
            // These values are counters or random.
            let volatile = [
                "nf_conntrack_count",
                "tcp_fastopen_key",
                "neigh",
                "stable_secret",
            ];
            read_tree(Path::new("/proc/sys/net"), &volatile, &mut found);
            found
        });
        Self { texts, sysctls }
    }

    #[track_caller]
    fn same(&self, now: &Self, when: &str) {
        for (old, new) in self.texts.iter().zip(&now.texts) {
            assert!(old == new, "{when}:\n{}", changed(old, new));
        }
        let lines = |world: &Self| -> String {
            let all = world.sysctls.iter();
            all.map(|(path, value)| format!("{path} = {value}\n"))
                .collect()
        };
        let (old, new) = (lines(self), lines(now));
        assert!(old == new, "sysctls {when}:\n{}", changed(&old, &new));
    }
}

fn read_tree(folder: &Path, but: &[&str], found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if but.iter().any(|text| name == *text) {
            continue;
        }
        if path.is_dir() {
            read_tree(&path, but, found);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            found.insert(path.display().to_string(), text.trim().to_owned());
        }
    }
}

#[test]
fn cleanup_leaves_the_namespace_as_it_was() {
    need!(
        "cleanup_leaves_the_namespace_as_it_was",
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb,
        Need::Tool("ipvsadm")
    );
    let mut solo = Solo::new("cleanup");
    make_foreign_things(solo.node.netns());
    let before = World::of(solo.node.netns());
    assert!(before.sysctls.len() > 200, "{:?}", before.sysctls);
    solo.start();
    let running = World::of(solo.node.netns());
    let arp = "/proc/sys/net/ipv4/conf/all/arp_ignore";
    assert_eq!(before.sysctls.get(arp).map(String::as_str), Some("0"));
    assert_eq!(running.sysctls.get(arp).map(String::as_str), Some("1"));
    assert!(running.texts != before.texts);

    let refused = solo.cleanup();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.lines().count() == 1,
        "{said}"
    );
    assert!(
        said.contains("node-1/state") && said.contains("stop"),
        "{said}"
    );
    running.same(
        &World::of(solo.node.netns()),
        "after a cleanup that was refused",
    );

    solo.end(Signal::SIGTERM);
    for when in ["after the cleanup", "after a second cleanup"] {
        let done = solo.cleanup();
        assert!(
            done.status.success(),
            "{when}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        before.same(&World::of(solo.node.netns()), when);
    }
    // The assignments are kept: the next node serves the same addresses.
    solo.start();
    let again = World::of(solo.node.netns());
    assert_eq!(again.texts[4], running.texts[4]);
    // This time, the node has no chance to say goodbye.
    solo.end(Signal::SIGKILL);
    assert!(solo.cleanup().status.success());
    before.same(
        &World::of(solo.node.netns()),
        "after a node that was killed",
    );
}
