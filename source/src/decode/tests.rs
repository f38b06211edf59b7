#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use ferrolb_api::Family;
use ferrolb_api::crd::{AddressRange, IpAddressPool};
use ferrolb_api::legacy::LegacyConfig;
use ferrolb_api::proxy_config::{
    Conntrack, DetectLocal, InterfaceName, NodePortAddresses, ProxyConfig,
};
use ferrolb_api::view::service::DualStack;
use ferrolb_api::view::{Service, ServiceType, TargetPort, TrafficPolicy};
use proptest::prelude::*;

use super::*;
use crate::files::document::{self, Read};

fn read(text: &str) -> Read {
    document::read("a.yaml", "default", text)
}

fn only(text: &str) -> Object {
    let read = read(text);
    assert_eq!(read.problems, [], "{text}");
    assert_eq!(read.objects.len(), 1, "{text}");
    read.objects[0].object.clone()
}

fn service(spec: &str) -> Service {
    let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {spec}\n");
    match only(&text) {
        Object::Service(service) => Arc::unwrap_or_clone(service),
        other => panic!("{other:?}"),
    }
}

/// The problems in a text as they are printed, without their consequences.
fn problems(text: &str) -> Vec<String> {
    let problems = read(text).problems.into_iter();
    let cause = |problem: Problem| problem.so(Consequence::Nothing).to_string();
    problems.map(cause).collect()
}

fn pool(addresses: &str) -> String {
    format!(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata:\n  name: p\n  namespace: metallb-system\nspec:\n  addresses: {addresses}\n"
    )
}

fn legacy(text: &str) -> String {
    let block: String = text.lines().map(|l| format!("    {l}\n")).collect();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: metallb-system\n  name: config\ndata:\n  config: |\n{block}"
    )
}

#[test]
fn a_service_is_read_with_the_defaults_of_kubernetes() {
    let s = service("{ports: [{port: 80}]}");
    assert_eq!(s.key, ObjectKey::new("default", "web"));
    assert_eq!(s.service_type, ServiceType::ClusterIP);
    assert!(!s.headless && s.cluster_ips.is_empty() && s.affinity_seconds.is_none());
    assert_eq!(s.ports[0].target_port, TargetPort::Number(80));
    assert_eq!(s.ports[0].protocol.to_string(), "TCP");
    assert_eq!(s.ports[0].node_port, None);
    assert_eq!(s.external_policy, TrafficPolicy::Cluster);
}

#[test]
fn every_used_field_of_a_service_is_read() {
    let s = service(
        "{type: LoadBalancer, clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, 'fd00::1'], externalIPs: [192.0.2.7],
  loadBalancerIP: 192.0.2.1, loadBalancerClass: x/y, loadBalancerSourceRanges: [' 10.1.2.3/8 '],
  externalTrafficPolicy: Local, internalTrafficPolicy: Local, sessionAffinity: ClientIP,
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}, ipFamilyPolicy: PreferDualStack, healthCheckNodePort: 30001,
  publishNotReadyAddresses: true, selector: {app: web}, allocateLoadBalancerNodePorts: false,
  ports: [{name: a, port: 80, targetPort: http, nodePort: 30080, appProtocol: h2c}, {name: b, port: 80, protocol: UDP, targetPort: 8080}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.1, ipMode: VIP}, {ip: 192.0.2.2, ipMode: Proxy}, {hostname: x}, {ip: '2001:db8::1'}]}}",
    );
    assert_eq!(s.cluster_ips.len(), 2);
    assert_eq!(
        s.external_ips,
        ["192.0.2.7".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(s.load_balancer_ip, "192.0.2.1".parse().ok());
    assert_eq!(s.load_balancer_class.as_deref(), Some("x/y"));
    assert_eq!(s.source_ranges, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(s.affinity_seconds, Some(60));
    assert_eq!(s.dual_stack, DualStack::Prefer);
    assert_eq!(s.health_check_node_port, Some(30001));
    assert!(s.publish_not_ready);
    assert_eq!(s.ports[0].target_port, TargetPort::Name("http".into()));
    assert_eq!(s.ports[0].node_port, Some(30080));
    assert_eq!(s.ports[1].target_port, TargetPort::Number(8080));
    let vips: Vec<String> = s.vips().map(|ip| ip.to_string()).collect();
    assert_eq!(vips, ["192.0.2.1", "2001:db8::1"]);
    assert!(s.uses_local_endpoints() && s.uses_cluster_endpoints());
}

#[test]
fn the_families_of_a_service_are_read_with_what_they_say_about_the_policy() {
    let of = |spec: &str| {
        let s = service(&format!("{{{spec}, ports: [{{port: 80}}]}}"));
        (s.dual_stack, s.primary_family)
    };
    let six = Some(Family::V6);
    for (spec, expected) in [
        ("ipFamilies: []", (DualStack::Single, None)),
        ("ipFamilies: [IPv6]", (DualStack::Single, six)),
        (
            "ipFamilies: [IPv6], ipFamilyPolicy: PreferDualStack",
            (DualStack::Prefer, six),
        ),
        ("ipFamilies: [IPv6, IPv4]", (DualStack::Require, six)),
        (
            "ipFamilies: [IPv6, IPv4], ipFamilyPolicy: PreferDualStack",
            (DualStack::Prefer, six),
        ),
    ] {
        assert_eq!(of(spec), expected, "{spec}");
    }
    for (spec, field) in [
        ("ipFamilies: [ipv6]", "spec.ipFamilies[0]"),
        ("ipFamilies: [IPv4, IPv4]", "spec.ipFamilies[1]"),
        (
            "ipFamilies: [IPv6, IPv4], ipFamilyPolicy: SingleStack",
            "spec.ipFamilies",
        ),
    ] {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{{spec}, ports: [{{port: 80}}]}}\n"
        );
        let fields: Vec<String> = read(&text).problems.into_iter().map(|p| p.field).collect();
        assert_eq!(fields, [field], "{spec}");
    }
}

#[test]
fn affinity_lasts_three_hours_where_nothing_else_is_said() {
    let s = service("{sessionAffinity: ClientIP, ports: [{port: 80}]}");
    assert_eq!(s.affinity_seconds, Some(10800));
}

#[test]
fn a_headless_service_and_an_alias_have_nothing_to_program() {
    assert!(!service("{clusterIP: None, ports: [{port: 80}]}").is_proxied());
    assert!(!service("{clusterIPs: [None]}").is_proxied());
    assert!(!service("{type: ExternalName, externalName: example.org}").is_proxied());
    assert!(service("{ports: [{port: 80}]}").is_proxied());
}

#[test]
fn what_is_wrong_in_a_service_is_told_with_its_field() {
    for (spec, expected) in [
        (
            "{ports: [{port: 0}]}",
            "spec.ports[0].port: 0 is not a port: use 1 to 65535",
        ),
        (
            "{ports: [{port: 70000}]}",
            "spec.ports[0].port: 70000 is not a port: use 1 to 65535",
        ),
        (
            "{ports: []}",
            "spec.ports: is empty: a Service needs at least one port",
        ),
        (
            "{ports: [{port: 1}, {port: 2}]}",
            "spec.ports[0].name: is missing: with several ports each needs a name",
        ),
        (
            "{ports: [{name: a, port: 1}, {name: b, port: 1}]}",
            "spec.ports[1].port: 1/TCP is there twice: remove one",
        ),
        (
            "{ports: [{name: a, port: 1}, {name: a, port: 2}]}",
            "spec.ports[1].name: \"a\" is there twice: give each port its own name",
        ),
        (
            "{ports: [{port: 1, targetPort: '80'}]}",
            "spec.ports[0].targetPort: \"80\" is a string: write the number without quotes",
        ),
        (
            "{ports: [{port: 1, protocol: tcp}]}",
            "spec.ports[0].protocol: \"tcp\" is unknown: use TCP, UDP or SCTP",
        ),
        (
            "{type: Balancer, ports: [{port: 1}]}",
            "spec.type: \"Balancer\" is unknown: use ClusterIP, NodePort, LoadBalancer or ExternalName",
        ),
        (
            "{clusterIP: 10.0.0.300, ports: [{port: 1}]}",
            "spec.clusterIP: \"10.0.0.300\" is not an IP address",
        ),
        (
            "{externalTrafficPolicy: local, ports: [{port: 1}]}",
            "spec.externalTrafficPolicy: \"local\" is unknown: use Cluster or Local",
        ),
        (
            "{ports: [{port: http}]}",
            "spec.ports[0].port: invalid type: string \"http\", expected i64",
        ),
    ] {
        let text =
            format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {spec}\n");
        assert_eq!(
            problems(&text),
            [format!("a.yaml:4: Service default/web: {expected}")]
        );
        let read = read(&text);
        assert_eq!(
            read.broken,
            [(Kind::Service, ObjectKey::new("default", "web"))]
        );
        assert!(!read.unknown && read.objects.is_empty());
    }
}

fn requesting(annotations: &str, spec: &str) -> (Service, Vec<String>) {
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  annotations:\n{annotations}\nspec: {{type: LoadBalancer, ports: [{{port: 80}}]{spec}}}\n"
    );
    let read = read(&text);
    let problems = read.problems.iter().map(ToString::to_string).collect();
    match &read.objects[0].object {
        Object::Service(service) => (Service::clone(service), problems),
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_prefixes_of_annotations_are_read_and_the_new_one_wins() {
    let (s, problems) = requesting(
        "    metallb.universe.tf/address-pool: old\n    metallb.io/address-pool: new\n    metallb.universe.tf/allow-shared-ip: key\n    metallb.universe.tf/loadBalancerIPs: '192.0.2.1, 2001:db8::1'",
        "",
    );
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(s.annotations.pool.as_deref(), Some("new"));
    assert_eq!(s.annotations.sharing_key.as_deref(), Some("key"));
    assert_eq!(s.annotations.requested.len(), 2);
    assert_eq!(s.annotations.invalid, None);
}

#[test]
fn what_a_controller_and_the_api_server_noted_on_a_service_is_read() {
    let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  uid: 1-2\n  annotations:\n    metallb.universe.tf/ip-allocated-from-pool: old\nspec: {ports: [{port: 80}]}\n";
    let Object::Service(s) = only(text) else {
        panic!("no Service");
    };
    assert_eq!(s.uid, "1-2");
    assert_eq!(s.annotations.allocated_from.as_deref(), Some("old"));
    let (s, problems) = requesting(
        "    metallb.universe.tf/ip-allocated-from-pool: old\n    metallb.io/ip-allocated-from-pool: new",
        "",
    );
    assert_eq!(s.annotations.allocated_from.as_deref(), Some("new"));
    assert_eq!((s.uid.as_str(), problems), ("", vec![]));
}

#[test]
fn a_bad_request_for_addresses_costs_the_service_nothing_else() {
    let long = "x".repeat(2000);
    for (annotations, spec, expected) in [
        (
            "    metallb.io/loadBalancerIPs: 192.0.2.1".to_owned(),
            ", loadBalancerIP: 192.0.2.2",
            "a.yaml:6: Service default/web: metadata.annotations[metallb.io/loadBalancerIPs]: addresses are requested twice, here (\"192.0.2.1\") and in spec.loadBalancerIP (\"192.0.2.2\"): remove one".to_owned(),
        ),
        (
            "    metallb.io/loadBalancerIPs: 192.0.2.1,192.0.2.2".to_owned(),
            "",
            "a.yaml:6: Service default/web: metadata.annotations[metallb.io/loadBalancerIPs]: \"192.0.2.1,192.0.2.2\" asks for two addresses of one family: ask for one of each at most".to_owned(),
        ),
        (
            "    metallb.io/loadBalancerIPs: here".to_owned(),
            "",
            "a.yaml:6: Service default/web: metadata.annotations[metallb.io/loadBalancerIPs]: \"here\" is not an IP address".to_owned(),
        ),
        (
            "    x: z".to_owned(),
            ", loadBalancerIP: 1.2.3",
            "a.yaml:7: Service default/web: spec.loadBalancerIP: \"1.2.3\" is not an IP address".to_owned(),
        ),
        (
            format!("    metallb.io/allow-shared-ip: {long}"),
            "",
            format!("a.yaml:6: Service default/web: metadata.annotations[metallb.io/allow-shared-ip]: \"{}\"... is too long or not plain text: use at most 1024 bytes", &long[..80]),
        ),
    ] {
        let (s, problems) = requesting(&annotations, spec);
        assert_eq!(problems, [expected]);
        assert!(s.annotations.invalid.is_some());
        assert_eq!(s.ports.len(), 1);
    }
}

#[test]
fn an_endpoint_slice_is_read_with_the_defaults_of_kubernetes() {
    let text = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nmetadata: {name: web-1, labels: {kubernetes.io/service-name: web}}\nports: [{name: http, port: 8000}, {name: all}]\nendpoints:\n- {addresses: [10.0.0.1], nodeName: n1, hints: {forZones: [{name: z1}]}}\n- {addresses: [10.0.0.2], conditions: {ready: false, serving: true, terminating: true}}\n- {addresses: [10.0.0.3], conditions: {ready: false}}\n";
    let Object::EndpointSlice(slice) = only(text) else {
        panic!()
    };
    assert_eq!(slice.service_key(), ObjectKey::new("default", "web"));
    assert_eq!(slice.ports.len(), 1);
    let flags: Vec<_> = slice
        .endpoints
        .iter()
        .map(|e| (e.ready, e.serving, e.terminating))
        .collect();
    assert_eq!(
        flags,
        [
            (true, true, false),
            (false, true, true),
            (false, false, false)
        ]
    );
    assert_eq!(slice.endpoints[0].hint_zones, ["z1"]);
    assert_eq!(slice.endpoints[0].node.as_deref(), Some("n1"));
    let names = text.replace("IPv4", "FQDN");
    assert_eq!(read(&names), Read::default());
    assert_eq!(
        problems(&text.replace("IPv4", "IPv6")),
        [
            "a.yaml:7: EndpointSlice default/web-1: endpoints[0].addresses[0]: 10.0.0.1 is not IPv6, the addressType of the slice: write one slice per family"
        ]
    );
}

#[test]
fn a_node_is_read() {
    let Object::Node(node) = only(
        "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/zone: z1, node.kubernetes.io/exclude-from-external-load-balancers: ''}}\nspec: {podCIDRs: [10.244.1.0/24], taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]}\nstatus: {addresses: [{type: InternalIP, address: 10.0.0.1}, {type: Hostname, address: n1}], conditions: [{type: NetworkUnavailable, status: 'True'}]}",
    ) else {
        panic!()
    };
    assert!(node.excluded && node.leaving && node.network_unavailable);
    assert_eq!(node.zone.as_deref(), Some("z1"));
    assert_eq!((node.internal_ips.len(), node.pod_cidrs.len()), (1, 1));
}

#[test]
fn a_pod_without_a_ready_condition_is_ready() {
    let pod = |status: &str| match only(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{ports: [{{name: http, containerPort: 80}}]}}]}}\nstatus: {status}"
    )) {
        Object::Pod(pod) => Arc::unwrap_or_clone(pod),
        other => panic!("{other:?}"),
    };
    assert!(pod("{podIP: 10.0.0.1}").ready);
    assert!(!pod("{podIPs: [{ip: 10.0.0.1}], conditions: [{type: Ready, status: 'False'}]}").ready);
    assert!(pod("{phase: Failed}").finished);
    assert_eq!(pod("{podIP: 10.0.0.1}").ips.len(), 1);
}

fn pool_of(text: &str) -> IpAddressPool {
    match only(text) {
        Object::IpAddressPool(pool) => Arc::unwrap_or_clone(pool),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pool_takes_networks_and_ranges_of_both_families() {
    let pool = pool_of(&pool(
        "[192.0.2.8/30, 198.51.100.1-198.51.100.3, '2001:db8::/126', '192.0.2.77/28']",
    ));
    let ranges: Vec<String> = pool.ranges.iter().map(ToString::to_string).collect();
    assert_eq!(
        ranges,
        [
            "192.0.2.8-192.0.2.11",
            "198.51.100.1-198.51.100.3",
            "2001:db8::-2001:db8::3",
            "192.0.2.64-192.0.2.79"
        ]
    );
    assert!(pool.auto_assign && !pool.avoid_buggy_ips);
}

#[test]
fn a_backwards_range_is_refused_with_its_text() {
    assert_eq!(
        problems(&pool("[192.0.2.20-192.0.2.10]")),
        [
            "a.yaml:7: IPAddressPool metallb-system/p: spec.addresses[0]: \"192.0.2.20-192.0.2.10\" runs backwards: write 192.0.2.10-192.0.2.20"
        ]
    );
}

#[test]
fn a_range_of_two_families_is_refused() {
    assert_eq!(
        problems(&pool("['192.0.2.1-2001:db8::1']")),
        [
            "a.yaml:7: IPAddressPool metallb-system/p: spec.addresses[0]: \"192.0.2.1-2001:db8::1\" mixes IPv4 and IPv6: write one range per family"
        ]
    );
}

#[test]
fn an_overlap_within_a_pool_is_refused() {
    assert_eq!(
        problems(&pool(
            "\n  - 192.0.2.0/28\n  - 198.51.100.0/24\n  - 192.0.2.15-192.0.2.20"
        )),
        [
            "a.yaml:10: IPAddressPool metallb-system/p: spec.addresses[2]: 192.0.2.15-192.0.2.20 overlaps 192.0.2.0-192.0.2.15 of the same pool: remove one"
        ]
    );
}

#[test]
fn addresses_that_are_none_are_refused() {
    for (text, expected) in [
        (
            "[192.0.2.1]",
            "\"192.0.2.1\" is a single address: write 192.0.2.1/32",
        ),
        (
            "[192.0.2.0/33]",
            "\"192.0.2.0/33\" has no usable prefix length: use /0 to /32 for IPv4, /0 to /128 for IPv6",
        ),
        (
            "[web]",
            "\"web\" is neither a CIDR (192.0.2.0/28) nor a range (192.0.2.10-192.0.2.20)",
        ),
        (
            "[127.0.0.0/8]",
            "\"127.0.0.0/8\" holds 127.0.0.0, which no Service can have: leave it out",
        ),
        (
            "[223.0.0.0-225.0.0.0]",
            "\"223.0.0.0-225.0.0.0\" holds 224.0.0.0, which no Service can have: leave it out",
        ),
    ] {
        assert_eq!(
            problems(&pool(text)),
            [format!(
                "a.yaml:7: IPAddressPool metallb-system/p: spec.addresses[0]: {expected}"
            )]
        );
    }
    assert_eq!(
        problems(&pool("[]")),
        [
            "a.yaml:7: IPAddressPool metallb-system/p: spec.addresses: is empty: a pool needs at least one CIDR or range of addresses"
        ]
    );
}

#[test]
fn an_advertisement_is_read_with_its_selectors() {
    let Object::L2Advertisement(a) = only(
        "apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: a, namespace: metallb-system}\nspec: {ipAddressPools: [p], ipAddressPoolSelectors: [{matchLabels: {a: b}}], nodeSelectors: [{matchExpressions: [{key: x, operator: In, values: [z]}]}], interfaces: [eth0]}",
    ) else {
        panic!()
    };
    assert_eq!(
        (a.pools.len(), a.pool_selectors.len(), a.interfaces.len()),
        (1, 1, 1)
    );
    assert!(a.node_selectors[0].matches(&[("x", "z")].into()));
    let Object::L2Advertisement(all) =
        only("apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: a}\n")
    else {
        panic!()
    };
    assert!(all.pools.is_empty());
}

fn legacy_of(text: &str) -> (LegacyConfig, Vec<String>) {
    let read = read(text);
    let problems = read.problems.iter().map(ToString::to_string).collect();
    match &read.objects[0].object {
        Object::LegacyConfig(config) => (LegacyConfig::clone(config), problems),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_old_configmap_is_its_layer_2_pools_announced_by_name() {
    let (config, problems) = legacy_of(&legacy(
        "address-pools:\n- name: default\n  protocol: layer2\n  auto-assign: false\n  avoid-buggy-ips: true\n  addresses: [192.0.2.0/24]",
    ));
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(
        config.pools[0].key,
        ObjectKey::new("metallb-system", "default")
    );
    assert!(!config.pools[0].auto_assign && config.pools[0].avoid_buggy_ips);
    assert_eq!(config.advertisement.pools, ["default"]);
}

#[test]
fn other_configmaps_are_left_alone() {
    let text = legacy("nonsense: true").replace("metallb-system", "default");
    assert_eq!(read(&text), Read::default());
}

#[test]
fn a_bgp_pool_is_told_and_the_others_go_on() {
    let (config, problems) = legacy_of(&legacy(
        "peers: [{peer-address: 10.0.0.1}]\naddress-pools:\n- name: far\n  protocol: bgp\n  addresses: [198.51.100.0/24]\n  bgp-advertisements: [{aggregation-length: 32}]\n- name: near\n  protocol: layer2\n  addresses: [192.0.2.0/24]",
    ));
    assert_eq!(
        problems,
        [
            "a.yaml:11: ConfigMap metallb-system/config: data.config.address-pools[0].protocol: pool \"far\" is not used: addresses are announced at layer 2 only, write layer2 instead of bgp"
        ]
    );
    assert_eq!(config.pools.len(), 1);
    assert_eq!(config.advertisement.pools, ["near"]);
}

#[test]
fn the_old_configmap_is_strict() {
    let unknown =
        legacy("address-pools:\n- name: a\n  protocol: layer2\n  adresses: [192.0.2.0/24]");
    assert_eq!(
        problems(&unknown),
        [
            "a.yaml:11: ConfigMap metallb-system/config: data.config.address-pools[0].adresses: unknown field `adresses`, expected one of `name`, `protocol`, `addresses`, `avoid-buggy-ips`, `auto-assign`, `bgp-advertisements`"
        ]
    );
    let (config, problems) = legacy_of(&legacy(
        "address-pools:\n- name: a\n  protocol: layer2\n  addresses: [192.0.2.0/24]\n  bgp-advertisements: [{}]",
    ));
    assert_eq!(
        problems,
        [
            "a.yaml:12: ConfigMap metallb-system/config: data.config.address-pools[0].bgp-advertisements: a layer2 pool cannot have them: remove them"
        ]
    );
    assert_eq!(config.broken, ["a"]);
    assert_eq!(self::problems(&legacy("address-pools: [\n")).len(), 1);
}

#[test]
fn a_broken_old_pool_keeps_what_it_was() {
    let good = legacy_of(&legacy(
        "address-pools:\n- {name: a, protocol: layer2, addresses: [192.0.2.0/24]}\n- {name: b, protocol: layer2, addresses: [198.51.100.0/24]}",
    ))
    .0;
    let mut bad = legacy_of(&legacy(
        "address-pools:\n- {name: a, protocol: layer2, addresses: [192.0.2.9-192.0.2.1]}\n- {name: b, protocol: layer2, addresses: [203.0.113.0/24]}",
    ))
    .0;
    bad.inherit(&good);
    let mut pools: Vec<(String, String)> = bad
        .pools
        .iter()
        .map(|p| (p.key.name.clone(), p.ranges[0].to_string()))
        .collect();
    pools.sort();
    assert_eq!(
        pools,
        [
            ("a".to_owned(), "192.0.2.0-192.0.2.255".to_owned()),
            ("b".to_owned(), "203.0.113.0-203.0.113.255".to_owned())
        ]
    );
    assert_eq!(bad.advertisement.pools.len(), 2);
}

const PROXY: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

#[test]
fn a_kube_proxy_configuration_of_kubeadm_is_read() {
    let text = format!(
        "{PROXY}bindAddress: 0.0.0.0\nbindAddressHardFail: false\nclientConnection: {{acceptContentTypes: '', burst: 0, kubeconfig: /k, qps: 0}}\nclusterCIDR: 10.244.0.0/16,fd00::/48\nconfigSyncPeriod: 0s\nconntrack: {{maxPerCore: null, min: 5, tcpBeLiberal: true, udpStreamTimeout: 7s, tcpCloseWaitTimeout: 1m30s, tcpEstablishedTimeout: null}}\ndetectLocal: {{bridgeInterface: ''}}\nenableProfiling: false\nhostnameOverride: n1\niptables: {{masqueradeAll: true, masqueradeBit: null}}\nipvs: {{excludeCIDRs: [10.9.0.0/16], scheduler: lc, tcpTimeout: 1h0m0.5s, udpTimeout: 300ms}}\nlogging: {{flushFrequency: 0}}\nmode: ipvs\nnodePortAddresses: null\noomScoreAdj: null\nwinkernel: {{}}\n"
    );
    let (c, problems) = crate::proxy_config::parse(&text).unwrap();
    assert_eq!(problems, []);
    assert_eq!(c.cluster_cidrs.len(), 2);
    assert_eq!(c.scheduler.name, "lc");
    assert!(c.masquerade_all);
    assert_eq!(
        c.conntrack,
        Conntrack {
            min: 5,
            tcp_close_wait: Duration::from_secs(90),
            udp_stream: Duration::from_secs(7),
            tcp_be_liberal: true,
            ..Conntrack::default()
        }
    );
    assert_eq!(
        c.ipvs_timeouts,
        [
            Duration::from_millis(3_600_500),
            Duration::ZERO,
            Duration::from_millis(300)
        ]
    );
    assert_eq!(c.kubeconfig.as_deref(), Some("/k"));
    assert_eq!(c.hostname_override.as_deref(), Some("n1"));
}

#[test]
fn what_is_wrong_in_a_kube_proxy_configuration_is_told() {
    for (line, expected) in [
        (
            "ipvs: {syncPeriod: 30}",
            "c.yaml:3: KubeProxyConfiguration: ipvs.syncPeriod: invalid type: integer `30`, expected a string",
        ),
        (
            "ipvs: {syncPeriod: 30 s}",
            "c.yaml:3: KubeProxyConfiguration: ipvs.syncPeriod: \"30 s\" is not a duration: write it like 30s or 1h0m0s",
        ),
        (
            "ipvs: {tcpTimeout: -1s}",
            "c.yaml:3: KubeProxyConfiguration: ipvs.tcpTimeout: \"-1s\" is not a duration: write it like 30s or 1h0m0s",
        ),
        (
            "clusterCIDR: 10.0.0.0/8,11.0.0.0/8",
            "c.yaml:3: KubeProxyConfiguration: clusterCIDR: \"10.0.0.0/8,11.0.0.0/8\" has two ranges of one family: use one per family",
        ),
        (
            "ipvs: {strictARP: maybe}",
            "c.yaml:3: KubeProxyConfiguration: ipvs.strictARP: invalid type: string \"maybe\", expected a boolean",
        ),
        (
            "healthzBindAddress: localhost:10256",
            "c.yaml:3: KubeProxyConfiguration: healthzBindAddress: \"localhost:10256\" is no address with a port: write 0.0.0.0:10256",
        ),
        (
            "detectLocalMode: Bridge",
            "c.yaml:3: KubeProxyConfiguration: detectLocalMode: \"Bridge\" is unknown: use ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix",
        ),
        (
            "detectLocalMode: BridgeInterface",
            "c.yaml:1: KubeProxyConfiguration: detectLocal.bridgeInterface: \"\" is no name of an interface: write one like cni0, because detectLocalMode asks for it",
        ),
        (
            "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: sixteen-letters-}",
            "c.yaml:4: KubeProxyConfiguration: detectLocal.interfaceNamePrefix: \"sixteen-letters-\" is no name of an interface: write one like veth, because detectLocalMode asks for it",
        ),
        (
            "mode: userspace",
            "c.yaml:3: KubeProxyConfiguration: mode: \"userspace\" is unknown: use ipvs",
        ),
    ] {
        let problem =
            crate::proxy_config::parse_file("c.yaml", &format!("{PROXY}{line}\n")).unwrap_err();
        assert_eq!(problem.to_string(), expected);
    }
    let name = |name| InterfaceName::new(name).unwrap();
    for (lines, expected) in [
        ("detectLocalMode: ''", DetectLocal::ClusterCidr),
        ("detectLocalMode: NodeCIDR", DetectLocal::NodeCidr),
        (
            "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}",
            DetectLocal::BridgeInterface(name("cni0")),
        ),
        (
            "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}",
            DetectLocal::InterfaceNamePrefix(name("veth")),
        ),
    ] {
        let (config, notes) =
            crate::proxy_config::parse(&format!("{PROXY}mode: ipvs\n{lines}\n")).unwrap();
        assert_eq!((config.detect_local, notes), (expected, vec![]));
    }
    for (line, expected) in [
        ("healthzBindAddress: 127.0.0.1:99", Some("127.0.0.1:99")),
        ("healthzBindAddress: 127.0.0.1", Some("127.0.0.1:10256")),
        ("healthzBindAddress: '[::]:99'", Some("[::]:99")),
        ("healthzBindAddress: '::'", Some("[::]:10256")),
        ("healthzBindAddress: ''", None),
    ] {
        let (config, _) = crate::proxy_config::parse(&format!("{PROXY}{line}\n")).unwrap();
        assert_eq!(
            config.healthz,
            expected.map(|a| a.parse().unwrap()),
            "{line}"
        );
    }
    let (config, problems) = crate::proxy_config::parse(PROXY).unwrap();
    assert_eq!(problems[0].field, "mode");
    assert_eq!(
        ProxyConfig {
            mode: String::new(),
            ..config
        },
        ProxyConfig::default()
    );
    assert!(crate::proxy_config::parse("").is_err());
}

#[test]
fn a_manifest_that_does_not_parse_spoils_itself_alone() {
    let good = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n";
    let text = format!(
        "# first\n{good}---\nkind: Service\n  metadata: [\n---\n{}",
        good.replace("name: a", "name: b")
    );
    let read = read(&text);
    let names: Vec<String> = read
        .objects
        .iter()
        .map(|o| o.object.key().name.clone())
        .collect();
    assert_eq!(names, ["a", "b"]);
    assert!(read.unknown);
    let problems: Vec<String> = read.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("a.yaml:8: this is not valid YAML: "),
        "{problems:?}"
    );
    assert!(problems[0].ends_with("; its previous version, if there was one, stays in force"));
    assert_eq!(&*read.objects[0].origin, "a.yaml:2");
}

#[test]
fn objects_without_identity_are_told() {
    for (text, expected) in [
        (
            "just words",
            "a.yaml:1: object: this is not a Kubernetes object: write one with apiVersion, kind and metadata",
        ),
        (
            "apiVersion: v1\n",
            "a.yaml:1: object: kind: is missing: say what the object is",
        ),
        (
            "kind: Service\n",
            "a.yaml:1: Service: apiVersion: is missing: say which version of the kind this is",
        ),
        (
            "kind: Service\napiVersion: v1\n",
            "a.yaml:1: Service: metadata.name: is missing: name the object",
        ),
        (
            "kind: Service\napiVersion: v1\nmetadata:\n  name: 5\n",
            "a.yaml:4: Service: metadata.name: is not a string: put it in quotes",
        ),
        (
            "kind: Service\napiVersion: v2\n",
            "a.yaml:2: Service: apiVersion: Service is read as v1, not as \"v2\": change the version",
        ),
        (
            "kind: Endpoints\napiVersion: v1\nmetadata: {name: a}\n",
            "a.yaml:1: Endpoints default/a: kind: Endpoints are not read: write a discovery.k8s.io/v1 EndpointSlice",
        ),
    ] {
        assert_eq!(problems(text), [expected], "{text}");
    }
    assert!(
        problems("kind: Service\napiVersion: v1\nmetadata: {name: A/b}\n")[0]
            .contains("\"A/b\" is not a name")
    );
}

#[test]
fn kinds_and_names_with_control_characters_are_quoted() {
    for text in [
        "apiVersion: v1\nkind: Service\nmetadata: {name: \"a\\e[2J\", namespace: \"x\\0\"}\n",
        "apiVersion: v1\nkind: Node\nmetadata: {name: \"a\\u202eb\"}\n",
        "apiVersion: 5\nkind: \"\\e[2J\"\n",
    ] {
        let [problem] = &problems(text)[..] else {
            panic!("{text}");
        };
        let plain = |c: char| c.is_ascii_graphic() || c == ' ';
        assert!(problem.chars().all(plain), "{problem}");
    }
}

#[test]
fn other_kinds_are_of_no_concern() {
    for text in [
        "kind: Deployment\napiVersion: apps/v1\n",
        "kind: Service\napiVersion: serving.knative.dev/v1\n",
        "# nothing\n",
        "---\n---\n",
    ] {
        assert_eq!(read(text), Read::default(), "{text}");
    }
}

#[test]
fn lists_are_opened_and_their_items_named_in_errors() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n  spec: {ports: [{port: 80}]}\n- apiVersion: v1\n  kind: Service\n  metadata: {name: b}\n  spec:\n    ports:\n    - port: 0\n";
    let got = read(list);
    assert_eq!(got.objects.len(), 1);
    assert_eq!(
        got.problems[0].to_string(),
        "a.yaml:13: Service default/b: spec.ports[0].port: 0 is not a port: use 1 to 65535; its previous version, if there was one, stays in force"
    );
    let typed = "{\"apiVersion\": \"v1\", \"kind\": \"ServiceList\", \"items\": [{\"metadata\": {\"name\": \"a\"}, \"spec\": {\"ports\": [{\"port\": 80}]}}]}";
    assert_eq!(read(typed).objects.len(), 1);
}

#[test]
fn a_key_given_twice_is_refused() {
    let text = "apiVersion: v1\nkind: Service\nkind: Node\n";
    assert_eq!(
        problems(text),
        ["a.yaml:3: this is not valid YAML: duplicate mapping key: kind"]
    );
}

#[test]
fn a_yaml_bomb_is_refused() {
    let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x,x]\n");
    for (from, to) in "abcdefg".chars().zip("bcdefgh".chars()) {
        bomb.push_str(&format!(
            "{to}: &{to} [{}]\n",
            vec![format!("*{from}"); 10].join(",")
        ));
    }
    assert!(read(&bomb).unknown);
}

#[test]
fn deep_nesting_in_brackets_is_refused() {
    assert!(read(&format!("{}{}", "[".repeat(5000), "]".repeat(5000))).unknown);
}

#[test]
fn deep_nesting_by_indentation_is_refused() {
    let deep: String = (0..300).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    assert!(read(&deep).unknown);
}

#[test]
fn an_error_in_a_deeply_nested_document_is_told_with_the_line_of_its_beginning() {
    let line = |depth: usize| {
        let deep: String = (1..depth)
            .map(|i| format!("{}a:\n", " ".repeat(i)))
            .collect();
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nx:\n{deep}spec:\n  ports: 5\n"
        );
        problems(&text)[0].split(' ').next().map(str::to_owned)
    };
    assert_eq!(line(20).as_deref(), Some("a.yaml:25:"));
    assert_eq!(line(46).as_deref(), Some("a.yaml:1:"));
}

#[test]
fn ranges_count_and_index() {
    let range = AddressRange::parse("192.0.2.254-192.0.3.1").unwrap();
    assert_eq!(range.len(), 4);
    assert_eq!(range.nth(2), "192.0.3.0".parse().ok());
    assert_eq!(range.nth(4), None);
    assert_eq!(range.iter().count(), 4);
    assert!(range.contains("192.0.3.1".parse().unwrap()));
    assert!(!range.contains("::ffff:192.0.3.1".parse().unwrap()));
    let wide = AddressRange::parse("2001:db8::/32").unwrap();
    assert_eq!(wide.len(), 1 << 96);
    assert_eq!(wide.nth((1 << 96) - 1), Some(wide.last));
    assert_eq!(
        AddressRange::parse("::ffff:192.0.2.1-192.0.2.2")
            .unwrap()
            .len(),
        2
    );
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        read(&text);
        let _ = crate::proxy_config::parse(&text);
        let _ = crate::proxy_config::parse(&format!("{PROXY}{text}"));
        let _ = legacy::parse(&text, ObjectKey::new("metallb-system", "config"));
        let _ = AddressRange::parse(&text);
    }

    #[test]
    fn no_words_of_yaml_make_a_reader_panic(words in proptest::collection::vec(
        proptest::sample::select(vec!["apiVersion: v1\n", "kind: Service\n", "metadata:\n", "  name: a\n", "spec:\n", "  ports:\n", "  - port: 80\n",
            "    targetPort: -1\n", "  clusterIP: None\n", "---\n", "...\n", "%YAML 1.2\n", "items: [{}]\n", "kind: List\n", "&a ", "*a\n", "|\n", "\t", "- ", "{", "}", "[", "]", "\"", "\u{feff}", "é", ": ", "\r\n"]), 0..40)) {
        read(&words.concat());
    }

    #[test]
    fn no_value_in_a_field_makes_a_decoder_panic(
        kind in proptest::sample::select(vec![("v1", "Service"), ("v1", "Node"), ("v1", "Pod"), ("discovery.k8s.io/v1", "EndpointSlice"),
            ("metallb.io/v1beta1", "IPAddressPool"), ("metallb.io/v1beta1", "L2Advertisement"), ("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration")]),
        field in "(type|clusterIP|ports|addresses|podCIDRs|externalIPs|ipvs|mode|interfaces|loadBalancerIP)",
        value in "[ -~]{0,40}",
    ) {
        let value = serde_json::json!({"apiVersion": kind.0, "kind": kind.1, "metadata": {"name": "a", "annotations": {"metallb.io/loadBalancerIPs": &value}},
            &field: &value, "spec": {&field: [&value]}, "status": {&field: &value}});
        object(&value, "default");
    }

    #[test]
    fn a_printed_range_reads_back_as_itself(a in 0x0100_0000u32..0x7f00_0000, len in 0u32..100_000) {
        let first = std::net::IpAddr::from(std::net::Ipv4Addr::from(a));
        let last = std::net::IpAddr::from(std::net::Ipv4Addr::from(a.saturating_add(len).min(0x7eff_ffff)));
        let range = AddressRange { first, last };
        prop_assert_eq!(AddressRange::parse(&range.to_string()), Ok(range));
        prop_assert_eq!(range.nth(range.len() - 1), Some(last));
        prop_assert_eq!(range.nth(range.len()), None);
    }
}

#[test]
fn node_port_addresses_are_ranges_or_primary_or_all() {
    let of = |value: &str| {
        let text = format!(
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nnodePortAddresses: {value}\n"
        );
        let read = read(&text);
        match read.objects.first().map(|o| &o.object) {
            Some(Object::ProxyConfig(config)) => Ok(config.node_port_addresses.clone()),
            _ => Err(read.problems[0].field.clone()),
        }
    };
    assert_eq!(of("null"), Ok(NodePortAddresses::All));
    assert_eq!(of("[]"), Ok(NodePortAddresses::All));
    assert_eq!(of("[primary]"), Ok(NodePortAddresses::Primary));
    let ranges = ["192.0.2.0/24", "2001:db8::/64"].map(|r| r.parse().unwrap());
    let expected = NodePortAddresses::Ranges(ranges.to_vec());
    assert_eq!(of("[192.0.2.0/24, '2001:db8::/64']"), Ok(expected));
    assert_eq!(
        of("[192.0.2.0/24, primary]"),
        Err("nodePortAddresses[1]".into())
    );
    assert_eq!(of("[lan]"), Err("nodePortAddresses[0]".into()));
}

#[test]
fn a_scheduler_is_read_and_a_wrong_one_costs_the_service_nothing_else() {
    let annotated = |line: &str| requesting(&format!("    ferrolb.io/{line}"), "");
    let (good, problems) = annotated("scheduler: 'mh,mh-port'");
    assert_eq!(good.annotations.scheduler, Some("mh,mh-port".parse()));
    assert_eq!(problems, Vec::<String>::new());
    let (empty, problems) = annotated("scheduler: ' '");
    assert_eq!(empty.annotations.scheduler, None);
    assert_eq!(problems, Vec::<String>::new());
    for (line, said) in [
        (
            "scheduler: wlcc",
            "metadata.annotations[ferrolb.io/scheduler]: there is no scheduler \"wlcc\": did you mean wlc?",
        ),
        (
            "schedular: wlc",
            "metadata.annotations[ferrolb.io/schedular]: there is no such annotation of this kind: the one that exists is \
             ferrolb.io/scheduler",
        ),
    ] {
        let (wrong, problems) = annotated(line);
        assert!(!matches!(wrong.annotations.scheduler, Some(Ok(_))));
        assert_eq!(wrong.annotations.invalid, None);
        assert!(
            problems.len() == 1 && problems[0].contains(said),
            "{problems:?}"
        );
    }
}

#[test]
fn a_weight_of_a_slice_applies_to_its_endpoints_and_one_of_a_pod_to_the_pod() {
    let slice = |weight: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-x, labels: {{kubernetes.io/service-name: \
             web}}, annotations: {{ferrolb.io/weight: '{weight}'}}}}\naddressType: IPv4\nports: [{{port: 80}}]\nendpoints: \
             [{{addresses: [10.244.0.1]}}, {{addresses: [10.244.0.2]}}]\n"
        )
    };
    let pod = |weight: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web-1, annotations: {{ferrolb.io/weight: '{weight}'}}}}\nstatus: {{podIP: \
             10.244.0.1}}\n"
        )
    };
    let cases = [
        ("7", Some(7)),
        ("65535", Some(65535)),
        ("0", None),
        ("-1", None),
        ("70000", None),
        ("ten", None),
    ];
    for (text, expected) in cases {
        for manifest in [slice(text), pod(text)] {
            let read = read(&manifest);
            let weights: Vec<_> = match &read.objects[0].object {
                Object::EndpointSlice(slice) => slice.endpoints.iter().map(|e| e.weight).collect(),
                Object::Pod(pod) => vec![pod.weight],
                other => panic!("{other:?}"),
            };
            assert!(
                weights.iter().all(|w| w.map(u16::from) == expected),
                "{text}"
            );
            let said = format!(
                "metadata.annotations[ferrolb.io/weight]: \"{text}\" is no weight, so 1 is used: write a number from 1 to 65535"
            );
            let problems: Vec<String> = read.problems.iter().map(ToString::to_string).collect();
            match expected {
                Some(_) => assert_eq!(problems, Vec::<String>::new()),
                None => assert!(
                    problems.len() == 1 && problems[0].contains(&said),
                    "{problems:?}"
                ),
            }
        }
    }
}

#[test]
fn what_triggered_a_slice_is_read_and_nonsense_there_is_ignored() {
    for (text, expected) in [
        ("2026-11-27T01:02:03.5Z", Some(1_795_741_323_500)),
        ("2026-11-27T02:02:03+01:00", Some(1_795_741_323_000)),
        ("yesterday", None),
    ] {
        let manifest = format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-x, labels: {{kubernetes.io/service-name: \
             web}}, annotations: {{endpoints.kubernetes.io/last-change-trigger-time: '{text}'}}}}\naddressType: IPv4\nports: \
             [{{port: 80}}]\nendpoints: [{{addresses: [10.244.0.1]}}]\n"
        );
        match only(&manifest) {
            Object::EndpointSlice(slice) => assert_eq!(slice.triggered, expected, "{text}"),
            other => panic!("{other:?}"),
        }
    }
}
