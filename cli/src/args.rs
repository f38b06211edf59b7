//! The command line of `ferrolb`.

mod proxy_flags;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ferrolb_api::ObjectKey;
use ferrolb_source::cluster::access::Access;
use ipnet::IpNet;

use proxy_flags::ProxyFlags;

/// A bare-metal Kubernetes load balancer with an integrated service proxy.
#[derive(Debug, Parser)]
#[command(
    name = "ferrolb",
    version,
    propagate_version = true,
    max_term_width = 80
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Announce load-balancer addresses and program IPVS on this node
    Node(Box<NodeArgs>),
    /// Give the Services of a cluster their addresses
    Controller(crate::controller::ControllerArgs),
    /// Print the definitions (CRDs) of the kinds that ferrolb reads and writes
    #[command(after_help = crate::crds::EXAMPLES)]
    Crds,
    /// Show Services, their addresses, who announces them and why, of this node or of a cluster
    Status(StatusArgs),
    /// Remove what a node made in this kernel and restore the sysctls
    Cleanup(CleanupArgs),
    /// Print a completion script for a shell
    Completions(CompletionArgs),
}

/// What serves the traffic of the announced addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Proxy {
    /// ferrolb itself, with IPVS and nftables
    Ipvs,
    /// Another proxy: only announce, touch nothing in the kernel
    None,
}

/// Which addresses in `spec.externalIPs` are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExternalIps {
    /// Those that belong to nobody else
    On,
    /// Of those, the ones that an address pool holds
    Pools,
    /// None
    Off,
}

/// A known node, `NAME=IP`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
}

impl FromStr for Member {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, ip) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or("expected NAME=IP, for example node-a=192.0.2.1")?;
        let ip = ip
            .parse()
            .map_err(|_| format!("{ip:?} is not an IP address"))?;
        Ok(Self {
            name: name.to_owned(),
            ip,
        })
    }
}

const NODE_EXAMPLES: &str = "\
Examples:
  A node of a cluster:
    ferrolb node --kubeconfig /etc/ferrolb/kubeconfig \\
      --state /var/lib/ferrolb --key-file /etc/ferrolb.key
  One machine, no API server:
    ferrolb node --manifests /etc/ferrolb --state /var/lib/ferrolb \\
      --node-ip 192.0.2.1
  Three machines that share a key:
    ferrolb node --manifests /etc/ferrolb --state /var/lib/ferrolb \\
      --node-name a --key-file /etc/ferrolb.key \\
      --member a=192.0.2.1 --member b=192.0.2.2 --member c=192.0.2.3
  Beside another service proxy:
    ferrolb node --manifests /etc/ferrolb --state /var/lib/ferrolb \\
      --node-ip 192.0.2.1 --proxy none

A subfolder of the manifests folder sets the namespace of objects that name
none. To make a key: (umask 077; head -c 32 /dev/urandom > /etc/ferrolb.key)

Exit codes: 0 stopped by SIGTERM or SIGINT, 1 it cannot run, 2 a mistake in the
arguments.";

/// Heading of the arguments about a cluster.
const CLUSTER: &str = "Cluster";

/// Access to a cluster's API, and which part of the cluster ferrolb serves. Each argument sets its own heading, because a heading
/// for the whole group would also apply to the arguments after it.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClusterArgs {
    /// File with the address and credentials of the API server [default:
    /// --server, or what every pod is given]
    #[arg(long, help_heading = CLUSTER, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Context in the kubeconfig [default: its current one]
    #[arg(long, help_heading = CLUSTER, value_name = "NAME", requires = "kubeconfig")]
    pub(crate) context: Option<String>,

    /// URL of the API server, used with the credentials of the pod. Needed
    /// where ferrolb is the proxy that makes the ClusterIP of the API server work
    #[arg(long, help_heading = CLUSTER, value_name = "URL", env = "FERROLB_SERVER")]
    pub(crate) server: Option<String>,

    /// Namespace of the IPAddressPools, the L2Advertisements and MetalLB's
    /// ConfigMap `config`
    #[arg(long, help_heading = CLUSTER, value_name = "NAME", default_value = ferrolb_source::decode::METALLB_NAMESPACE)]
    pub(crate) namespace: String,

    /// Serve only Services of this loadBalancerClass [default: only Services
    /// without one]
    #[arg(long, help_heading = CLUSTER, value_name = "CLASS")]
    pub(crate) lb_class: Option<String>,
}

impl ClusterArgs {
    /// The class of Services to serve.
    pub(crate) fn class(&self) -> Option<String> {
        self.lb_class.clone().filter(|class| !class.is_empty())
    }

    /// The access to the API server. The KubeProxyConfiguration may name a kubeconfig.
    pub(crate) fn access(&self, proxy_kubeconfig: Option<PathBuf>) -> Access {
        let set = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        Access {
            usual: false,
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            proxy_kubeconfig,
            server: set(&self.server),
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = NODE_EXAMPLES)]
pub(crate) struct NodeArgs {
    /// Folder of Kubernetes YAML to serve instead of a cluster. Changes are
    /// followed
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "context", "namespace"])]
    pub(crate) manifests: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,

    /// Folder for what outlives a restart: assigned addresses, original sysctls
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,

    /// Name of this node [default: hostnameOverride in the
    /// KubeProxyConfiguration, or the host name]
    #[arg(
        long,
        value_name = "NAME",
        env = "NODE_NAME",
        visible_alias = "hostname-override"
    )]
    pub(crate) node_name: Option<String>,

    /// Address of this node, one per family [default: its --member, or the
    /// InternalIPs of its Node; with --manifests and neither of them, the
    /// address of the default route]
    #[arg(long, value_name = "IP")]
    pub(crate) node_ip: Vec<IpAddr>,

    /// A node that runs ferrolb; give one for each node, this one included
    /// [default: the Nodes of the cluster or of the folder]
    #[arg(long = "member", value_name = "NAME=IP")]
    pub(crate) members: Vec<Member>,

    /// Headless Service that selects the pods of `ferrolb node`. Its
    /// EndpointSlices say on which Nodes ferrolb runs
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = ferrolb_node::config::DEFAULT_AGENTS, value_parser = service_key)]
    pub(crate) agents_service: ObjectKey,

    /// File with the key that all members share, at least 16 bytes. Needed with
    /// more than one member
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// UDP port on which the members talk
    #[arg(long, value_name = "PORT", default_value_t = ferrolb_node::config::DEFAULT_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,

    /// Range of the ClusterIPs, one per family. Addresses in it that no Service
    /// has are rejected [default: 10.96.0.0/12 with --manifests, else none]
    #[arg(long, value_name = "CIDR")]
    pub(crate) service_cidr: Vec<IpNet>,

    /// File with a KubeProxyConfiguration. It replaces one in the manifests
    /// folder. Without --kubeconfig, its kubeconfig is used for the cluster
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// What serves the traffic
    #[arg(long, value_enum, default_value = "ipvs")]
    pub(crate) proxy: Proxy,

    /// Which addresses in spec.externalIPs to serve; Kubernetes has deprecated
    /// the field since 1.36, turns it off by default in 1.40 and drops it in
    /// 1.43 (KEP-5707)
    #[arg(long, value_enum, value_name = "WHICH", default_value = "on")]
    pub(crate) external_ips: ExternalIps,

    /// Where to answer over HTTP, at /healthz, whether this node is ready
    /// [default: healthzBindAddress of the KubeProxyConfiguration, else none]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) healthz_bind_address: Option<SocketAddr>,

    /// Where to show metrics over HTTP, at /metrics; port 0 shows none
    /// [default: metricsBindAddress of the KubeProxyConfiguration, else
    /// 127.0.0.1:10249, and none with --proxy none]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) metrics_bind_address: Option<SocketAddr>,

    /// Announce new addresses without asking the LAN who has them (RFC 5227).
    /// Needed where a router answers ARP for every address
    #[arg(long)]
    pub(crate) no_probes: bool,

    /// Masquerade traffic between pods of this node that goes through a Service.
    /// Needed where the pods share a bridge and br_netfilter is not loaded
    #[arg(long)]
    pub(crate) bridged_pods: bool,

    /// Folder of the net sysctls. In a container with a read-only /proc/sys, the
    /// place where the host's folder is mounted
    #[arg(
        long,
        value_name = "DIR",
        env = "FERROLB_NET_SYSCTLS",
        default_value = ferrolb_node::config::DEFAULT_NET_SYSCTLS
    )]
    pub(crate) net_sysctls: PathBuf,

    /// Unix socket for `ferrolb status`
    #[arg(long, value_name = "FILE", default_value = ferrolb_node::config::DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,

    /// Group whose members may use the socket besides root
    #[arg(long, value_name = "GROUP")]
    pub(crate) socket_group: Option<String>,

    /// Factor for every timer of failure detection, 1 to 20, for emulated
    /// machines. All members need the same
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = scale)]
    pub(crate) timer_scale: f64,

    /// Seconds between two comparisons of the kernel with what it should hold
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) audit: Duration,

    /// Log in JSON
    #[arg(long)]
    pub(crate) log_json: bool,

    #[command(flatten)]
    pub(crate) proxy_flags: ProxyFlags,
}

fn service_key(text: &str) -> Result<ObjectKey, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok(ObjectKey::new(namespace, name))
        }
        _ => Err("expected NAMESPACE/NAME, for example ferrolb-system/ferrolb-node".to_owned()),
    }
}

fn scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (1.0..=20.0).contains(&factor) => Ok(factor),
        _ => Err("expected a number from 1 to 20".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(n) if (1..=86_400).contains(&n) => Ok(Duration::from_secs(n)),
        _ => Err("expected whole seconds from 1 to 86400".to_owned()),
    }
}

/// How `status` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Tables
    Table,
    /// One JSON object
    Json,
}

const STATUS_EXAMPLES: &str = "\
Examples:
  The node on this machine:
    ferrolb status
    ferrolb status -o json |
      jq '.services[] | select(.state != \"Serving\")'
  A whole cluster, from anywhere (the kubeconfig as kubectl finds it):
    ferrolb status --kubeconfig
    ferrolb status --context production

Where no node runs and $KUBECONFIG is set, the cluster is asked.

A cluster shows who announces what (ServiceL2Status objects) and what its nodes
report (events). A node also shows what is in its kernel and how it sees the
other nodes.

Exit codes: 0 the node or the API server answered, 1 it did not, 2 a mistake in
the arguments.";

#[derive(Debug, Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub(crate) struct StatusArgs {
    /// Unix socket of the node
    #[arg(long, value_name = "FILE", default_value = ferrolb_node::config::DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,

    /// Ask the API of a cluster instead [default FILE: $KUBECONFIG, or
    /// ~/.kube/config]
    #[arg(long, value_name = "FILE", num_args = 0..=1, conflicts_with = "socket")]
    pub(crate) kubeconfig: Option<Option<PathBuf>>,

    /// Context in the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", conflicts_with = "socket")]
    pub(crate) context: Option<String>,

    /// Namespace of the pools and of MetalLB's ConfigMap `config`
    #[arg(long, value_name = "NAME", default_value = ferrolb_source::decode::METALLB_NAMESPACE)]
    pub(crate) namespace: String,

    /// The loadBalancerClass that ferrolb serves there [default: none]
    #[arg(long, value_name = "CLASS")]
    pub(crate) lb_class: Option<String>,

    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

const CLEANUP_EXAMPLES: &str = "\
Examples:
  ferrolb cleanup --state /var/lib/ferrolb

Removes kube-ipvs0 with its addresses, the virtual servers on them, ferrolb's
firewall-mark servers and the table `inet ferrolb`. Restores the sysctls that
the node changed. Stop the node first. Assigned addresses are kept.

Exit codes: 0 everything was removed, 1 something could not be removed, 2 a
mistake in the arguments.";

#[derive(Debug, Args)]
#[command(after_help = CLEANUP_EXAMPLES)]
pub(crate) struct CleanupArgs {
    /// The node's --state folder
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ferrolb completions bash > /etc/bash_completion.d/ferrolb")]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}
