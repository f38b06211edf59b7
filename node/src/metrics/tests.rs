#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ferrolb_speaker::snapshot::{Counters, Member};
use http_body_util::BodyExt;
use serde_json::Value;

use super::*;

fn exporter(meter: Option<&Meter>, speaker: watch::Receiver<Snapshot>) -> Exporter {
    // Port 0: one that is free.
    let at = "127.0.0.1:0".parse().unwrap();
    let config = ProxyConfig::default();
    let (questions, requests) = (Questions::default(), Requests::default());
    let counted = Counted {
        meter,
        speaker,
        questions: &questions,
        requests: Some(&requests),
    };
    Exporter::new(at, None, counted, "ipvs", &config)
}

async fn get(exporter: &Exporter, path: &str) -> (u16, String, String) {
    let reply = exporter.shown.reply(&Method::GET, path);
    let code = reply.status().as_u16();
    let of = reply.headers().get(header::CONTENT_TYPE);
    let of = of.map(|of| of.to_str().unwrap().to_owned());
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    (code, of.unwrap_or_default(), body)
}

#[tokio::test]
async fn the_names_are_those_of_kube_proxy_and_the_text_ends_as_openmetrics_wants_it() {
    let meter = Meter::default();
    let (tell, speaker) = watch::channel(Snapshot::default());
    let exporter = exporter(Some(&meter), speaker);
    let member = |name: &str, status| Member {
        name: name.to_owned(),
        address: None,
        status,
        settled: true,
        multiplier: 1,
        incarnation: 1,
        eligible: 0,
    };
    tell.send_modify(|snapshot| {
        snapshot.settled = true;
        snapshot.announced = 7;
        snapshot.members = vec![member("a", Status::Alive), member("b", Status::Dead)];
        snapshot.counters = Counters {
            gratuitous: 14,
            latest: 2500,
            ..Counters::default()
        };
    });
    let (code, of, body) = get(&exporter, "/metrics").await;
    assert_eq!(code, 200);
    assert!(
        of.starts_with("application/openmetrics-text; version=1.0.0"),
        "{of}"
    );
    for line in [
        "# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram",
        "kubeproxy_sync_full_proxy_rules_duration_seconds_count 0",
        "kubeproxy_sync_partial_proxy_rules_duration_seconds_bucket{le=\"0.001\"} 0",
        "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"16.384\"} 0",
        "kubeproxy_sync_proxy_rules_endpoint_changes_total 0",
        "kubeproxy_sync_proxy_rules_service_changes_total 0",
        "ferrolb_proxy_missing_schedulers 0",
        "ferrolb_speaker_announced_addresses 7",
        "ferrolb_speaker_members 2",
        "ferrolb_speaker_live_members 1",
        "ferrolb_speaker_settled 1",
        "ferrolb_speaker_arp_gratuitous_total 14",
        "ferrolb_speaker_longest_delay_seconds 0.0025",
    ] {
        assert!(body.lines().any(|l| l == line), "{line} is not in\n{body}");
    }
    assert!(body.ends_with("# EOF\n"), "{body}");
    assert!(body.contains(&format!("version=\"{}\"", env!("CARGO_PKG_VERSION"))));
}

#[tokio::test]
async fn mode_and_configuration_are_where_kube_proxy_shows_them_and_follow_changes() {
    let (_tell, speaker) = watch::channel(Snapshot::default());
    let exporter = exporter(None, speaker);
    assert_eq!(get(&exporter, "/proxyMode").await.2, "ipvs");
    assert_eq!(get(&exporter, "/healthz").await.2, "ok");
    assert_eq!(get(&exporter, "/other").await.0, 404);
    let post = exporter.shown.reply(&Method::POST, "/metrics");
    assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
    let (_, of, before) = get(&exporter, "/configz").await;
    assert_eq!(of, "application/json");
    let shown = |text: &str| -> Value {
        let all: Value = serde_json::from_str(text).unwrap();
        all["kubeproxy.config.k8s.io"].clone()
    };
    assert_eq!(shown(&before)["ipvs"]["scheduler"], "rr");
    exporter.configured(&ProxyConfig {
        scheduler: "mh".parse().unwrap(),
        cluster_cidrs: vec![
            "10.244.0.0/16".parse().unwrap(),
            "fd00::/48".parse().unwrap(),
        ],
        ipvs_timeouts: [900, 120, 300].map(Duration::from_secs),
        ..ProxyConfig::default()
    });
    let after = shown(&get(&exporter, "/configz").await.2);
    assert_eq!(after["ipvs"]["scheduler"], "mh");
    assert_eq!(after["mode"], "ipvs");
    let at = "127.0.0.1:10249".parse().unwrap();
    let beside = shown(&configz(&ProxyConfig::default(), "none", at, None));
    assert_eq!(beside["mode"], "none");
    assert_eq!(after["ipvs"]["tcpTimeout"], "900s");
    assert_eq!(after["clusterCIDR"], "10.244.0.0/16,fd00::/48");
    assert_eq!(after["conntrack"]["tcpEstablishedTimeout"], "86400s");
}

#[tokio::test]
async fn a_port_that_somebody_has_is_a_problem_until_it_is_free() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = holder.local_addr().unwrap();
    let (_tell, speaker) = watch::channel(Snapshot::default());
    let config = ProxyConfig::default();
    let counted = Counted {
        meter: None,
        speaker,
        questions: &Questions::default(),
        requests: None,
    };
    let mut exporter = Exporter::new(at, None, counted, "ipvs", &config);
    let said = exporter.problem().unwrap().to_string();
    assert!(
        said.contains("--metrics-bind-address")
            && said.contains("if kube-proxy still runs, stop it"),
        "{said}"
    );
    drop(holder);
    exporter.again(Instant::now());
    assert!(
        exporter.problem().is_some(),
        "it waits between two attempts"
    );
    exporter.again(Instant::now() + AGAIN);
    assert_eq!(exporter.problem(), None);
    assert!(tokio::net::TcpStream::connect(at).await.is_ok());
}
