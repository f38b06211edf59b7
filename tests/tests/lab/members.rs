//! Members that cannot hear each other, or that have no address of their own: each says what is wrong and what to open or change.

use std::time::Duration;

use ferrolb_tests::client::{arp, mac};
use ferrolb_tests::cluster::Cluster;
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::node::{AgentSetup, PodLinks, problems};
use ferrolb_tests::rows::WEB;
use ferrolb_tests::wait;

const WHILE: Duration = Duration::from_secs(30);

fn cluster() -> Cluster {
    let mut cluster = Cluster::new("none", PodLinks::Routed);
    // Two members: a third one that is not started is one more that is not heard.
    cluster.setup.members.truncate(2);
    cluster.manifests.remove("lab-node-3.yaml");
    cluster
}

/// Starts both nodes, each with its own settings.
fn start(cluster: &mut Cluster, setups: &[AgentSetup; 2]) {
    for (node, setup) in cluster.nodes.iter_mut().zip(setups) {
        node.start_agent(setup);
    }
}

/// Waits until the node's status has a problem of this object that contains this text.
fn complains(cluster: &Cluster, node: usize, setup: &AgentSetup, object: &str, text: &str) {
    let node = &cluster.nodes[node];
    wait::expect(&format!("{} complains", node.name), WHILE, || {
        let status = node.status(setup)?;
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        let has = |p: &serde_json::Value| {
            let message = p["message"].as_str().unwrap_or_default();
            p["object"] == object && message.contains(text)
        };
        if problems.iter().any(has) {
            Ok(())
        } else {
            Err(format!("{problems:?}"))
        }
    });
}

#[test]
fn nodes_that_do_not_hear_each_other_name_the_port_to_open() {
    need!(
        "nodes_that_do_not_hear_each_other_name_the_port_to_open",
        Need::Root,
        Need::Ferrolb,
        Need::CoreDns,
        Need::Tool("nginx")
    );
    let mut cluster = cluster();
    let mut setups = [cluster.setup.clone(), cluster.setup.clone()];
    setups[1]
        .extra
        .extend(["--port", "7950"].map(str::to_owned));
    start(&mut cluster, &setups);
    for (node, other, port) in [(0, "node-2", 7947), (1, "node-1", 7950)] {
        let object = format!("node node-{}", node + 1);
        let text = format!(
            "hears none of the other members ({other}), so each of them may announce the same addresses: if their agents run, open UDP port {port} "
        );
        complains(&cluster, node, &setups[node], &object, &text);
    }
}

#[test]
fn a_member_that_announces_the_same_address_is_called_by_its_name() {
    need!(
        "a_member_that_announces_the_same_address_is_called_by_its_name",
        Need::Root,
        Need::Ferrolb,
        Need::CoreDns,
        Need::Tool("nginx"),
        Need::Tool("arping")
    );
    let mut cluster = cluster();
    let setup = cluster.setup.clone();
    let mut elsewhere = setup.clone();
    elsewhere
        .extra
        .extend(["--port", "7950"].map(str::to_owned));
    start(&mut cluster, &[setup.clone(), setup.clone()]);
    let web = || {
        let announcer = cluster.nodes[..2].iter().position(|node| {
            let mine = mac(node.netns(), "eth0");
            arp(&cluster.client.netns, WEB) == [mine]
        });
        announcer.ok_or("nobody announces it")
    };
    let announcer = wait::expect("the address is announced", WHILE, web);
    let other = 1 - announcer;
    let ended = cluster.nodes[other].agent().unwrap().stop(WHILE);
    assert!(ended.success(), "{ended}");
    cluster.nodes[other].drop_agent();
    cluster.nodes[other].start_agent(&elsewhere);
    let name = &cluster.nodes[other].name;
    let mac = mac(cluster.nodes[other].netns(), "eth0");
    wait::expect("both answer", WHILE, || {
        let answers = arp(&cluster.client.netns, WEB);
        answers.contains(&mac).then_some(()).ok_or(answers)
    });
    let text = format!("member {name} ({mac}) announces this too");
    complains(&cluster, announcer, &setup, &WEB.to_string(), &text);
}

#[test]
fn nodes_with_different_keys_say_so() {
    need!(
        "nodes_with_different_keys_say_so",
        Need::Root,
        Need::Ferrolb,
        Need::CoreDns,
        Need::Tool("nginx")
    );
    let mut cluster = cluster();
    let mut setups = [cluster.setup.clone(), cluster.setup.clone()];
    setups[1].key_file = setups[1].folder.join("another-key");
    std::fs::write(&setups[1].key_file, format!("{}\n", "3c".repeat(32))).unwrap();
    start(&mut cluster, &setups);
    for (node, other) in [(0, 1), (1, 0)] {
        let from = cluster.nodes[other].host.v4.to_string();
        complains(&cluster, node, &setups[node], &from, "same key");
    }
}

#[test]
fn a_port_that_another_process_has_is_named() {
    need!(
        "a_port_that_another_process_has_is_named",
        Need::Root,
        Need::Ferrolb,
        Need::CoreDns,
        Need::Tool("nginx")
    );
    let mut cluster = cluster();
    let setup = cluster.setup.clone();
    let address = cluster.nodes[0].host.v4;
    let taken = cluster.nodes[0]
        .netns()
        .run(move || std::net::UdpSocket::bind((address, 7947)).unwrap());
    cluster.nodes[0].start_agent(&setup);
    let object = format!("UDP {address} port 7947");
    complains(&cluster, 0, &setup, &object, "another process has the port");
    drop(taken);
    // The node opens it as soon as it can.
    cluster.nodes[1].start_agent(&setup);
    wait::expect("no problem", WHILE, || {
        let status = cluster.nodes[0].status(&setup)?;
        let problems = problems(&status);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(format!("{problems:?}"))
        }
    });
}
