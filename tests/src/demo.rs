//! `lab demo`: runs the users' manifests on three nodes, from the assignment of addresses to the failure of a node. Each step is
//! shown and checked.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::failover::Stream;
use crate::late::Lateness;
use crate::node::PodLinks;
use crate::report::Report;
use crate::rows::{self, ADDRESSES, DNS, INGRESS, WEB};
use crate::wait;

/// Runs the demo; returns whether every check passed.
pub fn run() -> bool {
    let mut report = Report::new();
    report.title("Three nodes and a client on one LAN, 172.17.0.0/16");
    report.progress(format_args!(
        "namespaces, pods with their servers (web, CoreDNS, nginx), the users' manifests: {}",
        usually(2, 10)
    ));
    let mut cluster = Cluster::new("ipvs", PodLinks::Routed);
    report.progress("ferrolb node on node-1, node-2 and node-3, without an API server");
    cluster.start();
    report.progress(format_args!(
        "waiting until every address is programmed and announced: {}",
        usually(4, 20)
    ));
    let ready = report.check("all Services serve", rows::settled(&cluster));
    if ready {
        addresses(&mut report, &cluster);
        cluster_ip(&mut report, &cluster);
        from_outside(&mut report, &cluster);
        failover(&mut report, &mut cluster);
    }
    if report.failures() > 0 {
        logs(&cluster);
    }
    report.finish()
}

/// How long a step usually takes, in seconds: natively, and in an emulated machine.
fn usually(native: u32, emulated: u32) -> String {
    let seconds = if wait::slowness() > 1 {
        emulated
    } else {
        native
    };
    format!("usually {seconds} s")
}

fn addresses(report: &mut Report, cluster: &Cluster) {
    report.title("The addresses");
    let node = &cluster.nodes[0];
    report.shown(
        "ferrolb status",
        &node
            .status_text(&cluster.setup, false)
            .unwrap_or_else(|error| error),
    );
    report.check(
        "metallb-config.yaml: the legacy pool is loaded as it is",
        rows::legacy_pool(cluster),
    );
    report.check(
        "kube-proxy-config.yaml: read as it is",
        rows::proxy_config(cluster, node),
    );
    report.check(
        "web-svc-lb.yaml: EXTERNAL-IP",
        rows::external_ip(cluster, "default", "web-svc-lb"),
    );
    report.check(
        "coredns-svc-lb.yaml: EXTERNAL-IP over TCP",
        rows::external_ip(cluster, "kube-system", "coredns-svc-lb-tcp"),
    );
    report.check(
        "coredns-svc-lb.yaml: the same EXTERNAL-IP over UDP",
        rows::external_ip(cluster, "kube-system", "coredns-svc-lb-udp"),
    );
    report.check(
        "nginx-lb.yaml: EXTERNAL-IP",
        rows::external_ip(cluster, "ingress-nginx", "ingress-nginx"),
    );
}

fn cluster_ip(report: &mut Report, cluster: &Cluster) {
    report.title("The ClusterIP, from a node");
    let node = &cluster.nodes[1];
    report.shown("ipvsadm -Ln", &node.netns().sh("ipvsadm", &["-Ln"]));
    report.check(
        "web-svc-cip.yaml: curl",
        rows::cluster_ip_curl(cluster, node),
    );
    report.check(
        "web-svc-cip.yaml: ping",
        rows::cluster_ip_ping(cluster, node),
    );
    report.check(
        "web-svc-cip.yaml: ipvsadm lists rr and 3 masq servers",
        rows::cluster_ip_in_ipvsadm(cluster, node),
    );
    report.check(
        "web-svc-cip.yaml: the address is on kube-ipvs0",
        rows::cluster_ip_on_dummy(cluster, node),
    );
    report.check(
        "web-svc-headless.yaml: no virtual server",
        rows::headless(cluster, node),
    );
}

fn from_outside(report: &mut Report, cluster: &Cluster) {
    report.title("From the client, 172.17.0.100");
    report.check(
        "web-svc-lb.yaml: repeated requests visit the pods in a fixed order",
        rows::fixed_order(cluster),
    );
    report.check(
        "coredns-svc-lb.yaml: a lookup over UDP",
        rows::dns_lookup(cluster, false),
    );
    report.check(
        "coredns-svc-lb.yaml: a lookup over TCP",
        rows::dns_lookup(cluster, true),
    );
    report.check(
        "nginx-lb.yaml: port 80, the client's own address in the access log",
        rows::ingress(cluster, false),
    );
    report.check(
        "nginx-lb.yaml: port 443, the client's own address in the access log",
        rows::ingress(cluster, true),
    );
    for (what, address) in [("web", WEB), ("DNS", DNS), ("ingress", INGRESS)] {
        report.check(
            &format!("ARP: one MAC for the {what} address"),
            rows::one_mac(cluster, address),
        );
    }
    report.shown(
        "ip neigh show (on the client)",
        &cluster
            .client
            .netns
            .sh("ip", &["neigh", "show", "dev", "eth0"]),
    );
}

/// Cuts the announcer of the web address off the LAN and kills its agent, during a stream of requests.
fn failover(report: &mut Report, cluster: &mut Cluster) {
    report.title("The announcing node dies");
    let slow = wait::slowness();
    let pace = Duration::from_millis(20) * slow;
    let Ok(victim) = cluster.announcer(WEB.into()) else {
        report.check("failover", Err("nobody announces the address".to_owned()));
        return;
    };
    let stream = Stream::start(&cluster.client.netns, SocketAddr::from((WEB, 80)), pace);
    let enough = wait::value("a stream of answers", Duration::from_secs(10), || {
        if stream.answered() >= 20 {
            Ok(())
        } else {
            Err(stream.answered())
        }
    });
    if let Err(message) = enough {
        report.check("failover", Err(message));
        return;
    }
    report.progress(format_args!(
        "killing {victim}, which announces {WEB}, under one request each {} ms",
        pace.as_millis()
    ));
    let lateness = Lateness::start();
    cluster.lan.unplug(&cluster.node(&victim).host);
    cluster.node_mut(&victim).drop_agent();
    let killed = Instant::now();
    let moved = wait::value(
        "another announcer",
        Duration::from_secs(15),
        || match cluster.announcer(WEB.into()) {
            Ok(name) if name != victim => Ok(name),
            other => Err(format!("{other:?}")),
        },
    );
    let again = wait::value("answers again", Duration::from_secs(15), || {
        if stream.answered_since(killed + Duration::from_millis(50)) {
            Ok(())
        } else {
            Err("silence")
        }
    });
    let result = moved.and_then(|name| again.map(|()| name));
    let late = lateness.so_far();
    let outage = stream.finish();
    let note = if slow > 1 {
        format!(" (this is an emulated machine: timers are stretched {slow} times)")
    } else {
        String::new()
    };
    let limit = Duration::from_secs(2) * slow + late;
    let result = result.and_then(|name| {
        let longest = outage.longest.as_millis();
        let text =
            format!("{name} took over; the client went {longest} ms without an answer{note}");
        if outage.longest < limit {
            Ok(text)
        } else {
            let (limit, late) = (limit.as_millis(), late.as_millis());
            Err(format!(
                "{text}, more than {limit} ms; this machine ran everything {late} ms late meanwhile"
            ))
        }
    });
    if report.check("the address moves to a living node", result) {
        report.check(
            "ARP: one MAC for the web address, another one now",
            rows::one_mac(cluster, WEB),
        );
        let all = wait::value(
            "every address has a living announcer",
            Duration::from_secs(10),
            || {
                ADDRESSES
                    .iter()
                    .filter(|&&address| address != INGRESS)
                    .try_for_each(|&address| match cluster.announcer(address.into()) {
                        Ok(name) if name != victim => Ok(()),
                        other => Err(format!("{address}: {other:?}")),
                    })
            },
        );
        report.check(
            "the other shared addresses are announced too",
            all.map(|()| String::new()),
        );
    }
}

/// The last lines of the nodes' logs, to help find out why a check failed.
fn logs(cluster: &Cluster) {
    for node in &cluster.nodes {
        let text = std::fs::read_to_string(cluster.folder().join(format!("{}.log", node.name)))
            .unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        println!("\n--- the end of the log of {}:", node.name);
        for line in lines.iter().skip(lines.len().saturating_sub(40)) {
            println!("    {line}");
        }
    }
}
