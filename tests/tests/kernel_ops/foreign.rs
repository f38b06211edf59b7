//! What other programs do to what is ours, before and during our run.

use std::process::Command;

use ferrolb_proxy::kernel::Damage;

use super::*;

/// Runs a program in this thread's network namespace.
fn sh(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_kind_of_foreign_flush_is_seen_at_a_glance_and_can_be_repaired() {
    need!(
        "every_kind_of_foreign_flush_is_seen_at_a_glance_and_can_be_repaired",
        Need::Root,
        Need::IpVs,
        Need::Tool("nft"),
        Need::Tool("ipvsadm")
    );
    let (netns, state) = node("flush");
    let dir = path(&state);
    within(&netns, async move || {
        let mut kernel = kernel(&dir).await;
        let sentinels = [
            None,
            Some(service("10.96.0.10", Protocol::Udp)),
            Some(service("fd00:96::a", Protocol::Udp)),
            Some(fwmark(Family::V6)),
        ];
        let [_, v4, v6, mark] = sentinels;
        assert_eq!(kernel.damage(None).await.unwrap(), Some(Damage::Ground));
        for (flush, sentinel, seen) in [
            ("true", v4, None),
            ("ipvsadm -C", v4, Some(Damage::Server)),
            ("ipvsadm -C", mark, Some(Damage::Server)),
            ("ipvsadm -D -u 10.96.0.10:53", v4, Some(Damage::Server)),
            ("nft flush ruleset", None, Some(Damage::Ground)),
            ("nft delete table inet ferrolb", v4, Some(Damage::Ground)),
            ("nft flush table inet ferrolb", v4, Some(Damage::Ground)),
            (
                "nft flush chain inet ferrolb postrouting",
                None,
                Some(Damage::Ground),
            ),
            ("nft add table inet other", v4, None),
            ("ip link del kube-ipvs0", None, Some(Damage::Ground)),
            ("ip link set kube-ipvs0 down", v6, Some(Damage::Ground)),
            ("ip addr flush dev kube-ipvs0", v4, Some(Damage::Server)),
            (
                "ip -6 route flush table local dev kube-ipvs0",
                v6,
                Some(Damage::Server),
            ),
        ] {
            kernel.prepare().await.unwrap();
            let errors = kernel.apply(&everything()).await;
            assert!(errors.is_empty(), "{flush}: {errors:#?}");
            for sentinel in sentinels {
                let damage = kernel.damage(sentinel.as_ref()).await.unwrap();
                assert_eq!(damage, None, "before {flush}, {sentinel:?}");
            }
            sh(flush);
            let damage = kernel.damage(sentinel.as_ref()).await.unwrap();
            assert_eq!(damage, seen, "after {flush}");
        }
        // Somebody removes the interface and creates another one.
        kernel.prepare().await.unwrap();
        assert!(kernel.apply(&everything()).await.is_empty());
        sh("ip link del kube-ipvs0");
        sh("ip link add kube-ipvs0 type dummy");
        sh("ip link set kube-ipvs0 up");
        assert_eq!(kernel.damage(None).await.unwrap(), Some(Damage::Ground));
    });
}

#[test]
fn an_ipv6_address_of_another_proxy_becomes_a_route_with_the_nodes_source() {
    need!(
        "an_ipv6_address_of_another_proxy_becomes_a_route_with_the_nodes_source",
        Need::Root,
        Need::IpVs,
        Need::Tool("ip")
    );
    let (netns, state) = node("adopt6");
    netns.sh("ip", &["link", "add", "kube-ipvs0", "type", "dummy"]);
    netns.sh("ip", &["link", "set", "kube-ipvs0", "up"]);
    for addr in ["fd00:96::14/128", "fd00:99::1/128"] {
        let add = ["addr", "add", addr, "dev", "kube-ipvs0", "nodad"];
        netns.sh("ip", &add);
    }
    let dir = path(&state);
    within(&netns, async move || {
        let mut config = config(&dir);
        config.exclude_cidrs = vec!["fd00:99::/64".parse().unwrap()];
        let mut kernel = LinuxKernel::new(config).await.unwrap();
        // A second start finds nothing to do.
        for _ in 0..2 {
            kernel.prepare().await.unwrap();
            let observed = kernel.read().await.unwrap();
            assert!(observed.addresses.contains(&ip("fd00:96::14")));
            let route = sh("ip route get fd00:96::14");
            assert!(
                route.contains("local") && route.contains("src 2001:db8::1 "),
                "{route}"
            );
            let left = sh("ip -6 -o addr show dev kube-ipvs0 scope global");
            assert!(!left.contains("fd00:96::14"), "{left}");
            assert!(left.contains("fd00:99::1/128"), "{left}");
        }
        let routes = sh("ip -6 route show table local dev kube-ipvs0 fd00:96::14");
        assert_eq!(routes.lines().count(), 1, "{routes}");
    });
}

#[test]
fn foreign_tables_do_not_disturb_the_reading_of_ours_whatever_is_in_them() {
    need!(
        "foreign_tables_do_not_disturb_the_reading_of_ours_whatever_is_in_them",
        Need::Root,
        Need::IpVs,
        Need::Tool("nft")
    );
    let (netns, state) = node("foreign");
    let dir = path(&state);
    // Sets with one expression and with two, and a table with our name in another family.
    let rules = "table inet other {
        set counted { type ipv4_addr; size 65535; flags dynamic; counter; }
        set limited { type ipv4_addr; size 65535; flags dynamic; counter; limit rate 1/second; }
        chain c { ip saddr @counted drop; }
    }
    table ip ferrolb {
        set vip4 { type ipv6_addr; elements = { fd00::1 }; }
        chain prerouting { type filter hook prerouting priority 0; ip saddr 192.0.2.9 drop; }
    }";
    let file = dir.join("foreign.nft");
    std::fs::write(&file, rules).unwrap();
    netns.sh("nft", &["-f", file.to_str().unwrap()]);
    let foreign = || {
        let others = [["inet", "other"], ["ip", "ferrolb"]];
        others.map(|[family, name]| netns.sh("nft", &["-a", "list", "table", family, name]))
    };
    let before = foreign();
    within(&netns, async move || {
        let mut kernel = kernel(&dir).await;
        kernel.prepare().await.unwrap();
        let errors = kernel.apply(&everything()).await;
        assert!(errors.is_empty(), "{errors:#?}");
        let observed = kernel.read().await.unwrap();
        assert!(observed.rules_loaded);
        for op in everything() {
            assert!(holds(&observed, &op), "{op:?}");
        }
        assert_eq!(kernel.damage(None).await.unwrap(), None);
    });
    assert_eq!(foreign(), before);
}
