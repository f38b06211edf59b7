//! kube-proxy's own flags for what a KubeProxyConfiguration says, so that its command line works unmodified.

use clap::Args;
use serde_json::{Map, Value, json};

/// Heading of these arguments.
const HEADING: &str = "Instead of --config, as kube-proxy has them";

/// What kube-proxy takes as flags. A file in `--config` replaces all of them, so both together are a mistake.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = true, conflicts_with = "config")]
#[command(next_help_heading = HEADING)]
pub(crate) struct ProxyFlags {
    /// Ranges of the pods, one per family, separated by a comma
    #[arg(long, value_name = "CIDRS")]
    cluster_cidr: Option<String>,

    /// How the traffic of pods is recognised: ClusterCIDR, NodeCIDR,
    /// BridgeInterface or InterfaceNamePrefix
    #[arg(long, value_name = "MODE")]
    detect_local_mode: Option<String>,

    /// Bridge of the pods, for BridgeInterface
    #[arg(long, value_name = "NAME")]
    pod_bridge_interface: Option<String>,

    /// Beginning of the names of the pods' interfaces, for InterfaceNamePrefix
    #[arg(long, value_name = "PREFIX")]
    pod_interface_name_prefix: Option<String>,

    /// Masquerade all traffic to ClusterIPs
    #[arg(long)]
    masquerade_all: bool,

    /// Ranges of this node's addresses on which node ports are served, or
    /// `primary`, separated by commas
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    nodeport_addresses: Vec<String>,

    /// Scheduler of the Services that name none
    #[arg(long, value_name = "NAME")]
    ipvs_scheduler: Option<String>,

    /// Virtual servers in these ranges are not touched, separated by commas
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    ipvs_exclude_cidrs: Vec<String>,

    /// Accepted: arp_ignore and arp_announce are always set
    #[arg(long)]
    ipvs_strict_arp: bool,

    /// IPVS timeout of idle TCP connections, like 15m0s; 0s keeps it
    #[arg(long, value_name = "TIME")]
    ipvs_tcp_timeout: Option<String>,

    /// IPVS timeout of TCP connections after a FIN
    #[arg(long, value_name = "TIME")]
    ipvs_tcpfin_timeout: Option<String>,

    /// IPVS timeout of UDP
    #[arg(long, value_name = "TIME")]
    ipvs_udp_timeout: Option<String>,

    /// Most tracked connections for each core; 0 leaves the limit as it is
    #[arg(long, value_name = "NUMBER")]
    conntrack_max_per_core: Option<u32>,

    /// The limit of tracked connections is at least this
    #[arg(long, value_name = "NUMBER")]
    conntrack_min: Option<u32>,

    /// Conntrack timeout of established TCP connections; 0s keeps it
    #[arg(long, value_name = "TIME")]
    conntrack_tcp_timeout_established: Option<String>,

    /// The same of TCP connections in CLOSE_WAIT
    #[arg(long, value_name = "TIME")]
    conntrack_tcp_timeout_close_wait: Option<String>,

    /// Packets outside of the TCP window stay valid for conntrack
    #[arg(long)]
    conntrack_tcp_be_liberal: bool,

    /// Conntrack timeout of UDP without an answer; 0s keeps it
    #[arg(long, value_name = "TIME")]
    conntrack_udp_timeout: Option<String>,

    /// The same of UDP with answers
    #[arg(long, value_name = "TIME")]
    conntrack_udp_timeout_stream: Option<String>,
}

impl ProxyFlags {
    /// The KubeProxyConfiguration that says the same; `None` without any of them.
    pub(crate) fn configuration(&self) -> Option<Value> {
        let truth = |flag: bool| flag.then_some(true);
        let list = |list: &[String]| (!list.is_empty()).then(|| json!(list));
        let fields = [
            (None, "clusterCIDR", of(&self.cluster_cidr)),
            (None, "detectLocalMode", of(&self.detect_local_mode)),
            (
                Some("detectLocal"),
                "bridgeInterface",
                of(&self.pod_bridge_interface),
            ),
            (
                Some("detectLocal"),
                "interfaceNamePrefix",
                of(&self.pod_interface_name_prefix),
            ),
            (
                Some("iptables"),
                "masqueradeAll",
                of(&truth(self.masquerade_all)),
            ),
            (None, "nodePortAddresses", list(&self.nodeport_addresses)),
            (Some("ipvs"), "scheduler", of(&self.ipvs_scheduler)),
            (Some("ipvs"), "excludeCIDRs", list(&self.ipvs_exclude_cidrs)),
            (Some("ipvs"), "strictARP", of(&truth(self.ipvs_strict_arp))),
            (Some("ipvs"), "tcpTimeout", of(&self.ipvs_tcp_timeout)),
            (Some("ipvs"), "tcpFinTimeout", of(&self.ipvs_tcpfin_timeout)),
            (Some("ipvs"), "udpTimeout", of(&self.ipvs_udp_timeout)),
            (
                Some("conntrack"),
                "maxPerCore",
                of(&self.conntrack_max_per_core),
            ),
            (Some("conntrack"), "min", of(&self.conntrack_min)),
            (
                Some("conntrack"),
                "tcpEstablishedTimeout",
                of(&self.conntrack_tcp_timeout_established),
            ),
            (
                Some("conntrack"),
                "tcpCloseWaitTimeout",
                of(&self.conntrack_tcp_timeout_close_wait),
            ),
            (
                Some("conntrack"),
                "tcpBeLiberal",
                of(&truth(self.conntrack_tcp_be_liberal)),
            ),
            (
                Some("conntrack"),
                "udpTimeout",
                of(&self.conntrack_udp_timeout),
            ),
            (
                Some("conntrack"),
                "udpStreamTimeout",
                of(&self.conntrack_udp_timeout_stream),
            ),
        ];
        let mut given = Map::new();
        for (part, field, value) in fields {
            let Some(value) = value else { continue };
            let into = match part {
                None => &mut given,
                Some(part) => match given.entry(part).or_insert_with(|| json!({})) {
                    Value::Object(fields) => fields,
                    _ => continue,
                },
            };
            into.insert(field.to_owned(), value);
        }
        if given.is_empty() {
            return None;
        }
        given.insert(
            "apiVersion".into(),
            "kubeproxy.config.k8s.io/v1alpha1".into(),
        );
        given.insert("kind".into(), "KubeProxyConfiguration".into());
        given.insert("mode".into(), "ipvs".into());
        Some(Value::Object(given))
    }
}

fn of<T: serde::Serialize>(value: &Option<T>) -> Option<Value> {
    value.as_ref().map(|value| json!(value))
}
