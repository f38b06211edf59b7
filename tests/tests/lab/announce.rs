//! Which node answers ARP for an address, before and after events on nodes and agents.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ferrolb_tests::arp::Questions;
use ferrolb_tests::cluster::Cluster;
use ferrolb_tests::late::Lateness;
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::node::PodLinks;
use ferrolb_tests::rows::{ADDRESSES, INGRESS, WEB, one_mac};
use ferrolb_tests::wait;

use crate::tenant::longest_silence;

const WHILE: Duration = Duration::from_secs(15);

fn announcing() -> Cluster {
    let mut cluster = Cluster::new("none", PodLinks::Routed);
    cluster.start();
    cluster
        .settle(&ADDRESSES)
        .expect("every address is announced");
    cluster
}

fn announced_by_another(
    cluster: &Cluster,
    address: Ipv4Addr,
    than: &str,
) -> Result<String, String> {
    match cluster.announcer(address.into()) {
        Ok(name) if name != than => Ok(name),
        other => Err(format!("{other:?}")),
    }
}

macro_rules! needs {
    ($test:expr) => {
        need!(
            $test,
            Need::Root,
            Need::Ferrolb,
            Need::CoreDns,
            Need::Tool("nginx"),
            Need::Tool("arping")
        )
    };
}

#[test]
fn each_address_has_one_mac_and_a_local_one_is_announced_where_its_endpoint_is() {
    needs!("each_address_has_one_mac_and_a_local_one_is_announced_where_its_endpoint_is");
    let cluster = announcing();
    for address in ADDRESSES {
        one_mac(&cluster, address).unwrap();
    }
    assert_eq!(cluster.announcer(INGRESS.into()).unwrap(), "node-3");
}

#[test]
fn an_announcer_leaves_the_kernel_as_it_is() {
    needs!("an_announcer_leaves_the_kernel_as_it_is");
    let cluster = announcing();
    let fresh = ferrolb_tests::netns::Netns::new("fresh");
    for node in &cluster.nodes {
        let links = node.netns().sh("ip", &["-o", "link", "show"]);
        assert!(!links.contains("kube-ipvs0"), "{links}");
        let addresses = node.netns().sh("ip", &["-o", "-4", "addr", "show"]);
        assert!(!addresses.contains("172.17.255."), "{addresses}");
        for knob in ["arp_ignore", "arp_announce"] {
            let path = format!("net/ipv4/conf/all/{knob}");
            assert_eq!(
                node.netns().read_sysctl(&path).unwrap(),
                fresh.read_sysctl(&path).unwrap(),
                "{knob}"
            );
        }
    }
}

/// Kills the agent that announces an address, and with it the link of its machine or not.
fn is_replaced_within_a_second(link_too: bool) {
    let mut cluster = announcing();
    let victim = cluster.announcer(WEB.into()).unwrap();
    let lateness = Lateness::start();
    if link_too {
        cluster.lan.unplug(&cluster.node(&victim).host);
    }
    cluster.node_mut(&victim).drop_agent();
    let killed = Instant::now();
    let heir = wait::expect("another announcer", WHILE, || {
        announced_by_another(&cluster, WEB, &victim)
    });
    let (took, late) = (killed.elapsed(), lateness.so_far());
    println!("{heir} took over from {victim} after {took:?}; the machine was {late:?} late");
    let limit = Duration::from_secs(1) * wait::slowness() + late;
    assert!(took < limit, "{took:?} and not {limit:?}");
    one_mac(&cluster, WEB).unwrap();
}

#[test]
fn a_dead_nodes_address_is_answered_by_another_within_a_second() {
    needs!("a_dead_nodes_address_is_answered_by_another_within_a_second");
    is_replaced_within_a_second(true);
}

#[test]
fn a_killed_agent_costs_no_more_than_a_killed_machine() {
    needs!("a_killed_agent_costs_no_more_than_a_killed_machine");
    is_replaced_within_a_second(false);
}

#[test]
fn a_node_that_comes_back_takes_nothing_away() {
    needs!("a_node_that_comes_back_takes_nothing_away");
    let mut cluster = announcing();
    let victim = cluster.announcer(WEB.into()).unwrap();
    cluster.lan.unplug(&cluster.node(&victim).host);
    cluster.node_mut(&victim).drop_agent();
    let heir = wait::expect("another announcer", WHILE, || {
        announced_by_another(&cluster, WEB, &victim)
    });
    cluster.lan.replug(&cluster.node(&victim).host);
    let setup = cluster.setup.clone();
    cluster.node_mut(&victim).start_agent(&setup);
    wait::expect("all three agree", WHILE, || cluster.announcer(WEB.into()));
    wait::holds("the heir keeps the address", Duration::from_secs(2), || {
        cluster.announcer(WEB.into()).is_ok_and(|name| name == heir)
    })
    .unwrap();
    one_mac(&cluster, WEB).unwrap();
}

#[test]
fn an_agent_that_restarts_hands_its_address_over_and_is_not_missed() {
    needs!("an_agent_that_restarts_hands_its_address_over_and_is_not_missed");
    let mut cluster = announcing();
    let owner = cluster.announcer(WEB.into()).unwrap();
    let setup = cluster.setup.clone();
    let (lateness, pace) = (Lateness::start(), Duration::from_millis(20));
    let questions = Questions::start(&cluster.client, WEB, pace);
    let status = cluster
        .node_mut(&owner)
        .agent()
        .expect("it runs")
        .stop(Duration::from_secs(10));
    assert!(status.success(), "{status}");
    let other = cluster.nodes.iter().find(|n| n.name != owner).unwrap();
    let heir = wait::expect("another announcer", WHILE, || {
        match cluster.announcer_as_seen_by(other, WEB.into()) {
            Ok(name) if name != owner => Ok(name),
            other => Err(format!("{other:?}")),
        }
    });
    cluster.node_mut(&owner).start_agent(&setup);
    wait::expect("all three agree", WHILE, || cluster.announcer(WEB.into()));
    assert_eq!(cluster.announcer(WEB.into()).unwrap(), heir);
    let (silence, late) = (longest_silence(&questions.finish()), lateness.so_far());
    println!(
        "{owner} restarted, {heir} took over after {silence:?} of silence; the machine was {late:?} late"
    );
    let limit = Duration::from_millis(500) * wait::slowness() + late;
    assert!(silence < limit, "{silence:?} and not {limit:?}");
    one_mac(&cluster, WEB).unwrap();
}

#[test]
fn an_agent_that_stops_for_good_is_replaced_although_it_said_goodbye() {
    needs!("an_agent_that_stops_for_good_is_replaced_although_it_said_goodbye");
    let mut cluster = announcing();
    let owner = cluster.announcer(WEB.into()).unwrap();
    let agent = cluster.node_mut(&owner).agent().expect("it runs");
    assert!(agent.stop(Duration::from_secs(10)).success());
    cluster.node_mut(&owner).drop_agent();
    // While an announcer is away, its kernel does not answer for it. So nobody waits the 10 s that a proxy's restart is given.
    let (lateness, ended) = (Lateness::start(), Instant::now());
    wait::expect("another node announces it", WHILE, || {
        announced_by_another(&cluster, WEB, &owner)
    });
    let (took, limit) = (ended.elapsed(), Duration::from_secs(5) + lateness.so_far());
    assert!(took < limit, "{took:?} and not {limit:?}");
    wait::expect("the client finds it", WHILE, || one_mac(&cluster, WEB));
}
