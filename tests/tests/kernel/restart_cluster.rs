//! A restart of an announcer in a cluster: the other nodes wait for it, it stays the announcer, and nothing is lost.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ferrolb_tests::client::{arp, ask_again, mac};
use ferrolb_tests::cluster::Cluster;
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::node::PodLinks;
use ferrolb_tests::wait;

use crate::restart_load::{Kind, Load, Stream};
use crate::restart_solo::{ENDS, service};

const ECHO: Ipv4Addr = Ipv4Addr::new(172, 17, 255, 77);
const PHASE: u64 = 5;

#[test]
fn a_restarted_announcer_stays_the_announcer_and_loses_nothing() {
    need!(
        "a_restarted_announcer_stays_the_announcer_and_loses_nothing",
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb,
        Need::CoreDns,
        Need::Tool("nginx"),
        Need::Tool("arping")
    );
    let mut cluster = Cluster::new("ipvs", PodLinks::Routed);
    let ports = "  - {name: http, port: 80, targetPort: 8000}\n  - {name: echo, port: 9000}\n  \
                 - {name: datagrams, port: 9001, protocol: UDP}\n";
    cluster
        .manifests
        .write("echo.yaml", &service("echo", ECHO, "", ports));
    cluster.start();
    cluster.settle(&[ECHO]).unwrap();
    let announcer = cluster.announcer(IpAddr::V4(ECHO)).unwrap();
    let inside = wait::expect("a ClusterIP", Duration::from_secs(20), || {
        cluster.cluster_ip(cluster.node(&announcer), "default", "echo")
    });
    let macs = [mac(cluster.node(&announcer).netns(), "eth0")];
    let load = Load::start(traffic(&cluster, &announcer, inside));
    let setup = cluster.setup.clone();
    let agent = cluster.node_mut(&announcer).agent().expect("it runs");
    let ended = agent.stop(ENDS);
    assert!(ended.success(), "{ended}");
    cluster.node_mut(&announcer).drop_agent();
    // Only the announcer's kernel answers, and the other nodes still report it as the announcer.
    ask_again(&cluster.client.netns, "eth0", &[(ECHO, &*macs[0])]);
    load.pass(PHASE);
    assert_eq!(arp(&cluster.client.netns, ECHO), macs);
    assert_eq!(cluster.announcer(ECHO.into()), Ok(announcer.clone()));
    cluster.node_mut(&announcer).start_agent(&setup);
    wait::expect("it announces again", Duration::from_secs(20), || {
        let service = cluster.service(cluster.node(&announcer), "default", "echo")?;
        if service["state"] == "Serving" && service["addresses"][0]["node"] == announcer {
            Ok(())
        } else {
            Err(service.to_string())
        }
    });
    ask_again(&cluster.client.netns, "eth0", &[(ECHO, &*macs[0])]);
    load.pass(PHASE);
    assert_eq!(arp(&cluster.client.netns, ECHO), macs);
    wait::expect("all agree", Duration::from_secs(20), || {
        match cluster.announcer(ECHO.into()) {
            Ok(name) if name == announcer => Ok(()),
            other => Err(other),
        }
    });
    println!("restart of the announcer: {}", load.finish());
}

fn traffic(cluster: &Cluster, announcer: &str, inside: Ipv4Addr) -> Vec<Stream> {
    let client = &cluster.client.netns;
    let node = cluster.node(announcer).netns();
    let streams = [
        ("client to VIP", client, Kind::Requests, ECHO, 80),
        (
            "client to VIP, datagrams",
            client,
            Kind::Datagrams,
            ECHO,
            9001,
        ),
        ("node to ClusterIP", node, Kind::Requests, inside, 80),
        ("client to VIP, TCP", client, Kind::Flow, ECHO, 9000),
        ("client to VIP, UDP", client, Kind::DatagramFlow, ECHO, 9001),
        ("node to ClusterIP, TCP", node, Kind::Flow, inside, 9000),
        (
            "node to ClusterIP, UDP",
            node,
            Kind::DatagramFlow,
            inside,
            9001,
        ),
    ];
    let streams = streams.map(|(name, netns, kind, address, port)| Stream {
        name,
        netns: netns.clone(),
        kind,
        to: SocketAddr::from((address, port)),
    });
    streams.into()
}
