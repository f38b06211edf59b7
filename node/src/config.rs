//! The settings with which a node starts.

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
/// The headless Service over the agents' pods, as defined in `deploy/kustomize/base`.
pub const DEFAULT_AGENTS: &str = "ferrolb-system/ferrolb-node";
/// The UDP port on which members communicate.
pub const DEFAULT_PORT: u16 = 7947;
/// The kernel's net sysctls.
pub const DEFAULT_NET_SYSCTLS: &str = "/proc/sys/net";
/// How often the kernel's state is compared with the wanted state.
pub const DEFAULT_AUDIT: Duration = Duration::from_secs(30);

/// What serves the traffic to the announced addresses.
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
    /// Directory of YAML files that replaces a cluster's API.
    pub manifests: Option<PathBuf>,
    /// How to reach a cluster's API, if there is no such directory.
    pub access: Access,
    /// The namespace of the cluster's pools.
    pub namespace: String,
    /// Services of this `loadBalancerClass` are served; `None`: Services without one.
    pub class: Option<String>,
    /// Directory for what must outlive a restart.
    pub state: PathBuf,
    /// The name of this node, if neither the KubeProxyConfiguration nor the host name gives the right one.
    pub node_name: Option<String>,
    /// The addresses of this node, if neither a member nor a Node object gives them.
    pub node_ip: Vec<IpAddr>,
    /// The known nodes, if they are listed by hand.
    pub members: Vec<(String, IpAddr)>,
    /// Headless Service over the agents' pods. Its EndpointSlices name the nodes that are members.
    pub agents: Option<ObjectKey>,
    /// File with the members' shared key.
    pub key_file: Option<PathBuf>,
    /// The UDP port on which the members communicate.
    pub port: u16,
    /// The ranges of ClusterIPs, at most one per family.
    pub service_cidrs: Vec<IpNet>,
    /// File with a KubeProxyConfiguration, which replaces the one in the manifests.
    pub proxy_config: Option<PathBuf>,
    /// A KubeProxyConfiguration made of flags, if there is no such file.
    pub proxy_flags: Option<serde_json::Value>,
    /// What serves the traffic.
    pub proxy: ProxyMode,
    /// Which external addresses of Services are served.
    pub external_ips: ExternalIps,
    /// Where to answer over HTTP whether the node is ready; `None`: where the KubeProxyConfiguration says.
    pub healthz: Option<SocketAddr>,
    /// Where to show metrics over HTTP; `None`: where the KubeProxyConfiguration says. Port 0: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Where API servers answer, in addition to the one that this node uses. No Service may take these addresses.
    pub protected: Vec<SocketAddr>,
    /// Ask the LAN who has an address before it is announced for the first time.
    pub probes: bool,
    /// The node's pods are attached to one bridge, and br_netfilter is not loaded.
    pub bridged_pods: bool,
    /// The kernel's net sysctls.
    pub net_sysctls: PathBuf,
    /// The Unix socket for `ferrolb status`.
    pub socket: PathBuf,
    /// The group whose members may use the socket, besides root.
    pub socket_group: Option<String>,
    /// The factor for all timers of failure detection.
    pub timer_scale: f64,
    /// How often the kernel's state is compared with the wanted state.
    pub audit: Duration,
}

impl Config {
    /// The defaults, with this state directory.
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
            proxy_flags: None,
            proxy: ProxyMode::Ipvs,
            external_ips: ExternalIps::default(),
            healthz: None,
            metrics: None,
            protected: Vec::new(),
            probes: true,
            bridged_pods: false,
            net_sysctls: DEFAULT_NET_SYSCTLS.into(),
            socket: DEFAULT_SOCKET.into(),
            socket_group: None,
            timer_scale: 1.0,
            audit: DEFAULT_AUDIT,
        }
    }
}
