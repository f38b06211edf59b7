//! A cluster that grows from one node: the members follow the Node objects while the nodes run.

use std::time::Duration;

use ferrolb_tests::cluster::Cluster;
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::node::PodLinks;
use ferrolb_tests::rows::{DNS, WEB, one_mac};
use ferrolb_tests::wait;

const WHILE: Duration = Duration::from_secs(30);

/// Waits until the first `count` nodes, and no others, know each other and are alive.
fn know_each_other(cluster: &Cluster, count: usize) {
    let expected: Vec<String> = (1..=count).map(|n| format!("node-{n} Alive")).collect();
    for node in &cluster.nodes[..count] {
        wait::expect(
            &format!("{} knows {count} members", node.name),
            WHILE,
            || {
                let status = node.status(&cluster.setup)?;
                let members = status["members"].as_array().cloned().unwrap_or_default();
                let text = |m: &serde_json::Value, field: &str| {
                    m[field].as_str().unwrap_or_default().to_owned()
                };
                let known: Vec<String> = members
                    .iter()
                    .map(|m| format!("{} {}", text(m, "name"), text(m, "state")))
                    .collect();
                if known == expected {
                    Ok(())
                } else {
                    Err(format!("{known:?}"))
                }
            },
        );
    }
}

#[test]
fn nodes_that_join_a_single_one_are_its_members_and_each_address_has_one_announcer() {
    need!(
        "nodes_that_join_a_single_one_are_its_members_and_each_address_has_one_announcer",
        Need::Root,
        Need::Ferrolb,
        Need::CoreDns,
        Need::Tool("nginx"),
        Need::Tool("arping")
    );
    let mut cluster = Cluster::new("none", PodLinks::Routed);
    // No members are listed: the Node objects name the nodes.
    cluster.setup.members.clear();
    for number in [2, 3] {
        cluster.manifests.remove(&format!("lab-node-{number}.yaml"));
    }
    let setup = cluster.setup.clone();
    for count in 1..=3 {
        if count > 1 {
            cluster.manifests.node(&cluster.nodes[count - 1]);
        }
        cluster.nodes[count - 1].start_agent(&setup);
        know_each_other(&cluster, count);
        for address in [WEB, DNS] {
            wait::expect("one announcer", WHILE, || one_mac(&cluster, address));
        }
    }
}
