//! What others do to the node's kernel: if they flush ferrolb's state, it is repaired, and what belongs to them is left alone.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ferrolb_tests::client::{Ask, Flow, http, udp};
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::netns::Netns;
use ferrolb_tests::wait;

use crate::restart_solo::{KEPT, Kernel, Solo, WEB};

/// Creates virtual servers, a table and an interface that do not belong to ferrolb, and sets sysctls to values that ferrolb
/// changes.
pub(crate) fn make_foreign_things(netns: &Netns) {
    for command in [
        "-A -t 172.17.0.11:12345 -s wlc",
        "-a -t 172.17.0.11:12345 -r 10.244.1.11:8000 -m",
        "-A -u 192.0.2.1:53 -s rr",
        "-A -f 77 -s sh",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        netns.sh("ipvsadm", &words);
    }
    netns.nft(
        "table inet foreign {\n\
           set known { type ipv4_addr; elements = { 172.17.255.1, 192.0.2.7 } }\n\
           chain input { type filter hook input priority 10; policy accept; ip saddr @known counter accept; }\n\
         }\n",
    );
    netns.ip(
        "link add foreign0 type dummy\naddr add 192.0.2.1/32 dev foreign0\nlink set foreign0 up\n",
    );
    for knob in [
        "conf/all/arp_ignore",
        "conf/all/arp_announce",
        "vs/conntrack",
    ] {
        netns
            .sysctl(&format!("net/ipv4/{knob}"), "0")
            .expect("a knob");
    }
}

/// Whether a line of `ipvsadm -Sn` belongs to a foreign server.
fn theirs(line: &str) -> bool {
    ["172.17.0.11:12345", "192.0.2.1:53", "-f 77"]
        .iter()
        .any(|id| line.contains(id))
}

/// Which of these things are in the kernel.
fn foreign_things(netns: &Netns) -> [String; 3] {
    let servers = netns.sh("ipvsadm", &["-Sn"]);
    [
        servers
            .lines()
            .filter(|line| theirs(line))
            .map(|line| format!("{line}\n"))
            .collect(),
        netns.sh("nft", &["-s", "-a", "list", "table", "inet", "foreign"]),
        netns.sh("ip", &["-o", "addr", "show", "dev", "foreign0"]),
    ]
}

/// The kernel's state without handles, the dummy's index and the order in sets: these are new when something is created again.
pub(crate) fn essence(kernel: &Kernel) -> [Vec<String>; 3] {
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    let lines = |text: &str| sorted(text.lines().map(str::to_owned).collect());
    let without_handle = |line: &str| {
        line.split("# handle")
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let table: String = kernel
        .table
        .lines()
        .map(|line| without_handle(line) + "\n")
        .collect();
    let pieces = table.replace("elements = {", "\n").replace('}', "\n}");
    let pieces = pieces
        .split([',', '\n'])
        .map(|piece| piece.trim().to_owned());
    // A dummy that is created again has a different Ethernet address, and its link-local address is derived from that.
    let dummy = kernel
        .dummy
        .lines()
        .filter(|line| !line.contains("fe80::"))
        .map(|line| match line.split_once(": kube-ipvs0") {
            Some((_, rest)) => rest.to_owned(),
            None => line.to_owned(),
        });
    [
        lines(&kernel.ipvs),
        sorted(pieces.collect()),
        sorted(dummy.collect()),
    ]
}

/// Sends requests from everywhere, over every transport.
fn all_answer(solo: &Solo, inside: Ipv4Addr) -> Result<(), String> {
    let requests = [
        (&solo.client.netns, WEB),
        (&solo.client.netns, KEPT),
        (&solo.asker.netns, KEPT),
        (&solo.asker.netns, inside),
        (solo.node.netns(), inside),
    ];
    for (netns, address) in requests {
        let answer = netns.run(move || {
            let ask = Ask::default();
            http(SocketAddr::from((address, 80)), ask)?;
            udp(SocketAddr::from((address, 9001)), ask)
        });
        answer.map_err(|error| format!("{} to {address}: {error}", netns.name()))?;
    }
    Ok(())
}

#[test]
fn a_foreign_flush_is_repaired_and_foreign_things_stay() {
    need!(
        "a_foreign_flush_is_repaired_and_foreign_things_stay",
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb,
        Need::Tool("ipvsadm")
    );
    let mut solo = Solo::new("foreign");
    make_foreign_things(solo.node.netns());
    let foreign = foreign_things(solo.node.netns());
    assert_eq!(foreign[0].lines().count(), 4, "{foreign:?}");
    solo.setup.extra.extend(["--audit", "1"].map(str::to_owned));
    solo.start();
    let inside = solo.cluster_ip("web");
    all_answer(&solo, inside).unwrap();
    let before = essence(&solo.kernel());
    let flushes: [(&str, &[&str]); 4] = [
        ("nft", &["delete", "table", "inet", "ferrolb"]),
        ("ip", &["link", "del", "kube-ipvs0"]),
        ("ip", &["addr", "flush", "dev", "kube-ipvs0"]),
        // This one is last: it also removes the foreign servers, which ferrolb must not restore.
        ("ipvsadm", &["-C"]),
    ];
    for (program, arguments) in flushes {
        let shown = format!("{program} {}", arguments.join(" "));
        assert!(
            foreign == foreign_things(solo.node.netns()),
            "before {shown}"
        );
        // A connection on which nothing is sent meanwhile is kept, except where Linux itself ends it: with expire_nodest_conn,
        // ip_vs expires every connection whose real server is removed.
        let mut idle = solo
            .client
            .netns
            .run(|| Flow::open(SocketAddr::from((WEB, 9000)), Ask::default()))
            .unwrap();
        solo.node.netns().sh(program, arguments);
        let start = Instant::now();
        wait::expect(
            &format!("repaired after {shown}"),
            Duration::from_secs(6),
            || {
                let missing = || {
                    solo.node
                        .netns()
                        .output("nft", &["list", "table", "inet", "ferrolb"])
                };
                let dummy = || {
                    solo.node
                        .netns()
                        .output("ip", &["link", "show", "kube-ipvs0"])
                };
                if !missing().status.success() || !dummy().status.success() {
                    return Err("the table or the dummy is not there".to_owned());
                }
                let now = essence(&solo.kernel());
                let mut expected = before.clone();
                if program == "ipvsadm" {
                    expected[0].retain(|line| !theirs(line));
                }
                if now == expected {
                    return Ok(());
                }
                let differ = now
                    .iter()
                    .flatten()
                    .filter(|line| !before.iter().flatten().any(|old| old == *line));
                Err(format!("new: {:?}", differ.collect::<Vec<_>>()))
            },
        );
        let repaired = start.elapsed();
        wait::expect(
            &format!("traffic after {shown}"),
            Duration::from_secs(6),
            || all_answer(&solo, inside),
        );
        let pinged = idle.ping();
        assert!(
            pinged.is_ok() || program == "ipvsadm",
            "after {shown}: {pinged:?}"
        );
        println!("{shown}: repaired after {} ms", repaired.as_millis());
    }
    let left = foreign_things(solo.node.netns());
    assert_eq!(left[1..], foreign[1..]);
    assert_eq!(left[0], "", "servers of others are not made again");
}
