//! KubeProxyConfiguration v1alpha1: the fields that a proxy in IPVS mode acts on, with kube-proxy's defaults.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::object::Object;
use crate::source::Problem;
use crate::source::files::document;

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

impl ProxyConfig {
    /// Reads a KubeProxyConfiguration as kube-proxy's `--config` has it; the problems are those that it works with.
    pub fn parse(text: &str) -> Result<(Self, Vec<Problem>), Problem> {
        Self::parse_file("", text)
    }

    /// [`Self::parse`] with the name of the file for messages.
    pub fn parse_file(file: &str, text: &str) -> Result<(Self, Vec<Problem>), Problem> {
        match read_text(file, text) {
            (Some(config), problems) => Ok((config, problems)),
            (None, problems) => Err(problems.into_iter().next().unwrap_or_default()),
        }
    }
}

fn read_text(file: &str, text: &str) -> (Option<ProxyConfig>, Vec<Problem>) {
    let read = document::read(file, "", text);
    let mut problems = read.problems;
    for object in read.objects {
        if let Object::ProxyConfig(config) = object.object {
            return (Some(*config), problems);
        }
    }
    if problems.is_empty() {
        problems.push(Problem {
            origin: file.to_owned(),
            field: "kind".into(),
            message:
                "there is no KubeProxyConfiguration in it: give kube-proxy's configuration file"
                    .into(),
            ..Problem::default()
        });
    }
    (None, problems)
}
