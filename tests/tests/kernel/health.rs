//! Questions about health over HTTP: load balancers ask a node about a Service, and whoever rolls ferrolb out asks whether the node
//! is ready.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ferrolb_tests::client::{Ask, fresh_port, http, http_text};
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::wait;

use crate::restart_solo::{KEPT, Solo, service};

const SOON: Duration = Duration::from_secs(10);
const ASKED: u16 = 31999;

#[test]
fn a_load_balancer_learns_at_the_health_check_node_port_whether_the_node_has_endpoints() {
    need!(
        "a_load_balancer_learns_at_the_health_check_node_port_whether_the_node_has_endpoints",
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb
    );
    let mut solo = Solo::new("health");
    let more = format!("  externalTrafficPolicy: Local\n  healthCheckNodePort: {ASKED}\n");
    let ports = "  - {name: http, port: 80, targetPort: 8000}\n";
    let kept = service("kept", KEPT, &more, ports);
    solo.manifests.write("kept.yaml", &kept);
    solo.setup.extra.extend(
        [
            "--healthz-bind-address",
            "0.0.0.0:10256",
            "--metrics-bind-address",
            "0.0.0.0:10249",
        ]
        .map(str::to_owned),
    );
    solo.start();
    let node = IpAddr::V4(solo.node.host.v4);
    let says = |port: u16, path: &str, head: &str, body: &str| {
        let client = solo.client.netns.clone();
        let to = SocketAddr::new(node, port);
        wait::expect(&format!("{to}{path} answers {head}"), SOON, || {
            let path = path.to_owned();
            let answer = client.run(move || http_text(to, &path, Ask::default()));
            let answer = answer.map_err(|e| e.to_string())?;
            if answer.starts_with(&format!("HTTP/1.1 {head} ")) && answer.contains(body) {
                Ok(())
            } else {
                Err(answer)
            }
        });
    };
    says(10256, "/livez", "200", "");
    says(10256, "/healthz", "200", r#""nodeEligible":true"#);
    says(
        ASKED,
        "/",
        "200",
        r#""localEndpoints":2,"service":{"name":"kept""#,
    );
    let log = solo.node.agent().unwrap().log();
    assert!(
        log.contains(r#"Using ipvs Proxier mode="ipvs" scheduler=rr detector="#),
        "{log}"
    );
    says(10249, "/proxyMode", "200", "ipvs");
    says(10249, "/configz", "200", r#""scheduler":"rr""#);
    for _ in 0..3 {
        let ask = Ask {
            source_port: fresh_port(),
            ..Ask::default()
        };
        let to = SocketAddr::from((KEPT, 80));
        let client = solo.client.netns.clone();
        client.run(move || http(to, ask)).unwrap();
    }
    // The kernel's counters are read at each audit.
    for line in [
        r#"ferrolb_ipvs_connections_total{namespace="default",service="kept"} 3"#,
        "ferrolb_speaker_announced_addresses 2",
        "ferrolb_proxy_unprogrammed_services 0",
        r#"kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="external"} 0"#,
    ] {
        says(10249, "/metrics", "200", line);
    }
    // Nobody is ready any more.
    for pod in ["web-1", "web-2"] {
        solo.manifests.remove_pod(pod);
    }
    says(ASKED, "/", "503", r#""localEndpoints":0"#);
    let plain = service("kept", KEPT, "", ports);
    solo.manifests.write("kept.yaml", &plain);
    wait::expect("nobody listens", SOON, || {
        let to = SocketAddr::new(node, ASKED);
        let client = solo.client.netns.clone();
        match client.run(move || http_text(to, "/", Ask::default())) {
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}
