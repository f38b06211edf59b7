//! KubeProxyConfiguration v1alpha1: the fields that matter to a proxy in IPVS mode, with kube-proxy's defaults.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::scheduler::Scheduler;

/// What the proxy takes from a KubeProxyConfiguration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyConfig {
    /// `clusterCIDR`: the pod ranges, at most one per family; empty if unset.
    pub cluster_cidrs: Vec<IpNet>,
    /// `ipvs.scheduler`; `rr` if unset.
    pub scheduler: Scheduler,
    /// `ipvs.excludeCIDRs`: virtual servers in these ranges are never touched.
    pub exclude_cidrs: Vec<IpNet>,
    /// `iptables.masqueradeAll`.
    pub masquerade_all: bool,
    /// `ipvs.tcpTimeout`, `tcpFinTimeout`, `udpTimeout`; zero keeps the kernel's value.
    pub ipvs_timeouts: [Duration; 3],
    /// `conntrack`.
    pub conntrack: Conntrack,
    /// `nodePortAddresses`.
    pub node_port_addresses: NodePortAddresses,
    /// `bindAddress`.
    pub bind_address: IpAddr,
    /// `healthzBindAddress`; `None` if it is unset.
    pub healthz: Option<SocketAddr>,
    /// `metricsBindAddress`; `None` if it is unset.
    pub metrics: Option<SocketAddr>,
    /// `hostnameOverride`.
    pub hostname_override: Option<String>,
    /// `clientConnection.kubeconfig`.
    pub kubeconfig: Option<String>,
    /// `mode` as written; any value other than `ipvs` calls for a warning.
    pub mode: String,
}

/// Limits and timeouts of connection tracking. A timeout of zero keeps the kernel's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conntrack {
    /// `maxPerCore`, connections for each core; if zero, the limit is not changed.
    pub max_per_core: u32,
    /// `min`: the limit is at least this many connections.
    pub min: u32,
    /// `tcpEstablishedTimeout`.
    pub tcp_established: Duration,
    /// `tcpCloseWaitTimeout`.
    pub tcp_close_wait: Duration,
    /// `udpTimeout`: of a UDP exchange that had no answer yet.
    pub udp: Duration,
    /// `udpStreamTimeout`: of one that had.
    pub udp_stream: Duration,
    /// `tcpBeLiberal`: a packet outside of the TCP window does not make the connection invalid.
    pub tcp_be_liberal: bool,
}

impl Default for Conntrack {
    fn default() -> Self {
        Self {
            max_per_core: 32_768,
            min: 131_072,
            tcp_established: Duration::from_secs(24 * 60 * 60),
            tcp_close_wait: Duration::from_secs(60 * 60),
            udp: Duration::ZERO,
            udp_stream: Duration::ZERO,
            tcp_be_liberal: false,
        }
    }
}

/// On which addresses of a node its node ports are served. Loopback and IPv6 link-local addresses never serve them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NodePortAddresses {
    /// On all of them: `nodePortAddresses` is unset or empty.
    #[default]
    All,
    /// On those of the Node object, or of `--node-ip`: `primary`.
    Primary,
    /// On those in these ranges.
    Ranges(Vec<IpNet>),
}

impl NodePortAddresses {
    /// Whether an address of the node serves node ports. `primary`: it is one of the Node object or of `--node-ip`.
    pub fn serve(&self, address: IpAddr, primary: bool) -> bool {
        match self {
            Self::All => true,
            Self::Primary => primary,
            Self::Ranges(ranges) => ranges.iter().any(|range| range.contains(&address)),
        }
    }
}

impl Default for ProxyConfig {
    /// kube-proxy's defaults, with its scheduler for IPVS mode.
    fn default() -> Self {
        Self {
            cluster_cidrs: Vec::new(),
            scheduler: Scheduler::ROUND_ROBIN,
            exclude_cidrs: Vec::new(),
            masquerade_all: false,
            ipvs_timeouts: [Duration::ZERO; 3],
            conntrack: Conntrack::default(),
            node_port_addresses: NodePortAddresses::All,
            bind_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            healthz: None,
            metrics: None,
            hostname_override: None,
            kubeconfig: None,
            mode: String::new(),
        }
    }
}
