//! Tests of the lab itself, so that conclusions from it are valid: its namespaces disappear when they should, its wires carry
//! packets, and its servers answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::net::SocketAddr;
use std::time::Duration;

use ferrolb_tests::client::{self, Ask, Flow};
use ferrolb_tests::lan::Lan;
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::netns::Netns;
use ferrolb_tests::node::{Node, PodLinks};
use ferrolb_tests::paths::TempDir;
use ferrolb_tests::process::Process;
use ferrolb_tests::{dns, servers, wait};

/// Whether a thread of any process is in the network namespace with this inode.
fn in_use(inode: u64) -> bool {
    let link = format!("net:[{inode}]");
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return false;
    };
    processes.flatten().any(|process| {
        let tasks = std::fs::read_dir(process.path().join("task"));
        tasks.into_iter().flatten().flatten().any(|task| {
            std::fs::read_link(task.path().join("ns/net"))
                .is_ok_and(|net| net.as_os_str() == link.as_str())
        })
    })
}

#[test]
fn a_dropped_namespace_and_its_processes_are_gone() {
    need!(
        "a_dropped_namespace_and_its_processes_are_gone",
        Need::Root,
        Need::Tool("ip")
    );
    let logs = TempDir::new("drop");
    let netns = Netns::new("short");
    let inode = netns.inode();
    let sleeper = Process::start(
        &netns,
        "sleeper",
        "/bin/sleep".as_ref(),
        &["1000".to_owned()],
        &logs.path().join("log"),
    );
    let pid = sleeper.pid();
    assert!(in_use(inode));
    drop(sleeper);
    drop(netns);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(!in_use(inode));
}

#[test]
fn a_process_lives_as_long_as_its_handle() {
    need!(
        "a_process_lives_as_long_as_its_handle",
        Need::Root,
        Need::Tool("ip")
    );
    let logs = TempDir::new("handle");
    let mut sleeper = {
        // The namespace's own handle is dropped here; the process keeps the namespace alive.
        let netns = Netns::new("kept");
        Process::start(
            &netns,
            "sleeper",
            "/bin/sleep".as_ref(),
            &["1000".to_owned()],
            &logs.path().join("log"),
        )
    };
    assert!(sleeper.running());
    assert!(in_use(sleeper.netns().inode()));
}

#[test]
fn the_client_finds_a_node_by_arp_and_an_unplugged_one_not() {
    need!(
        "the_client_finds_a_node_by_arp_and_an_unplugged_one_not",
        Need::Root,
        Need::Tool("arping")
    );
    let mut lan = Lan::new();
    let node = Node::new(&mut lan, 1, PodLinks::Routed);
    let client = lan.plug("client", 100);
    assert_eq!(
        client::arp(&client.netns, node.host.v4),
        [client::mac(node.netns(), "eth0")]
    );
    lan.unplug(&node.host);
    assert!(client::arp(&client.netns, node.host.v4).is_empty());
    lan.replug(&node.host);
    wait::until("the node answers again", Duration::from_secs(5), || {
        client::ping(&client.netns, node.host.v4.into())
    });
}

#[test]
fn pods_of_two_nodes_reach_each_other_over_tcp_and_udp_in_both_families() {
    need!(
        "pods_of_two_nodes_reach_each_other_over_tcp_and_udp_in_both_families",
        Need::Root,
        Need::Tool("ip")
    );
    for links in [PodLinks::Routed, PodLinks::Bridge] {
        let logs = TempDir::new("pods");
        let mut lan = Lan::new();
        let mut nodes = [Node::new(&mut lan, 1, links), Node::new(&mut lan, 2, links)];
        nodes[0].routes_to(&[&nodes[1]]);
        nodes[1].routes_to(&[&nodes[0]]);
        let mut server = nodes[0].pod("server");
        server.serve(logs.path(), &[8000], &[9000], &[9001]);
        let neighbour = nodes[0].pod("neighbour");
        let remote = nodes[1].pod("remote");
        for asker in [&neighbour, &remote] {
            let v4 = server.v4;
            let answer = asker
                .netns
                .run(move || client::http(SocketAddr::from((v4, 8000)), Ask::default()))
                .unwrap();
            assert_eq!(
                (answer.pod.as_str(), answer.from.ip()),
                ("server", asker.v4.into())
            );
            let v6 = server.v6;
            let answer = asker
                .netns
                .run(move || client::udp(SocketAddr::from((v6, 9001)), Ask::default()))
                .unwrap();
            assert_eq!(
                (answer.pod.as_str(), answer.from.ip()),
                ("server", asker.v6.into())
            );
            let mut flow = asker
                .netns
                .run(move || {
                    Flow::open(
                        SocketAddr::from((v4, 9000)),
                        Ask {
                            source_port: 4711,
                            ..Ask::default()
                        },
                    )
                })
                .unwrap();
            assert_eq!(flow.answer.from.port(), 4711);
            flow.ping().unwrap();
        }
    }
}

#[test]
fn the_real_coredns_and_nginx_answer_in_their_pods() {
    let needs = [
        Need::Root,
        Need::CoreDns,
        Need::Tool("nginx"),
        Need::Tool("openssl"),
    ];
    if !need::all("the_real_coredns_and_nginx_answer_in_their_pods", &needs) {
        return;
    }
    let logs = TempDir::new("servers");
    let mut lan = Lan::new();
    let mut node = Node::new(&mut lan, 1, PodLinks::Routed);
    let mut dns_pod = node.pod("dns");
    let known = std::net::Ipv4Addr::new(10, 96, 0, 7);
    servers::coredns(&mut dns_pod, logs.path(), known);
    let server = SocketAddr::from((dns_pod.v4, 53));
    let over_udp = node
        .netns()
        .run(move || dns::over_udp(server, servers::DNS_NAME, Ask::default()))
        .unwrap();
    let over_tcp = node
        .netns()
        .run(move || dns::over_tcp(server, servers::DNS_NAME, Ask::default()))
        .unwrap();
    assert_eq!((over_udp, over_tcp), (vec![known], vec![known]));
    let mut web = node.pod("nginx");
    let nginx = servers::Nginx::start(&mut web, logs.path(), 8080, 8443);
    let url = format!("https://{}:8443/", web.v4);
    assert!(
        node.netns()
            .sh("curl", &["-sk", &url])
            .starts_with("pod=nginx from=10.244.1.1:")
    );
    wait::until("the request is in the log", Duration::from_secs(2), || {
        nginx
            .access_log()
            .iter()
            .any(|line| line.starts_with("10.244.1.1 8443 "))
    });
}
