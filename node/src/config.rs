//! What a node is told before it starts.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ferrolb_api::ObjectKey;
use ferrolb_proxy::config::ExternalIps;
use ferrolb_source::cluster::access::Access;
use ferrolb_source::decode::METALLB_NAMESPACE;
use ipnet::IpNet;

/// Where `ferrolb status` looks for a node.
pub const DEFAULT_SOCKET: &str = "/run/ferrolb/node.sock";
/// The headless Service over the agents' pods, as `deploy/kustomize/base` has it.
pub const DEFAULT_AGENTS: &str = "ferrolb-system/ferrolb-node";
/// UDP port on which members talk.
pub const DEFAULT_PORT: u16 = 7947;
/// The kernel's net sysctls.
pub const DEFAULT_NET_SYSCTLS: &str = "/proc/sys/net";
/// How often the kernel is compared with what it should hold.
pub const DEFAULT_AUDIT: Duration = Duration::from_secs(30);

/// What serves the traffic of the announced addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyMode {
    /// ferrolb itself, with IPVS and nftables.
    Ipvs,
    /// Another proxy: this node only announces.
    None,
}

impl ProxyMode {
    /// Its name on the command line and in the status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipvs => "ipvs",
            Self::None => "none",
        }
    }
}

/// The settings of a node.
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder of YAML that takes the place of a cluster's API.
    pub manifests: Option<PathBuf>,
    /// The way to a cluster's API, where there is no such folder.
    pub access: Access,
    /// Namespace of the cluster's pools.
    pub namespace: String,
    /// Services of this `loadBalancerClass` are served; `None`: those without one.
    pub class: Option<String>,
    /// Folder for what outlives a restart.
    pub state: PathBuf,
    /// Name of this node, where neither the KubeProxyConfiguration nor the host name says it right.
    pub node_name: Option<String>,
    /// Addresses of this node, where neither a member nor a Node object says them.
    pub node_ip: Vec<IpAddr>,
    /// The known nodes, where they are listed by hand.
    pub members: Vec<(String, IpAddr)>,
    /// Headless Service over the agents' pods: its EndpointSlices name the nodes that are members.
    pub agents: Option<ObjectKey>,
    /// File with the key that the members share.
    pub key_file: Option<PathBuf>,
    /// UDP port on which the members talk.
    pub port: u16,
    /// Ranges of ClusterIPs, at most one per family.
    pub service_cidrs: Vec<IpNet>,
    /// File with a KubeProxyConfiguration, in place of one among the manifests.
    pub proxy_config: Option<PathBuf>,
    /// Who serves the traffic.
    pub proxy: ProxyMode,
    /// Which external addresses of Services are served.
    pub external_ips: ExternalIps,
    /// Where API servers answer, beside the one that this node asks: no Service may take these addresses.
    pub protected: Vec<SocketAddr>,
    /// The node's pods hang on one bridge and br_netfilter is not there.
    pub bridged_pods: bool,
    /// The kernel's net sysctls.
    pub net_sysctls: PathBuf,
    /// Unix socket for `ferrolb status`.
    pub socket: PathBuf,
    /// Group whose members may use the socket besides root.
    pub socket_group: Option<String>,
    /// Factor of every timer of failure detection.
    pub timer_scale: f64,
    /// How often the kernel is compared with what it should hold.
    pub audit: Duration,
}

impl Config {
    /// The defaults, with this state folder.
    pub fn new(state: impl Into<PathBuf>) -> Self {
        Self {
            manifests: None,
            access: Access::default(),
            namespace: METALLB_NAMESPACE.to_owned(),
            class: None,
            state: state.into(),
            node_name: None,
            node_ip: Vec::new(),
            members: Vec::new(),
            agents: None,
            key_file: None,
            port: DEFAULT_PORT,
            service_cidrs: Vec::new(),
            proxy_config: None,
            proxy: ProxyMode::Ipvs,
            external_ips: ExternalIps::default(),
            protected: Vec::new(),
            bridged_pods: false,
            net_sysctls: DEFAULT_NET_SYSCTLS.into(),
            socket: DEFAULT_SOCKET.into(),
            socket_group: None,
            timer_scale: 1.0,
            audit: DEFAULT_AUDIT,
        }
    }
}
