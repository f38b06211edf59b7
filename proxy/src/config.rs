//! The start settings of one node's proxy. The KubeProxyConfiguration comes separately, as an object.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use ferrolb_api::proxy_config::ProxyConfig;
use ipnet::IpNet;

use crate::meter::Meter;

/// Name of the dummy interface that holds the service addresses. kube-proxy uses the same name, so its addresses are adopted in
/// place.
pub const INTERFACE: &str = "kube-ipvs0";

/// Which addresses in `spec.externalIPs` a node serves. Kubernetes has deprecated the field since 1.36, turns it off by default
/// from 1.40 on, and removes it in 1.43 (KEP-5707).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExternalIps {
    /// All that nobody else owns.
    #[default]
    On,
    /// Of those, only the ones in an address pool.
    Pools,
    /// None.
    Off,
}

/// Settings of one node's proxy.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of this node, as in endpoints and Node objects.
    pub node: String,
    /// Addresses of this node in addition to those of its Node object.
    pub node_addresses: Vec<IpAddr>,
    /// Ranges of the ClusterIPs. Connections to an address in there that no Service has are refused.
    pub service_cidrs: Vec<IpNet>,
    /// Addresses of API servers, in addition to the endpoints of the Service `default/kubernetes`. No Service may take them.
    pub protected: Vec<SocketAddr>,
    /// Which external addresses are served.
    pub external_ips: ExternalIps,
    /// Whether the pods of this node are on one bridge whose traffic the kernel does not pass through netfilter. Replies between
    /// them would bypass IPVS, so their connections are masqueraded.
    pub bridged_pods: bool,
    /// Firewall marks that belong to ferrolb. A fwmark server with another mark is foreign.
    pub marks: Range<u32>,
    /// Used until a KubeProxyConfiguration arrives.
    pub proxy: ProxyConfig,
    /// Interval between audits, which read the kernel and repair what others changed.
    pub audit: Duration,
    /// Interval between the checks that detect a foreign flush.
    pub watch: Duration,
    /// Shortest interval between two passes. Changes that arrive meanwhile are collected into one pass.
    pub gather: Duration,
    /// Shortest and longest wait before failed operations are retried. It doubles in between.
    pub retry: Range<Duration>,
    /// What is counted.
    pub meter: Meter,
}

impl Config {
    /// Defaults for a node: audits every 30 s like kube-proxy's `syncPeriod`, two flush checks a second, marks from 0x00fe0000.
    pub fn new(node: impl Into<String>, proxy: ProxyConfig) -> Self {
        Self {
            node: node.into(),
            node_addresses: Vec::new(),
            service_cidrs: Vec::new(),
            protected: Vec::new(),
            external_ips: ExternalIps::default(),
            bridged_pods: false,
            marks: 0x00fe_0000..0x00ff_0000,
            proxy,
            audit: Duration::from_secs(30),
            watch: Duration::from_millis(500),
            gather: Duration::from_millis(20),
            retry: Duration::from_millis(100)..Duration::from_secs(30),
            meter: Meter::default(),
        }
    }
}
