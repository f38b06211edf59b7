//! Questions about health over HTTP: load balancers ask a node about a Service, and whoever rolls ferrolb out asks whether the node
//! is ready.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ferrolb_tests::client::{Ask, http_text};
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
    let address = "0.0.0.0:10256".to_owned();
    solo.setup
        .extra
        .extend(["--healthz-bind-address".to_owned(), address]);
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
    says(10256, "/healthz", "200", r#"{"ready":true}"#);
    says(
        ASKED,
        "/",
        "200",
        r#""localEndpoints":2,"service":{"name":"kept""#,
    );
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
