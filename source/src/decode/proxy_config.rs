//! KubeProxyConfiguration v1alpha1. Fields that only other modes or other programs use are accepted. Fields that have a type in
//! kube-proxy have it here too, so that a wrong type is an error and does not silently become the default.

mod not_followed;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ferrolb_api::proxy_config::{DetectLocal, InterfaceName, NodePortAddresses, ProxyConfig};
use ferrolb_api::quote::quoted;
use ferrolb_api::scheduler::{NAMES, Scheduler};
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use not_followed::not_followed;

use super::raw::{ip, net, one_of, typed};
use super::{FieldError, duration};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Raw {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    bind_address: Option<String>,
    hostname_override: Option<String>,
    #[serde(rename = "clusterCIDR")]
    cluster_cidr: Option<String>,
    mode: Option<String>,
    client_connection: ClientConnection,
    iptables: Option<IpTables>,
    ipvs: Option<Ipvs>,
    conntrack: Option<Conntrack>,
    detect_local: Detect,
    #[serde(rename = "featureGates")]
    _feature_gates: Option<BTreeMap<String, bool>>,
    #[serde(rename = "healthzBindAddress")]
    healthz: Option<String>,
    #[serde(rename = "metricsBindAddress")]
    metrics: Option<String>,
    #[serde(rename = "nodePortAddresses")]
    node_port_addresses: Option<Vec<String>>,
    #[serde(rename = "oomScoreAdj")]
    _oom_score_adj: Option<i32>,
    #[serde(rename = "portRange")]
    _port_range: Option<String>,
    #[serde(rename = "configSyncPeriod")]
    config_sync_period: Option<String>,
    #[serde(rename = "detectLocalMode")]
    detect_local_mode: Option<String>,
    #[serde(rename = "enableProfiling")]
    _enable_profiling: Option<bool>,
    #[serde(rename = "bindAddressHardFail")]
    _bind_address_hard_fail: Option<bool>,
    #[serde(rename = "showHiddenMetricsForVersion")]
    _show_hidden_metrics: Option<String>,
    #[serde(rename = "windowsRunAsService")]
    _windows_run_as_service: Option<bool>,
    #[serde(rename = "udpIdleTimeout")]
    _udp_idle_timeout: Option<String>,
    #[serde(rename = "resourceContainer")]
    _resource_container: Option<String>,
    #[serde(rename = "logging")]
    _logging: IgnoredAny,
    #[serde(rename = "nftables")]
    _nftables: IgnoredAny,
    #[serde(rename = "winkernel")]
    _winkernel: IgnoredAny,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Detect {
    bridge_interface: Option<String>,
    interface_name_prefix: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClientConnection {
    kubeconfig: Option<String>,
    #[serde(rename = "acceptContentTypes")]
    _accept: Option<String>,
    #[serde(rename = "contentType")]
    _content_type: Option<String>,
    #[serde(rename = "qps")]
    _qps: Option<f32>,
    #[serde(rename = "burst")]
    _burst: Option<i32>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct IpTables {
    masquerade_all: Option<bool>,
    #[serde(rename = "masqueradeBit")]
    _masquerade_bit: Option<i32>,
    #[serde(rename = "localhostNodePorts")]
    _localhost_node_ports: Option<bool>,
    sync_period: Option<String>,
    min_sync_period: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Ipvs {
    scheduler: Option<String>,
    #[serde(rename = "excludeCIDRs")]
    exclude_cidrs: Option<Vec<String>>,
    #[serde(rename = "strictARP")]
    strict_arp: Option<bool>,
    sync_period: Option<String>,
    min_sync_period: Option<String>,
    tcp_timeout: Option<String>,
    tcp_fin_timeout: Option<String>,
    udp_timeout: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Conntrack {
    max_per_core: Option<i64>,
    min: Option<i64>,
    tcp_established_timeout: Option<String>,
    tcp_close_wait_timeout: Option<String>,
    tcp_be_liberal: Option<bool>,
    udp_timeout: Option<String>,
    udp_stream_timeout: Option<String>,
}

/// kube-proxy's port for questions about its health.
const HEALTHZ: u16 = 10256;
/// The same of its metrics.
const METRICS: u16 = 10249;

/// Decodes a KubeProxyConfiguration.
pub(super) fn decode(value: &Value) -> Result<(ProxyConfig, Vec<FieldError>), FieldError> {
    let raw: Raw = typed(value)?;
    let mut config = ProxyConfig::default();
    let mut notes = not_followed(&raw);
    config.detect_local = detect_local(raw.detect_local_mode.as_deref(), &raw.detect_local)?;
    let some = |text: Option<String>| text.filter(|t| !t.is_empty());
    if let Some(text) = some(raw.bind_address) {
        config.bind_address = ip("bindAddress", &text)?;
    }
    let port = |text: &Option<String>, field, usual| match text {
        Some(text) => address_of(text, field, usual),
        None => Ok(None),
    };
    config.healthz = port(&raw.healthz, "healthzBindAddress", HEALTHZ)?;
    config.metrics = port(&raw.metrics, "metricsBindAddress", METRICS)?;
    config.hostname_override = some(raw.hostname_override);
    config.kubeconfig = some(raw.client_connection.kubeconfig);
    config.mode = raw.mode.unwrap_or_default();
    match config.mode.as_str() {
        "ipvs" => {}
        "" | "iptables" | "nftables" => notes.push(FieldError::new(
            "mode",
            format!(
                "{} is not followed: ferrolb always works with IPVS, write ipvs",
                quoted(&config.mode)
            ),
        )),
        other => return Err(one_of("mode", other, "ipvs")),
    }
    config.node_port_addresses = node_port_addresses(raw.node_port_addresses.as_deref())?;
    config.cluster_cidrs = cluster_cidrs(raw.cluster_cidr.as_deref().unwrap_or_default())?;
    if let Some(iptables) = raw.iptables {
        config.masquerade_all = iptables.masquerade_all.unwrap_or(false);
        time("iptables.syncPeriod", iptables.sync_period, Duration::ZERO)?;
        time(
            "iptables.minSyncPeriod",
            iptables.min_sync_period,
            Duration::ZERO,
        )?;
    }
    time("configSyncPeriod", raw.config_sync_period, Duration::ZERO)?;
    if let Some(ipvs) = raw.ipvs {
        read_ipvs(ipvs, &mut config)?;
    }
    if let Some(conntrack) = raw.conntrack {
        read_conntrack(conntrack, &mut config)?;
    }
    Ok((config, notes))
}

fn detect_local(mode: Option<&str>, detect: &Detect) -> Result<DetectLocal, FieldError> {
    const MODES: &str = "ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix";
    let name = |field, text: &Option<String>, example| {
        let text = text.as_deref().unwrap_or_default();
        InterfaceName::new(text).ok_or_else(|| {
            let text = format!(
                "{} is no name of an interface: write one like {example}, because detectLocalMode asks for it",
                quoted(text)
            );
            FieldError::new(field, text)
        })
    };
    match mode.unwrap_or_default() {
        "" | "ClusterCIDR" => Ok(DetectLocal::ClusterCidr),
        "NodeCIDR" => Ok(DetectLocal::NodeCidr),
        "BridgeInterface" => {
            let name = name(
                "detectLocal.bridgeInterface",
                &detect.bridge_interface,
                "cni0",
            )?;
            Ok(DetectLocal::BridgeInterface(name))
        }
        "InterfaceNamePrefix" => {
            let prefix = &detect.interface_name_prefix;
            let name = name("detectLocal.interfaceNamePrefix", prefix, "veth")?;
            Ok(DetectLocal::InterfaceNamePrefix(name))
        }
        other => Err(one_of("detectLocalMode", other, MODES)),
    }
}

fn node_port_addresses(list: Option<&[String]>) -> Result<NodePortAddresses, FieldError> {
    const FIELD: &str = "nodePortAddresses";
    match list.unwrap_or_default() {
        [] => Ok(NodePortAddresses::All),
        [only] if only == "primary" => Ok(NodePortAddresses::Primary),
        list => {
            let mut ranges = Vec::new();
            for (i, text) in list.iter().enumerate() {
                if text == "primary" {
                    let text = "primary stands alone: remove it or the ranges";
                    return Err(FieldError::new(format!("{FIELD}[{i}]"), text));
                }
                ranges.push(net(format!("{FIELD}[{i}]"), text)?);
            }
            Ok(NodePortAddresses::Ranges(ranges))
        }
    }
}

fn cluster_cidrs(list: &str) -> Result<Vec<IpNet>, FieldError> {
    let mut cidrs: Vec<IpNet> = Vec::new();
    for text in list.split(',').map(str::trim).filter(|t| !t.is_empty()) {
        let cidr = net("clusterCIDR", text)?;
        if cidrs
            .iter()
            .any(|c| c.addr().is_ipv4() == cidr.addr().is_ipv4())
        {
            return Err(FieldError::new(
                "clusterCIDR",
                format!(
                    "{} has two ranges of one family: use one per family",
                    quoted(list)
                ),
            ));
        }
        cidrs.push(cidr);
    }
    Ok(cidrs)
}

fn read_ipvs(ipvs: Ipvs, config: &mut ProxyConfig) -> Result<(), FieldError> {
    if let Some(scheduler) = ipvs.scheduler.filter(|s| !s.is_empty()) {
        let Some(name) = NAMES.into_iter().find(|name| *name == scheduler) else {
            return Err(one_of("ipvs.scheduler", &scheduler, &NAMES.join(", ")));
        };
        config.scheduler = Scheduler {
            name,
            by_port: false,
        };
    }
    for (i, text) in ipvs.exclude_cidrs.unwrap_or_default().iter().enumerate() {
        config
            .exclude_cidrs
            .push(net(format!("ipvs.excludeCIDRs[{i}]"), text)?);
    }
    time("ipvs.syncPeriod", ipvs.sync_period, Duration::ZERO)?;
    time("ipvs.minSyncPeriod", ipvs.min_sync_period, Duration::ZERO)?;
    config.ipvs_timeouts = [
        time("ipvs.tcpTimeout", ipvs.tcp_timeout, Duration::ZERO)?,
        time("ipvs.tcpFinTimeout", ipvs.tcp_fin_timeout, Duration::ZERO)?,
        time("ipvs.udpTimeout", ipvs.udp_timeout, Duration::ZERO)?,
    ];
    Ok(())
}

fn read_conntrack(raw: Conntrack, config: &mut ProxyConfig) -> Result<(), FieldError> {
    let known = &mut config.conntrack;
    known.max_per_core = count("conntrack.maxPerCore", raw.max_per_core, known.max_per_core)?;
    known.min = count("conntrack.min", raw.min, known.min)?;
    known.tcp_be_liberal = raw.tcp_be_liberal.unwrap_or(false);
    for (field, text, into) in [
        (
            "tcpEstablishedTimeout",
            raw.tcp_established_timeout,
            &mut known.tcp_established,
        ),
        (
            "tcpCloseWaitTimeout",
            raw.tcp_close_wait_timeout,
            &mut known.tcp_close_wait,
        ),
        ("udpTimeout", raw.udp_timeout, &mut known.udp),
        (
            "udpStreamTimeout",
            raw.udp_stream_timeout,
            &mut known.udp_stream,
        ),
    ] {
        *into = time(&format!("conntrack.{field}"), text, *into)?;
    }
    Ok(())
}

fn time(field: &str, text: Option<String>, default: Duration) -> Result<Duration, FieldError> {
    match text {
        Some(text) => duration::parse(field, &text),
        None => Ok(default),
    }
}

fn count(field: &str, number: Option<i64>, default: u32) -> Result<u32, FieldError> {
    match number {
        None => Ok(default),
        Some(number) => u32::try_from(number).map_err(|_| {
            FieldError::new(
                field,
                format!("{number} is out of range: use 0 to {}", u32::MAX),
            )
        }),
    }
}

/// An address with a port, or an address alone, to which kube-proxy adds its port.
fn address_of(text: &str, field: &str, usual: u16) -> Result<Option<SocketAddr>, FieldError> {
    let with_port = || text.parse::<SocketAddr>().ok();
    let alone = || Some(SocketAddr::new(text.parse().ok()?, usual));
    match text {
        "" => Ok(None),
        _ => with_port().or_else(alone).map(Some).ok_or_else(|| {
            let text = format!(
                "{} is no address with a port: write 0.0.0.0:{usual}",
                quoted(text)
            );
            FieldError::new(field, text)
        }),
    }
}
