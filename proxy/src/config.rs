//! What the proxy of one node is told at its start, beside the KubeProxyConfiguration that arrives as an object.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use ferrolb_api::proxy_config::ProxyConfig;
use ipnet::IpNet;

/// Name of the dummy interface that holds the service addresses: kube-proxy's, so that its addresses are adopted in place.
pub const INTERFACE: &str = "kube-ipvs0";

/// Which of the addresses in `spec.externalIPs` a node serves. Kubernetes has deprecated the field since 1.36; it is off by default
/// there from 1.40 on and gone in 1.43 (KEP-5707).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExternalIps {
    /// All that belong to nobody else.
    #[default]
    On,
    /// Of those, the ones that an address pool holds.
    Pools,
    /// None.
    Off,
}

/// Settings of one node's proxy.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of this node, as endpoints and Node objects have it.
    pub node: String,
    /// Addresses of this node besides those of its Node object.
    pub node_addresses: Vec<IpAddr>,
    /// Ranges that ClusterIPs come from; an address in there that no Service has is refused.
    pub service_cidrs: Vec<IpNet>,
    /// Where API servers answer, beside the endpoints of the Service `default/kubernetes`. No Service may take these addresses.
    pub protected: Vec<SocketAddr>,
    /// Which external addresses are served.
    pub external_ips: ExternalIps,
    /// Pods of this node hang on one bridge and the kernel's bridge does not call netfilter: replies between them would
    /// bypass IPVS, so such connections are masqueraded.
    pub bridged_pods: bool,
    /// Firewall marks that belong to ferrolb. A fwmark server outside is foreign.
    pub marks: Range<u32>,
    /// Until a KubeProxyConfiguration arrives, this one is used.
    pub proxy: ProxyConfig,
    /// Time between two audits: the kernel is read and what others changed is repaired.
    pub audit: Duration,
    /// Time between two glances that notice a foreign flush.
    pub watch: Duration,
    /// Shortest time between two passes; changes that arrive meanwhile are gathered into one.
    pub gather: Duration,
    /// Shortest and longest wait before failed operations are tried again; it doubles in between.
    pub retry: Range<Duration>,
}

impl Config {
    /// Defaults for a node: audits every 30 s as kube-proxy's `syncPeriod`, two glances a second, marks from 0x00fe0000.
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
        }
    }
}
