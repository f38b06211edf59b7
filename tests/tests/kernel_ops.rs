//! The proxy's operations on a real kernel: what is applied can be read back, what belongs to others is left alone, and nothing
//! is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrolb_api::proxy_config::InterfaceName;
use ferrolb_api::view::Protocol;
use ferrolb_proxy::kernel::real::{LinuxConfig, LinuxKernel};
use ferrolb_proxy::kernel::rule::{Key, Value, Verdict};
use ferrolb_proxy::kernel::table::{class, set, table};
use ferrolb_proxy::kernel::{
    Element, Family, Forwarding, Kernel, Observed, Op, RealServer, VirtualServer, VirtualServerId,
};
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::netns::Netns;
use ferrolb_tests::paths::TempDir;

#[path = "kernel_ops/foreign.rs"]
mod foreign;

const MARK: u32 = 0x4000_0001;

/// Runs one future in the namespace, as the node would.
fn within<T: Send + 'static>(netns: &Netns, job: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    netns.run(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(job())
    })
}

fn config(state: &Path) -> LinuxConfig {
    let mut config = LinuxConfig::new(state.to_owned(), 0x4000_0000..=0x4000_ffff, table());
    config.node_v4 = Some("192.0.2.1".parse().unwrap());
    config.node_v6 = Some("2001:db8::1".parse().unwrap());
    config.ipvs_timeouts = [1234, 0, 567].map(Duration::from_secs);
    config
}

async fn kernel(state: &Path) -> LinuxKernel {
    LinuxKernel::new(config(state)).await.unwrap()
}

/// A namespace with a node's addresses, and a directory for its state.
fn node(name: &str) -> (Netns, TempDir) {
    let netns = Netns::new(name);
    netns.sh("ip", &["link", "add", "lan0", "type", "dummy"]);
    netns.sh("ip", &["link", "set", "lan0", "up"]);
    netns.sh("ip", &["addr", "add", "192.0.2.1/24", "dev", "lan0"]);
    let v6 = "2001:db8::1/64";
    netns.sh("ip", &["addr", "add", v6, "dev", "lan0", "nodad"]);
    (netns, TempDir::new(name))
}

fn path(dir: &TempDir) -> PathBuf {
    dir.path().to_owned()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn service(addr: &str, protocol: Protocol) -> VirtualServerId {
    VirtualServerId::Address {
        addr: ip(addr),
        port: 53,
        protocol,
    }
}

fn fwmark(family: Family) -> VirtualServerId {
    VirtualServerId::Fwmark { mark: MARK, family }
}

fn virtual_server(id: VirtualServerId, scheduler: &str) -> VirtualServer {
    VirtualServer {
        id,
        scheduler: scheduler.to_owned(),
        sched_flags: if scheduler == "mh" { 0x8 } else { 0 },
        persistence: None,
    }
}

fn real_server(addr: &str, weight: u32) -> RealServer {
    RealServer {
        addr: addr.parse().unwrap(),
        weight,
        forwarding: Forwarding::Masq,
    }
}

fn key(addr: &str) -> Vec<Key> {
    vec![
        Key::Addr(ip(addr)),
        Key::Proto(Protocol::Udp),
        Key::Port(53),
    ]
}

fn name(text: &str) -> InterfaceName {
    InterfaceName::new(text).unwrap()
}

fn interface(text: &str) -> Key {
    Key::Interface(name(text))
}

fn element(key: Vec<Key>, value: Option<Value>) -> Element {
    Element { key, value }
}

/// Operations of every kind.
fn everything() -> Vec<Op> {
    let mut ops = Vec::new();
    let servers = [
        (service("10.96.0.10", Protocol::Udp), "rr", "10.244.0.5:53"),
        (service("10.96.0.10", Protocol::Tcp), "mh", "10.244.0.5:53"),
        (
            service("fd00:96::a", Protocol::Udp),
            "wlc",
            "[fd00:244::5]:53",
        ),
        (fwmark(Family::V4), "rr", "10.244.0.5:53"),
        (fwmark(Family::V6), "sh", "[fd00:244::5]:53"),
    ];
    for (id, scheduler, server) in servers {
        ops.push(Op::SetVirtualServer(virtual_server(id, scheduler)));
        ops.push(Op::SetRealServer(id, real_server(server, 1)));
    }
    let goto = |chain| Some(Value::Verdict(Verdict::Goto(chain)));
    let all4 = Key::range(ip("0.0.0.0"), ip("255.255.255.255"));
    let pods = Key::range(ip("10.244.0.0"), ip("10.244.255.255"));
    let mut source = key("10.96.0.10");
    source.push(Key::range(ip("198.51.100.0"), ip("198.51.100.255")));
    let (v4, v6) = (Family::V4, Family::V6);
    for (name, element) in [
        (
            set::vip(v4),
            element(vec![Key::Addr(ip("10.96.0.10"))], None),
        ),
        (
            set::vip(v6),
            element(vec![Key::Addr(ip("fd00:96::a"))], None),
        ),
        (set::PODIF, element(vec![interface("cni0")], None)),
        (
            set::PODIF,
            element(vec![Key::Interfaces(name("veth"))], None),
        ),
        (set::clusrc(v4), element(vec![all4], None)),
        (set::localsrc(v4), element(vec![pods], None)),
        (
            set::localsrc(v4),
            element(vec![Key::Addr(ip("10.245.0.0"))], None),
        ),
        (
            set::svc(v4),
            element(key("10.96.0.10"), goto(class::int_mark(v4))),
        ),
        (
            set::svc(v6),
            element(key("fd00:96::a"), Some(Value::Verdict(Verdict::Accept))),
        ),
        (
            set::mark(v4),
            element(key("10.96.0.10"), Some(Value::Mark(MARK))),
        ),
        (set::lbsrc(v4), element(key("10.96.0.10"), None)),
        (set::lballow(v4), element(source, None)),
        (
            set::masq(v6),
            element(key("fd00:96::a"), goto(class::masq_off(v6))),
        ),
        (
            set::hairpin(v4),
            element(vec![Key::Addr(ip("10.244.0.5")); 2], None),
        ),
        (set::l2pod(v4), element(vec![pods; 2], None)),
    ] {
        ops.push(Op::AddElement(name, element));
    }
    ops.push(Op::AddAddress(ip("10.96.0.10")));
    ops.push(Op::AddAddress(ip("fd00:96::a")));
    ops
}

/// The opposite of [`everything`].
fn nothing() -> Vec<Op> {
    let undo = |op: &Op| match op {
        Op::AddAddress(addr) => Some(Op::DelAddress(*addr)),
        Op::SetVirtualServer(server) => Some(Op::DelVirtualServer(server.id)),
        Op::AddElement(name, element) => Some(Op::DelElement(name, element.clone())),
        _ => None,
    };
    everything().iter().rev().filter_map(undo).collect()
}

/// Whether an operation's effect is present.
fn holds(observed: &Observed, op: &Op) -> bool {
    match op {
        Op::AddAddress(addr) => observed.addresses.contains(addr),
        Op::SetVirtualServer(server) => {
            observed.servers.get(&server.id).map(|(s, _)| s) == Some(server)
        }
        Op::SetRealServer(id, server) => {
            let found = observed.servers.get(id);
            found.and_then(|(_, r)| r.get(&server.addr)) == Some(server)
        }
        Op::AddElement(name, element) => observed.elements[name].contains(element),
        other => panic!("{other:?}"),
    }
}

fn is_empty(observed: &Observed) -> bool {
    let no_elements = observed.elements.values().all(|e| e.is_empty());
    observed.addresses.is_empty() && observed.servers.is_empty() && no_elements
}

#[test]
fn what_is_applied_is_read_back_and_what_is_deleted_is_gone() {
    need!(
        "what_is_applied_is_read_back_and_what_is_deleted_is_gone",
        Need::Root,
        Need::IpVs
    );
    let (netns, state) = node("roundtrip");
    let dir = path(&state);
    within(&netns, async move || {
        let mut kernel = kernel(&dir).await;
        kernel.prepare().await.unwrap();
        let observed = kernel.read().await.unwrap();
        assert!(
            observed.rules_loaded && is_empty(&observed),
            "{observed:#?}"
        );
        // Twice, because it is not an error if something is already there.
        for _ in 0..2 {
            let errors = kernel.apply(&everything()).await;
            assert!(errors.is_empty(), "{errors:#?}");
            let observed = kernel.read().await.unwrap();
            for op in everything() {
                assert!(holds(&observed, &op), "{op:?} in {observed:#?}");
            }
            let elements: usize = observed.elements.values().map(|e| e.len()).sum();
            assert_eq!(
                (observed.addresses.len(), observed.servers.len(), elements),
                (2, 5, 15)
            );
        }
        for _ in 0..2 {
            let errors = kernel.apply(&nothing()).await;
            assert!(errors.is_empty(), "{errors:#?}");
            let observed = kernel.read().await.unwrap();
            assert!(
                observed.rules_loaded && is_empty(&observed),
                "{observed:#?}"
            );
        }
    });
}

#[test]
fn servers_change_in_place_and_a_refused_operation_stops_no_other() {
    need!(
        "servers_change_in_place_and_a_refused_operation_stops_no_other",
        Need::Root,
        Need::IpVs
    );
    let (netns, state) = node("inplace");
    let dir = path(&state);
    within(&netns, async move || {
        let mut kernel = kernel(&dir).await;
        kernel.prepare().await.unwrap();
        assert!(kernel.apply(&everything()).await.is_empty());
        let id = service("10.96.0.10", Protocol::Udp);
        let mut changed = virtual_server(id, "wrr");
        changed.persistence = Some(10800);
        let svc = set::svc(Family::V4);
        let ops = [
            Op::SetVirtualServer(changed),
            Op::SetRealServer(id, real_server("10.244.0.5:53", 0)),
            Op::SetVirtualServer(virtual_server(
                service("10.96.0.11", Protocol::Tcp),
                "nonsense",
            )),
            Op::SetRealServer(
                service("10.96.0.99", Protocol::Tcp),
                real_server("10.244.0.5:53", 1),
            ),
            Op::SetRealServer(id, real_server("10.244.0.6:53", 7)),
            Op::AddElement(
                svc,
                element(
                    key("10.96.0.12"),
                    Some(Value::Verdict(Verdict::Goto("nowhere"))),
                ),
            ),
            Op::AddElement(
                svc,
                element(
                    key("10.96.0.10"),
                    Some(Value::Verdict(Verdict::Goto(class::REJECT))),
                ),
            ),
            Op::AddElement(
                svc,
                element(key("10.96.0.13"), Some(Value::Verdict(Verdict::Accept))),
            ),
            Op::DelElement(svc, element(key("10.96.0.77"), None)),
        ];
        let errors = kernel.apply(&ops).await;
        let refused: Vec<usize> = errors.iter().map(|(i, _)| *i).collect();
        assert_eq!(refused, [2, 3, 5], "{errors:#?}");
        let text = errors[0].1.to_string();
        assert!(
            text.contains("no IPVS scheduler nonsense") && text.contains("modprobe ip_vs_nonsense"),
            "{text}"
        );
        let observed = kernel.read().await.unwrap();
        for i in [0, 1, 4, 6, 7] {
            assert!(holds(&observed, &ops[i]), "{:?} in {observed:#?}", ops[i]);
        }
    });
}

#[test]
fn a_thousand_servers_and_ten_thousand_elements_go_in_at_once() {
    need!(
        "a_thousand_servers_and_ten_thousand_elements_go_in_at_once",
        Need::Root,
        Need::IpVs
    );
    let (netns, state) = node("many");
    let dir = path(&state);
    within(&netns, async move || {
        let mut kernel = kernel(&dir).await;
        kernel.prepare().await.unwrap();
        let id = service("10.96.0.10", Protocol::Tcp);
        let addr = |i: u32| IpAddr::V4((0x0af4_0000 + i).into());
        let mut ops = vec![Op::SetVirtualServer(virtual_server(id, "rr"))];
        ops.extend((0..1000).map(|i| {
            let addr = SocketAddr::new(addr(i), 80);
            Op::SetRealServer(
                id,
                RealServer {
                    addr,
                    weight: 1,
                    forwarding: Forwarding::Masq,
                },
            )
        }));
        ops.extend((0..10_000).map(|i| {
            let key = vec![Key::Addr(addr(i)); 2];
            Op::AddElement(set::hairpin(Family::V4), element(key, None))
        }));
        let errors = kernel.apply(&ops).await;
        assert!(errors.is_empty(), "{errors:#?}");
        let observed = kernel.read().await.unwrap();
        assert_eq!(observed.servers[&id].1.len(), 1000);
        assert_eq!(observed.elements[set::hairpin(Family::V4)].len(), 10_000);
    });
}

#[test]
fn a_restart_touches_no_rule_and_a_rule_that_somebody_deleted_comes_back() {
    need!(
        "a_restart_touches_no_rule_and_a_rule_that_somebody_deleted_comes_back",
        Need::Root,
        Need::IpVs,
        Need::Tool("nft")
    );
    let (netns, state) = node("restart");
    let dir = path(&state);
    let prepare = |with: Vec<Op>| {
        let dir = dir.clone();
        within(&netns, async move || {
            let mut kernel = kernel(&dir).await;
            let before = kernel.read().await.unwrap();
            kernel.prepare().await.unwrap();
            assert!(kernel.apply(&with).await.is_empty());
            (before, kernel.read().await.unwrap())
        })
    };
    // With handles, because a rule that is written again has a new one.
    let list = || netns.sh("nft", &["-a", "list", "table", "inet", "ferrolb"]);
    prepare(everything());
    let first = list();
    let (before, _) = prepare(Vec::new());
    assert!(before.rules_loaded);
    assert_eq!(list(), first);
    netns.sh("nft", &["flush", "chain", "inet", "ferrolb", "input"]);
    let (before, after) = prepare(Vec::new());
    assert!(!before.rules_loaded && after.rules_loaded);
    assert_eq!(before.elements, after.elements);
    netns.sh("nft", &["delete", "table", "inet", "ferrolb"]);
    let (before, after) = prepare(Vec::new());
    assert!(!before.rules_loaded && before.elements.is_empty() && after.rules_loaded);
}

#[test]
fn the_table_is_listed_in_the_words_of_nft_and_loads_from_its_listing() {
    need!(
        "the_table_is_listed_in_the_words_of_nft_and_loads_from_its_listing",
        Need::Root,
        Need::IpVs,
        Need::Tool("nft")
    );
    let (netns, state) = node("listing");
    let dir = path(&state);
    within(&netns, async move || {
        let mut kernel = kernel(&dir).await;
        kernel.prepare().await.unwrap();
        assert!(kernel.apply(&everything()).await.is_empty());
    });
    let listing = netns.sh("nft", &["list", "table", "inet", "ferrolb"]);
    for line in [
        "type ipv4_addr . inet_proto . inet_service : verdict",
        "type ipv6_addr . inet_proto . inet_service . ipv6_addr",
        "elements = { 10.96.0.10 . udp . 53 : goto int_mark4 }",
        "elements = { 10.96.0.10 . udp . 53 . 198.51.100.0/24 }",
        "elements = { 10.244.0.0/16, 10.245.0.0 }",
        "type nat hook postrouting priority srcnat - 10; policy accept;",
        "ip daddr . meta l4proto . th dport vmap @svc4",
        "meta mark set ip6 daddr . meta l4proto . th dport map @mark6 accept",
        "fib saddr type local goto set_mark4",
        "ct state != new accept",
        "meta l4proto tcp reject with tcp reset",
        "ip6 saddr != @clusrc6 masquerade",
        "ip daddr @vip4 dnat ip to ip daddr",
        "iifname @podif goto set_mark4",
        "elements = { \"cni0\",",
        "\"veth*\" }",
        "ip daddr @vip4 iifname @podif meta mark set meta mark | 0x00001000",
        "meta mark & 0x00001000 != 0x00000000 goto masq_hair4",
        "icmp type { destination-unreachable, echo-request, time-exceeded, parameter-problem } accept",
    ] {
        assert!(listing.contains(line), "no {line:?} in\n{listing}");
    }
    let copy = Netns::new("listing-copy");
    copy.nft(&listing);
    assert_eq!(
        copy.sh("nft", &["list", "table", "inet", "ferrolb"]),
        listing
    );
}

/// Everything that an administrator could see of the namespace.
fn snapshot(netns: &Netns) -> String {
    let mut out = String::new();
    for (program, arguments) in [
        ("ip", "-br addr"),
        ("ip", "route show table all"),
        ("ip", "-6 route show table all"),
        ("nft", "list ruleset"),
        ("ipvsadm", "-Sn"),
        ("ipvsadm", "-L --timeout"),
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        out += &netns.sh(program, &arguments);
    }
    for sysctl in [
        "vs/conntrack",
        "ip_forward",
        "conf/all/arp_ignore",
        "conf/all/arp_announce",
    ] {
        let path = format!("ipv4/{sysctl}");
        out += &netns.sh("cat", &[&format!("/proc/sys/net/{path}")]);
    }
    out
}

#[test]
fn a_cleanup_leaves_what_others_have_and_nothing_of_ours() {
    need!(
        "a_cleanup_leaves_what_others_have_and_nothing_of_ours",
        Need::Root,
        Need::IpVs,
        Need::Tool("nft"),
        Need::Tool("ipvsadm")
    );
    let (netns, state) = node("cleanup");
    netns.nft("table inet other { chain c { type filter hook input priority 0; accept; }; set s { type ipv4_addr; elements = { 10.96.0.10 }; }; }");
    netns.sh("ipvsadm", &["-A", "-t", "192.0.2.1:8080", "-s", "rr"]);
    let dest = ["-a", "-t", "192.0.2.1:8080", "-r", "10.244.0.5:80", "-m"];
    netns.sh("ipvsadm", &dest);
    netns.sh("ipvsadm", &["-A", "-f", "77", "-s", "rr"]);
    let before = snapshot(&netns);
    let dir = path(&state);
    within(&netns, async move || {
        let mut kernel = kernel(&dir).await;
        kernel.prepare().await.unwrap();
        assert!(kernel.apply(&everything()).await.is_empty());
        // A node port, identified by its key in our map.
        let id = VirtualServerId::Address {
            addr: ip("192.0.2.1"),
            port: 30080,
            protocol: Protocol::Tcp,
        };
        let key = vec![
            Key::Addr(ip("192.0.2.1")),
            Key::Proto(Protocol::Tcp),
            Key::Port(30080),
        ];
        let accept = Some(Value::Verdict(Verdict::Accept));
        let node_port = [
            Op::SetVirtualServer(virtual_server(id, "rr")),
            Op::AddElement(set::svc(Family::V4), element(key, accept)),
        ];
        assert!(kernel.apply(&node_port).await.is_empty());
        // Foreign servers are visible, with their real servers.
        let observed = kernel.read().await.unwrap();
        assert_eq!(observed.servers.len(), 8);
    });
    let with = snapshot(&netns);
    assert!(with.contains("1234") && with.contains("567"), "{with}");
    assert_ne!(with, before);
    // Another process does the cleanup.
    let dir = path(&state);
    within(&netns, async move || {
        let mut kernel = kernel(&dir).await;
        let errors = kernel.cleanup().await;
        assert!(errors.is_empty(), "{errors:#?}");
        // The second time, there is nothing left to do.
        assert!(kernel.cleanup().await.is_empty());
    });
    assert_eq!(snapshot(&netns), before);
}

#[test]
fn a_service_address_is_never_a_source_address() {
    need!(
        "a_service_address_is_never_a_source_address",
        Need::Root,
        Need::IpVs,
        Need::Tool("ip")
    );
    let (netns, state) = node("source");
    // As left by another proxy: scope global, and the kernel's own route.
    netns.sh("ip", &["link", "add", "kube-ipvs0", "type", "dummy"]);
    netns.sh("ip", &["addr", "add", "10.96.0.20/32", "dev", "kube-ipvs0"]);
    netns.sh("ip", &["link", "set", "kube-ipvs0", "up"]);
    let dir = path(&state);
    within(&netns, async move || {
        let mut kernel = kernel(&dir).await;
        kernel.prepare().await.unwrap();
        assert!(kernel.apply(&everything()).await.is_empty());
        let observed = kernel.read().await.unwrap();
        assert!(observed.addresses.contains(&ip("10.96.0.20")));
    });
    for (addr, source) in [
        ("10.96.0.10", "src 192.0.2.1 "),
        ("10.96.0.20", "src 192.0.2.1 "),
        ("fd00:96::a", "src 2001:db8::1 "),
    ] {
        let route = netns.sh("ip", &["route", "get", addr]);
        assert!(
            route.contains("local") && route.contains(source),
            "{addr}: {route}"
        );
    }
    let host = netns.sh("ip", &["addr", "show", "dev", "kube-ipvs0"]);
    assert!(
        host.contains("inet 10.96.0.10/32 scope host kube-ipvs0"),
        "{host}"
    );
}
