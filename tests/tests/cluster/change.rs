//! Changes under load: a rolling update, and an API server that cannot be reached.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ferrolb_tests::cluster::Cluster;
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::rows::{WEB, virtual_servers};
use ferrolb_tests::wait;

use crate::restart_load::{Kind, Load, Stream};
use crate::rows::cluster;

/// How long a rolling update may take. It replaces three pods one after the other, each with its grace period.
const ROLLED: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(40);

fn load(cluster: &Cluster, inside: Ipv4Addr) -> Load {
    let stream = |name, netns: &ferrolb_tests::netns::Netns, address: Ipv4Addr| Stream {
        name,
        netns: netns.clone(),
        kind: Kind::Requests,
        to: SocketAddr::from((address, 80)),
    };
    Load::start(vec![
        stream("client to VIP", &cluster.client.netns, WEB),
        stream("node to ClusterIP", cluster.nodes[0].netns(), inside),
    ])
}

fn web_pods(cluster: &Cluster) -> BTreeSet<Ipv4Addr> {
    cluster.web.iter().copied().collect()
}

#[test]
fn a_rolling_update_under_load_fails_no_request() {
    need!(
        "a_rolling_update_under_load_fails_no_request",
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb,
        Need::Plane,
        Need::CoreDns,
        Need::Tool("nginx"),
        Need::Tool("ipvsadm")
    );
    let mut cluster = cluster();
    let inside = cluster
        .cluster_ip(&cluster.nodes[0], "default", "web-svc-cip")
        .unwrap();
    let before = web_pods(&cluster);
    let load = load(&cluster, inside);
    cluster
        .api()
        .plane
        .kubectl(&["rollout", "restart", "deployment/web"]);
    wait::expect("all three pods are new ones", ROLLED, || {
        let pods = cluster.api().ready_pods("default", "app=web")?;
        let ips = pods
            .iter()
            .filter_map(|p| p["status"]["podIP"].as_str()?.parse().ok());
        let ips: BTreeSet<Ipv4Addr> = ips.collect();
        if ips.len() == 3 && ips.is_disjoint(&before) {
            Ok(())
        } else {
            Err(format!("{ips:?}"))
        }
    });
    cluster.find_pods();
    let wanted: BTreeSet<String> = cluster.web.iter().map(|ip| format!("{ip}:8000")).collect();
    for node in &cluster.nodes {
        wait::expect(
            &format!("{} has the new servers alone", node.name),
            SOON,
            || {
                let listed = virtual_servers(node);
                let real = &listed
                    .get(&format!("TCP {inside}:80"))
                    .ok_or("no virtual server")?
                    .real;
                let real: BTreeSet<String> = real.iter().map(|(to, _)| to.clone()).collect();
                if real == wanted {
                    Ok(())
                } else {
                    Err(format!("{real:?}"))
                }
            },
        );
    }
    load.pass(10);
    println!("rolling update: {}", load.finish());
}

#[test]
fn an_api_server_out_of_reach_changes_nothing_and_what_happened_meanwhile_is_caught_up() {
    need!(
        "an_api_server_out_of_reach_changes_nothing_and_what_happened_meanwhile_is_caught_up",
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb,
        Need::Plane,
        Need::CoreDns,
        Need::Tool("nginx"),
        Need::Tool("ipvsadm")
    );
    let mut cluster = cluster();
    let inside = cluster
        .cluster_ip(&cluster.nodes[0], "default", "web-svc-cip")
        .unwrap();
    let load = load(&cluster, inside);
    let lists =
        |cluster: &Cluster| -> Vec<_> { cluster.nodes.iter().map(virtual_servers).collect() };
    let before = lists(&cluster);
    cluster.api.as_mut().unwrap().relay.cut();
    let plane = &cluster.api().plane;
    plane.kubectl(&["scale", "deployment/web", "--replicas=4"]);
    wait::expect("a fourth pod", SOON, || {
        let pods = cluster.api().ready_pods("default", "app=web")?;
        if pods.len() == 4 {
            Ok(())
        } else {
            Err(format!("{}", pods.len()))
        }
    });
    load.pass(50);
    assert_eq!(lists(&cluster), before);
    cluster.api.as_mut().unwrap().relay.mend();
    let servers = |node| {
        let listed = virtual_servers(node);
        listed
            .get(&format!("TCP {inside}:80"))
            .map_or(0, |server| server.real.len())
    };
    for node in &cluster.nodes {
        wait::expect(
            &format!("{} has four servers", node.name),
            SOON,
            || match servers(node) {
                4 => Ok(()),
                other => Err(other),
            },
        );
    }
    cluster
        .api()
        .plane
        .kubectl(&["scale", "deployment/web", "--replicas=3"]);
    for node in &cluster.nodes {
        wait::expect(
            &format!("{} has three servers again", node.name),
            ROLLED,
            || match servers(node) {
                3 => Ok(()),
                other => Err(other),
            },
        );
    }
    cluster.find_pods();
    load.pass(10);
    println!("API server out of reach: {}", load.finish());
}
