//! Settings of kube-proxy that are read and not followed.

use super::super::{FieldError, duration};
use super::Raw;

/// A note for each setting that asks for something else than what is done. A value that says what is done anyway, or kube-proxy's
/// default, needs none.
pub(super) fn not_followed(raw: &Raw) -> Vec<FieldError> {
    let some = |text: &Option<String>| text.as_deref().is_some_and(|t| !t.is_empty());
    let time = |text: &Option<String>| {
        let parsed = text.as_deref().map(|t| duration::parse("", t));
        matches!(parsed, Some(Ok(time)) if !time.is_zero())
    };
    let ipvs = raw.ipvs.as_ref();
    let conntrack = raw.conntrack.as_ref();
    let mode = raw.detect_local_mode.as_deref();
    [
        (
            ipvs.is_some_and(|i| i.strict_arp == Some(false)),
            "ipvs.strictARP",
            "false is not followed: the addresses of Services are never answered for on a LAN by the kernel alone, so arp_ignore is 1 and arp_announce is 2",
        ),
        (
            conntrack.is_some_and(|c| c.tcp_be_liberal == Some(true)),
            "conntrack.tcpBeLiberal",
            "true is not followed: net.netfilter.nf_conntrack_tcp_be_liberal stays as it is, set it with sysctl",
        ),
        (
            conntrack.is_some_and(|c| time(&c.udp_timeout)),
            "conntrack.udpTimeout",
            "is not followed: net.netfilter.nf_conntrack_udp_timeout stays as it is, set it with sysctl",
        ),
        (
            conntrack.is_some_and(|c| time(&c.udp_stream_timeout)),
            "conntrack.udpStreamTimeout",
            "is not followed: net.netfilter.nf_conntrack_udp_timeout_stream stays as it is, set it with sysctl",
        ),
        (
            mode.is_some_and(|mode| !matches!(mode, "" | "ClusterCIDR")),
            "detectLocalMode",
            "is not followed: what comes from pods is recognised by clusterCIDR, so set that",
        ),
        (
            some(&raw.detect_local.bridge_interface),
            "detectLocal.bridgeInterface",
            "is not followed: what comes from pods is recognised by clusterCIDR, so set that",
        ),
        (
            some(&raw.detect_local.interface_name_prefix),
            "detectLocal.interfaceNamePrefix",
            "is not followed: what comes from pods is recognised by clusterCIDR, so set that",
        ),
    ]
    .into_iter()
    .filter(|(asked, ..)| *asked)
    .map(|(_, field, message)| FieldError::new(field, message))
    .collect()
}
