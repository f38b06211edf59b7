//! Slips of those who write manifests: what is read of them, and what is said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ferrolb_api::ObjectKey;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::problem::{Consequence, Problem};

use crate::files::document::{self, Read};

fn read(text: &str) -> Read {
    document::read("a.yaml", "default", text)
}

fn said(read: &Read) -> Vec<String> {
    let problems = read.problems.iter().cloned();
    let cause = |problem: Problem| problem.so(Consequence::Nothing).to_string();
    problems.map(cause).collect()
}

/// The text is read as an object, and these problems are reported.
fn good(text: &str, expected: &[&str]) -> Object {
    let read = read(text);
    assert_eq!(said(&read), expected, "{text}");
    assert_eq!(read.objects.len(), 1, "{text}");
    read.objects[0].object.clone()
}

#[test]
fn a_field_that_a_kind_does_not_have_is_reported_with_its_line_and_the_nearest() {
    let pool = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: p, namespace: metallb-system}\n";
    good(
        &format!(
            "{pool}spec:\n  addresses: [192.0.2.0/28]\n  autoassign: false\n  avoidBuggyIps: true\n"
        ),
        &[
            "a.yaml:6: IPAddressPool metallb-system/p: spec.autoassign: there is no such field: did you mean autoAssign?",
            "a.yaml:7: IPAddressPool metallb-system/p: spec.avoidBuggyIps: there is no such field: did you mean avoidBuggyIPs?",
        ],
    );
    good(
        "apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: l, namespace: m}\nspec:\n  nodeSelector:\n  - matchLabels: {a: b}\n  nodeSelectors:\n  - matchLabel: {a: b}\n",
        &[
            "a.yaml:6: L2Advertisement m/l: spec.nodeSelector: there is no such field: did you mean nodeSelectors?",
            "a.yaml:8: L2Advertisement m/l: spec.nodeSelectors[0].matchLabel: there is no such field: did you mean matchLabels?",
        ],
    );
    good(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, lables: {a: b}}\nspec:\n  externalTrafficPolcy: Local\n  ports:\n  - {port: 80, targetport: 8080}\n",
        &[
            "a.yaml:3: Service default/web: metadata.lables: there is no such field: did you mean labels?",
            "a.yaml:5: Service default/web: spec.externalTrafficPolcy: there is no such field: did you mean externalTrafficPolicy?",
            "a.yaml:7: Service default/web: spec.ports[0].targetport: there is no such field: did you mean targetPort?",
        ],
    );
    good(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{port: 80}]\nendpoints:\n- {addresses: [10.0.0.1], nodename: n1}\n",
        &[
            "a.yaml:7: EndpointSlice default/s: endpoints[0].nodename: there is no such field: did you mean nodeName?",
        ],
    );
    good(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nipvs: {schedular: lc}\n",
        &[
            "a.yaml:4: KubeProxyConfiguration: ipvs.schedular: there is no such field: did you mean scheduler?",
        ],
    );
}

#[test]
fn an_unknown_field_that_resembles_none_is_reported_with_those_that_exist() {
    let text = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: p, namespace: m}\nspec:\n  cidr: [192.0.2.0/28]\n";
    let problems = said(&read(text));
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].contains("spec.addresses: is empty"),
        "{problems:?}"
    );
    assert_eq!(
        problems[1],
        "a.yaml:5: IPAddressPool m/p: spec.cidr: there is no such field: those that exist are addresses, autoAssign, avoidBuggyIPs, serviceAllocation"
    );
}

#[test]
fn a_kind_that_its_group_does_not_have_may_be_any_object_and_is_reported() {
    for (head, expected) in [
        (
            "apiVersion: v1\nkind: Servce",
            "kind: \"Servce\" is not a kind of v1: did you mean Service?",
        ),
        (
            "apiVersion: v1\nkind: service",
            "kind: \"service\" is not a kind of v1: did you mean Service?",
        ),
        (
            "apiVersion: metallb.io/v1beta1\nkind: IPAdressPool",
            "kind: \"IPAdressPool\" is not a kind of metallb.io/v1beta1: did you mean IPAddressPool?",
        ),
        (
            "apiVersion: discovery.k8s.io/v1\nkind: Endpointslice",
            "kind: \"Endpointslice\" is not a kind of discovery.k8s.io/v1: did you mean EndpointSlice?",
        ),
        (
            "apiVersion: apps/v1\nkind: Service",
            "apiVersion: Service is a kind of v1, not of \"apps/v1\": change apiVersion",
        ),
        (
            "apiVersion: v1\nkind: L2Advertisement",
            "apiVersion: L2Advertisement is a kind of metallb.io/v1beta1, not of \"v1\": change apiVersion",
        ),
    ] {
        let read = read(&format!(
            "{head}\nmetadata: {{name: web}}\nspec: {{ports: [{{port: 80}}]}}\n"
        ));
        assert!(read.unknown, "{head}");
        let problems = said(&read);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].ends_with(expected), "{problems:?}");
    }
    for head in [
        "apiVersion: apps/v1\nkind: Deployment",
        "apiVersion: serving.knative.dev/v1\nkind: Service",
        "apiVersion: v1\nkind: Secret",
        "apiVersion: metallb.io/v1beta1\nkind: ServiceL2Status",
        "apiVersion: metallb.io/v1beta1\nkind: MetalLB",
        "apiVersion: networking.k8s.io/v1\nkind: Ingress",
    ] {
        let read = read(&format!("{head}\nmetadata: {{name: web}}\n"));
        assert_eq!((said(&read), read.unknown), (Vec::new(), false), "{head}");
    }
}

#[test]
fn a_version_that_is_no_plain_text_is_quoted() {
    let read = read("{apiVersion: \"metallb.io/v1\\e[2J\", kind: Pools, metadata: {name: a}}");
    assert_eq!(read.problems.len(), 1, "{read:?}");
    let cause = read.problems[0].cause.to_string();
    assert!(!cause.contains(char::is_control), "{cause:?}");
}

#[test]
fn an_annotation_that_means_nothing_is_reported() {
    let service = |annotation: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  annotations: {{{annotation}: x, other/thing: z}}\nspec: {{ports: [{{port: 80}}]}}\n"
        )
    };
    for (annotation, near) in [
        (
            "metallb.universe.tf/allow-shared",
            "did you mean metallb.universe.tf/allow-shared-ip?",
        ),
        (
            "metallb.io/loadbalancerips",
            "did you mean metallb.io/loadBalancerIPs?",
        ),
        (
            "metallb.io/adress-pool",
            "did you mean metallb.io/address-pool?",
        ),
        (
            "metallb.io/bgp",
            "those that exist are metallb.io/address-pool, metallb.io/allow-shared-ip, metallb.io/loadBalancerIPs, metallb.io/ip-allocated-from-pool",
        ),
    ] {
        let expected = format!(
            "a.yaml:5: Service default/web: metadata.annotations[{annotation}]: there is no such annotation: {near}"
        );
        good(&service(annotation), &[&expected]);
    }
}

#[test]
fn leading_zeros_are_read_as_kubernetes_read_them() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {externalIPs: [192.0.002.050], loadBalancerIP: 192.0.2.007, loadBalancerSourceRanges: [010.0.0.0/8], ports: [{port: 80}]}\n";
    let Object::Service(service) = good(text, &[]) else {
        panic!("a Service");
    };
    assert_eq!(
        service.external_ips,
        ["192.0.2.50".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(service.load_balancer_ip, "192.0.2.7".parse().ok());
    assert_eq!(service.source_ranges, ["10.0.0.0/8".parse().unwrap()]);
}

#[test]
fn one_bad_address_does_not_cost_a_service_the_rest() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  externalIPs: [192.0.2.5O, 192.0.2.51, 127.0.0.1]\n  loadBalancerSourceRanges: [10.0.0.0/8, office]\n  ports: [{port: 80}]\n";
    let Object::Service(service) = good(
        text,
        &[
            "a.yaml:5: Service default/web: spec.externalIPs[0]: \"192.0.2.5O\" is not an IP address",
            "a.yaml:5: Service default/web: spec.externalIPs[2]: 127.0.0.1 cannot be an external address: use one that clients can route to",
            "a.yaml:6: Service default/web: spec.loadBalancerSourceRanges[1]: \"office\" is not a CIDR like 192.0.2.0/24; a family that has no other range lets nobody in until it is corrected",
        ],
    ) else {
        panic!("a Service");
    };
    assert_eq!(
        service.external_ips,
        ["192.0.2.51".parse::<std::net::IpAddr>().unwrap()]
    );
    let ranges = ["10.0.0.0/8", "::/128"].map(|net| net.parse().unwrap());
    assert_eq!(service.source_ranges, ranges);
}

#[test]
fn a_service_whose_source_ranges_are_all_bad_lets_nobody_in() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {loadBalancerSourceRanges: [office], ports: [{port: 80}]}\n";
    let read = read(text);
    let Object::Service(service) = &read.objects[0].object else {
        panic!("a Service");
    };
    let nobody = ["0.0.0.0/32", "::/128"].map(|net| net.parse().unwrap());
    assert_eq!(service.source_ranges, nobody);
    let problems = said(&read);
    assert!(
        problems[0]
            .ends_with("; a family that has no other range lets nobody in until it is corrected"),
        "{problems:?}"
    );
}

#[test]
fn a_bad_source_range_never_opens_a_family() {
    // Without a range of its own, a family would have no limit.
    for (ranges, closed) in [
        ("10.0.0.0/8, '2001:db8::/x'", "::/128"),
        ("'2001:db8::/32', 10.0.0.300/24", "0.0.0.0/32"),
    ] {
        let read = read(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{loadBalancerSourceRanges: [{ranges}], ports: [{{port: 80}}]}}\n"
        ));
        let Object::Service(service) = &read.objects[0].object else {
            panic!("a Service");
        };
        let closed = closed.parse().unwrap();
        assert!(service.source_ranges.contains(&closed), "{service:?}");
        assert_eq!(service.source_ranges.len(), 2);
    }
}

#[test]
fn any_text_names_a_pool_of_the_old_configmap() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config, namespace: metallb-system}\ndata:\n  config: |\n    address-pools:\n    - {name: Main_LAN, protocol: layer2, addresses: [192.0.2.0/28]}\n    - {name: \"guest net\", protocol: layer2, addresses: [192.0.2.16/28]}\n";
    let Object::LegacyConfig(config) = good(text, &[]) else {
        panic!("a ConfigMap");
    };
    let names: Vec<&str> = config.pools.iter().map(|p| p.key.name.as_str()).collect();
    assert_eq!(names, ["Main_LAN", "guest net"]);
}

#[test]
fn a_configuration_in_another_configmap_is_reported() {
    for (name, namespace, key) in [
        ("metallb-config", "metallb-system", "config"),
        ("config", "kube-metallb", "config"),
        ("config", "metallb-system", "config.yaml"),
    ] {
        let inline = read(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata: {{{key}: 'address-pools: [{{name: a}}]'}}\n"
        ));
        assert_eq!(inline.problems.len(), 1, "{inline:?}");
        let read = read(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata:\n  {key}: |\n    address-pools:\n    - {{name: a}}\n"
        ));
        assert_eq!(
            said(&read),
            [format!(
                "a.yaml:6: ConfigMap {namespace}/{name}: data.{key}: holds address-pools, but is not read: the configuration is read from the ConfigMap metallb-system/config, key config, so move it there"
            )]
        );
    }
}

#[test]
fn a_setting_of_kube_proxy_that_is_not_followed_is_reported() {
    let proxy =
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n";
    for setting in [
        "ipvs: {strictARP: false}",
        "detectLocal: {bridgeInterface: cni0}",
        "detectLocal: {interfaceNamePrefix: veth}",
    ] {
        let read = read(&format!("{proxy}{setting}\n"));
        let problems = said(&read);
        assert_eq!(problems.len(), 1, "{setting}: {problems:?}");
        assert!(
            problems[0].contains("not followed: "),
            "{setting}: {problems:?}"
        );
        assert!(
            problems[0].starts_with("a.yaml:4: KubeProxyConfiguration: "),
            "{setting}: {problems:?}"
        );
    }
    // What kubeadm writes asks for nothing else than what is done.
    let usual = "bindAddress: 0.0.0.0\nbindAddressHardFail: false\nclusterCIDR: 10.244.0.0/16\ndetectLocalMode: ''\ndetectLocal: {bridgeInterface: '', interfaceNamePrefix: ''}\nhealthzBindAddress: ''\nmetricsBindAddress: ''\nnodePortAddresses: null\nconntrack: {tcpBeLiberal: false, udpTimeout: 0s, udpStreamTimeout: 0s}\nnftables: {masqueradeAll: false}\nshowHiddenMetricsForVersion: ''\nwindowsRunAsService: false\n";
    good(&format!("{proxy}{usual}"), &[]);
}

#[test]
fn a_configuration_that_cannot_be_read_says_what_is_in_force_instead() {
    let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nipvs: {excludeCIDRs: [office]}\n";
    assert_eq!(
        read(text).problems[0].to_string(),
        "a.yaml:4: KubeProxyConfiguration: ipvs.excludeCIDRs[0]: \"office\" is not a CIDR like 192.0.2.0/24; the previous configuration stays in force; at the start that is the defaults"
    );
}

#[test]
fn kubeadms_config_map_holds_a_kube_proxy_configuration() {
    let map = |inner: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: kube-proxy, namespace: kube-system, labels: {{app: kube-proxy}}}}\ndata:\n  \
             config.conf: |-\n    apiVersion: kubeproxy.config.k8s.io/v1alpha1\n    kind: KubeProxyConfiguration\n    mode: ipvs\n    {inner}\n  \
             kubeconfig.conf: |-\n    apiVersion: v1\n    kind: Config\n"
        )
    };
    let good = read(&map("clusterCIDR: 10.244.0.0/16"));
    assert_eq!(said(&good), Vec::<String>::new());
    let Object::ProxyConfig(config) = &good.objects[0].object else {
        panic!("{good:?}");
    };
    assert_eq!(config.cluster_cidrs, ["10.244.0.0/16".parse().unwrap()]);
    let misspelt = said(&read(&map("clusterCidr: 10.244.0.0/16")));
    assert_eq!(misspelt.len(), 1, "{misspelt:?}");
    assert!(misspelt[0].contains("clusterCIDR"), "{misspelt:?}");
    // What cannot be read leaves the configuration before in force.
    for (inner, part) in [
        ("clusterCIDR: [", "line 4 of the text"),
        ("ipvs: {excludeCIDRs: [office]}", "is not a CIDR"),
    ] {
        let bad = read(&map(inner));
        assert_eq!(
            bad.broken,
            [(Kind::ProxyConfig, ObjectKey::new("", "kube-proxy"))]
        );
        let problem = bad.problems[0].to_string();
        assert!(problem.contains(part), "{problem}");
        assert!(problem.contains("stays in force"), "{problem}");
    }
    // Another ConfigMap is no configuration.
    let other = map("mode: ipvs").replace("name: kube-proxy,", "name: other,");
    assert!(read(&other).objects.is_empty());
}
