//! KubeProxyConfiguration v1alpha1: the fields that a proxy in IPVS mode acts on, with kube-proxy's defaults.

use std::net::IpAddr;
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
