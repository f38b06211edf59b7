//! A Service changes its traffic policy while connections to it are open.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ferrolb_tests::client::{Ask, Flow, fresh_port, http};
use ferrolb_tests::cluster::Cluster;
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::node::PodLinks;
use ferrolb_tests::wait;

use crate::restart_solo::service;

const ECHO: Ipv4Addr = Ipv4Addr::new(172, 17, 255, 78);

/// A request from a port of its own.
pub(crate) fn ask() -> Ask {
    Ask {
        source_port: fresh_port(),
        ..Ask::default()
    }
}

#[test]
fn connections_to_other_nodes_outlive_a_switch_to_policy_local_and_back() {
    need!(
        "connections_to_other_nodes_outlive_a_switch_to_policy_local_and_back",
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb,
        Need::CoreDns,
        Need::Tool("nginx")
    );
    let mut cluster = Cluster::new("ipvs", PodLinks::Routed);
    let ports = "  - {name: http, port: 80, targetPort: 8000}\n  - {name: echo, port: 9000}\n";
    let write = |cluster: &Cluster, policy: &str| {
        let policy = format!("  externalTrafficPolicy: {policy}\n");
        let text = service("echo", ECHO, &policy, ports);
        cluster.manifests.write("echo.yaml", &text);
    };
    write(&cluster, "Cluster");
    cluster.start();
    cluster.settle(&[ECHO]).unwrap();
    let announcer = cluster.announcer(IpAddr::V4(ECHO)).unwrap();
    let here = format!("web-{}", cluster.node(&announcer).number);
    let client = cluster.client.netns.clone();
    let own = cluster.client.v4;
    let open = move || Flow::open(SocketAddr::from((ECHO, 9000)), ask());
    // Three endpoints take turns.
    let mut flows: Vec<Flow> = (0..6).map(|_| client.run(open).unwrap()).collect();
    let elsewhere = flows.iter().filter(|flow| flow.answer.pod != here).count();
    assert!(elsewhere > 0, "{flows:?}");
    let mut alive = |when: &str| {
        for flow in &mut flows {
            let pinged = flow.ping();
            assert!(pinged.is_ok(), "{when}: {pinged:?} from {:?}", flow.answer);
        }
    };
    alive("before");
    for (policy, keeps) in [("Local", true), ("Cluster", false)] {
        write(&cluster, policy);
        let what = format!("policy {policy} is in force");
        wait::expect(&what, Duration::from_secs(20), || {
            let mut answers = Vec::new();
            for _ in 0..6 {
                let asked = client.run(|| http(SocketAddr::from((ECHO, 80)), ask()));
                let answer = asked.map_err(|error| error.to_string())?;
                answers.push((answer.pod == here, answer.from.ip() == IpAddr::V4(own)));
            }
            let kept = answers.iter().all(|(here, own)| *here && *own);
            (kept == keeps).then_some(()).ok_or(format!("{answers:?}"))
        });
        alive(policy);
    }
    assert_eq!(cluster.announcer(ECHO.into()), Ok(announcer));
}
