//! The configuration in force, as kube-proxy's `/configz` shows it.

use std::net::SocketAddr;
use std::time::Duration;

use ferrolb_api::proxy_config::{DetectLocal, NodePortAddresses, ProxyConfig};
use serde_json::{Value, json};

/// The fields of a KubeProxyConfiguration that are followed, with their values. Those with which this node was started win.
pub(super) fn configz(
    config: &ProxyConfig,
    mode: &str,
    metrics: SocketAddr,
    healthz: Option<SocketAddr>,
) -> String {
    let texts = |all: &[ipnet::IpNet]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    let [tcp, tcp_fin, udp] = config.ipvs_timeouts.map(seconds);
    let conntrack = config.conntrack;
    let node_ports: Value = match &config.node_port_addresses {
        NodePortAddresses::All => Value::Null,
        NodePortAddresses::Primary => json!(["primary"]),
        NodePortAddresses::Ranges(ranges) => json!(texts(ranges)),
    };
    let (bridge, prefix) = match &config.detect_local {
        DetectLocal::BridgeInterface(name) => (name.as_str(), ""),
        DetectLocal::InterfaceNamePrefix(name) => ("", name.as_str()),
        DetectLocal::ClusterCidr | DetectLocal::NodeCidr => ("", ""),
    };
    let shown = json!({
        "kubeproxy.config.k8s.io": {
            "bindAddress": config.bind_address,
            "clusterCIDR": texts(&config.cluster_cidrs).join(","),
            "conntrack": {
                "maxPerCore": conntrack.max_per_core,
                "min": conntrack.min,
                "tcpBeLiberal": conntrack.tcp_be_liberal,
                "tcpCloseWaitTimeout": seconds(conntrack.tcp_close_wait),
                "tcpEstablishedTimeout": seconds(conntrack.tcp_established),
                "udpStreamTimeout": seconds(conntrack.udp_stream),
                "udpTimeout": seconds(conntrack.udp),
            },
            "detectLocal": {"bridgeInterface": bridge, "interfaceNamePrefix": prefix},
            "detectLocalMode": config.detect_local.to_string(),
            "healthzBindAddress": healthz.map(|a| a.to_string()).unwrap_or_default(),
            "hostnameOverride": config.hostname_override,
            "iptables": {"masqueradeAll": config.masquerade_all},
            "ipvs": {
                "excludeCIDRs": texts(&config.exclude_cidrs),
                "scheduler": config.scheduler.to_string(),
                "tcpFinTimeout": tcp_fin,
                "tcpTimeout": tcp,
                "udpTimeout": udp,
            },
            "metricsBindAddress": metrics.to_string(),
            "mode": mode,
            "nodePortAddresses": node_ports,
        }
    });
    shown.to_string()
}

/// A duration as Go writes it, in whole or fractional seconds.
fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}
