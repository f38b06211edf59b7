//! KubeProxyConfiguration v1alpha1: the fields that a proxy in IPVS mode acts on, with kube-proxy's defaults.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;

/// What the proxy takes from a KubeProxyConfiguration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyConfig {
    /// `clusterCIDR`: ranges of the pods, at most one per family; empty where unset.
    pub cluster_cidrs: Vec<IpNet>,
    /// `ipvs.scheduler`, `rr` where unset.
    pub scheduler: String,
    /// `ipvs.excludeCIDRs`: virtual servers in there are never touched.
    pub exclude_cidrs: Vec<IpNet>,
    /// `iptables.masqueradeAll`.
    pub masquerade_all: bool,
    /// `ipvs.tcpTimeout`, `tcpFinTimeout`, `udpTimeout`; zero leaves the kernel's.
    pub ipvs_timeouts: [Duration; 3],
    /// `conntrack`: (`maxPerCore`, `min`); a zero `maxPerCore` leaves the limit alone.
    pub conntrack_max: (u32, u32),
    /// `conntrack.tcpEstablishedTimeout`, `tcpCloseWaitTimeout`; zero leaves the kernel's.
    pub conntrack_timeouts: [Duration; 2],
    /// `bindAddress`.
    pub bind_address: IpAddr,
    /// `hostnameOverride`.
    pub hostname_override: Option<String>,
    /// `clientConnection.kubeconfig`.
    pub kubeconfig: Option<String>,
    /// `mode` as written; anything but `ipvs` deserves a warning.
    pub mode: String,
}

impl Default for ProxyConfig {
    /// kube-proxy's defaults, with the scheduler that it takes in IPVS mode.
    fn default() -> Self {
        Self {
            cluster_cidrs: Vec::new(),
            scheduler: "rr".into(),
            exclude_cidrs: Vec::new(),
            masquerade_all: false,
            ipvs_timeouts: [Duration::ZERO; 3],
            conntrack_max: (32_768, 131_072),
            conntrack_timeouts: [
                Duration::from_secs(24 * 60 * 60),
                Duration::from_secs(60 * 60),
            ],
            bind_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            hostname_override: None,
            kubeconfig: None,
            mode: String::new(),
        }
    }
}
