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
    /// `detectLocalMode` and `detectLocal`.
    pub detect_local: DetectLocal,
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

/// How the traffic of pods is recognised. It is not masqueraded on its way to a ClusterIP, and reaches all endpoints of a
/// Service under externalTrafficPolicy Local.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DetectLocal {
    /// `ClusterCIDR`: by a source in the pod ranges of the cluster.
    #[default]
    ClusterCidr,
    /// `NodeCIDR`: by a source in the pod ranges of this node's Node object.
    NodeCidr,
    /// `BridgeInterface`: by the bridge of this node's pods, at which it comes in.
    BridgeInterface(InterfaceName),
    /// `InterfaceNamePrefix`: by the beginning of the name of the interface at which it comes in.
    InterfaceNamePrefix(InterfaceName),
}

impl std::fmt::Display for DetectLocal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ClusterCidr => "ClusterCIDR",
            Self::NodeCidr => "NodeCIDR",
            Self::BridgeInterface(_) => "BridgeInterface",
            Self::InterfaceNamePrefix(_) => "InterfaceNamePrefix",
        })
    }
}

/// The name of a network interface, or its beginning: 1 to 15 bytes, padded with zeros to `IFNAMSIZ` (`linux/if.h`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName([u8; Self::SIZE]);

impl InterfaceName {
    /// `IFNAMSIZ`.
    pub const SIZE: usize = 16;

    /// `None` if no interface can have this name: it is empty or too long, or holds a slash, a space or a control character.
    pub fn new(name: &str) -> Option<Self> {
        let wrong = |c: char| c == '/' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.len() >= Self::SIZE || name.contains(wrong) {
            return None;
        }
        let mut bytes = [0; Self::SIZE];
        for (to, from) in bytes.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        Some(Self(bytes))
    }

    /// The name of these bytes, up to the first zero.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        Self::new(std::str::from_utf8(bytes.get(..end)?).ok()?)
    }

    /// The name with its padding.
    pub fn bytes(self) -> [u8; Self::SIZE] {
        self.0
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let text = std::str::from_utf8(&self.0).unwrap_or_default();
        text.trim_end_matches('\0')
    }
}

impl std::fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
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
            detect_local: DetectLocal::default(),
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
