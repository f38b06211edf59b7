//! The manifests that users have today, byte for byte as they are: each says what it must say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ferrolb_api::change::Change;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::view::{Protocol, Service, ServiceType, TargetPort, TrafficPolicy};
use ferrolb_source::Source;
use ferrolb_source::files::{FilesSource, Settings};
use ferrolb_source::proxy_config;

fn examples() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples"))
}

/// All objects of the folder by kind and name; there must be no problem with any of them.
async fn load() -> BTreeMap<(Kind, String), Object> {
    let mut source = FilesSource::new(examples(), Settings::default()).unwrap();
    let batch = tokio::time::timeout(Duration::from_secs(60), source.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(batch.problems, None);
    let upserts = batch.changes.into_iter().map(|change| match change {
        Change::Upsert(o) => ((o.kind(), o.key().to_string()), o),
        Change::Remove(..) => panic!("nothing to remove"),
    });
    upserts.collect()
}

async fn service(name: &str) -> Service {
    match load().await.remove(&(Kind::Service, name.to_owned())) {
        Some(Object::Service(service)) => Arc::unwrap_or_clone(service),
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test]
async fn metallb_config_is_the_layer_2_pool() {
    let objects = load().await;
    let key = (Kind::LegacyConfig, "metallb-system/config".to_owned());
    let Some(Object::LegacyConfig(config)) = objects.get(&key) else {
        panic!("{:?}", objects.keys());
    };
    assert_eq!(config.pools.len(), 1);
    assert_eq!(config.pools[0].key.name, "default");
    assert_eq!(
        config.pools[0].ranges[0].to_string(),
        "172.17.255.1-172.17.255.255"
    );
    assert!(config.pools[0].auto_assign);
}

#[tokio::test]
async fn web_svc_cip_is_a_clusterip_service_from_80_to_8000() {
    let s = service("default/web-svc-cip").await;
    assert_eq!(s.service_type, ServiceType::ClusterIP);
    assert!(s.is_proxied() && !s.is_load_balancer());
    assert_eq!(s.ports[0].port, 80);
    assert_eq!(s.ports[0].target_port, TargetPort::Number(8000));
    assert_eq!(s.selector, [("app", "web")].into());
}

#[tokio::test]
async fn web_svc_lb_is_a_loadbalancer_service_that_asks_for_no_address() {
    let s = service("default/web-svc-lb").await;
    assert!(s.is_load_balancer());
    assert_eq!(s.load_balancer_ip, None);
    assert_eq!(s.external_policy, TrafficPolicy::Cluster);
}

#[tokio::test]
async fn coredns_svc_lb_is_two_services_on_one_address() {
    for (name, protocol) in [
        ("kube-system/coredns-svc-lb-tcp", Protocol::Tcp),
        ("kube-system/coredns-svc-lb-udp", Protocol::Udp),
    ] {
        let s = service(name).await;
        assert_eq!(s.load_balancer_ip, "172.17.255.2".parse().ok());
        assert_eq!(s.annotations.sharing_key.as_deref(), Some("coredns"));
        assert_eq!(s.annotations.invalid, None);
        assert_eq!((s.ports[0].port, s.ports[0].protocol), (53, protocol));
    }
}

#[tokio::test]
async fn nginx_lb_has_policy_local_and_named_target_ports() {
    let s = service("ingress-nginx/ingress-nginx").await;
    assert!(s.is_load_balancer());
    assert_eq!(s.external_policy, TrafficPolicy::Local);
    assert_eq!(s.ports[0].target_port, TargetPort::Name("http".into()));
    assert_eq!(s.ports[1].target_port, TargetPort::Name("https".into()));
}

#[tokio::test]
async fn web_svc_headless_has_nothing_to_program() {
    let s = service("default/web-svc").await;
    assert!(s.headless && !s.is_proxied());
}

#[test]
fn kube_proxy_config_is_read_as_it_is() {
    let text = std::fs::read_to_string(examples().join("kube-proxy-config.yaml")).unwrap();
    let (config, problems) = proxy_config::parse(&text).unwrap();
    assert_eq!(problems, []);
    assert_eq!(config.mode, "ipvs");
    assert_eq!(config.scheduler.name, "rr");
    assert_eq!(config.cluster_cidrs[0].to_string(), "10.244.0.0/16");
    assert_eq!(
        config.kubeconfig.as_deref(),
        Some("/var/lib/kube-proxy/kubeconfig.conf")
    );
}

#[tokio::test]
async fn nothing_else_is_read_from_the_examples() {
    let kinds: Vec<Kind> = load().await.into_keys().map(|(kind, _)| kind).collect();
    let count = |kind| kinds.iter().filter(|k| **k == kind).count();
    assert_eq!(count(Kind::Service), 6);
    assert_eq!(count(Kind::LegacyConfig), 1);
    assert_eq!(count(Kind::ProxyConfig), 1);
    assert_eq!(kinds.len(), 8, "the Deployment is of no concern: {kinds:?}");
}
