//! The surroundings of a node, as its kernel reports them: the addresses of its interfaces, its gateways, the hosts on its
//! networks, and the listening sockets. Values only; [`crate::kernel`] reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ferrolb_api::ownership::neighbour::Neighbours;
use ferrolb_api::proxy_config::InterfaceName;
use ferrolb_api::view::Protocol;

/// The surroundings of a node at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// Addresses of the interfaces, except those on `kube-ipvs0`.
    pub interfaces: BTreeSet<IpAddr>,
    /// Interfaces with an address that is not link-local, and tunnels; without `kube-ipvs0`.
    pub links: BTreeMap<InterfaceName, Link>,
    /// Gateways of the routes in all tables.
    pub gateways: BTreeSet<IpAddr>,
    /// Neighbours with a link-layer address that is known, or was a moment ago, except those on `kube-ipvs0`.
    pub neighbours: Neighbours,
    /// Listening sockets. `None`: the kernel does not report them.
    pub listeners: Option<Listeners>,
}

/// An interface of the node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// Whether it is the end of a tunnel.
    pub tunnel: bool,
    /// Its addresses, without link-local ones.
    pub addresses: BTreeSet<IpAddr>,
}

/// Sockets that accept traffic to a port: listening TCP and SCTP sockets, unconnected UDP sockets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listeners(BTreeSet<(Protocol, u16, IpAddr)>);

impl Listeners {
    /// Adds a socket bound to an address, or to all (`0.0.0.0`, `::`). A socket bound to `::` and not limited to IPv6
    /// (`IPV6_V6ONLY`) accepts IPv4 too.
    pub fn add(&mut self, addr: SocketAddr, protocol: Protocol, only_v6: bool) {
        let ip = addr.ip().to_canonical();
        self.0.insert((protocol, addr.port(), ip));
        if ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !only_v6 {
            let v4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            self.0.insert((protocol, addr.port(), v4));
        }
    }

    /// Whether a socket accepts traffic to an address and port.
    pub fn has(&self, addr: SocketAddr, protocol: Protocol) -> bool {
        let all = match addr.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        [addr.ip(), all]
            .iter()
            .any(|ip| self.0.contains(&(protocol, addr.port(), *ip)))
    }
}

/// Whether an address is of use on its link only (RFC 4291 section 2.5.6).
pub fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_wildcard_of_ipv6_listens_for_ipv4_unless_it_is_limited() {
        let mut listeners = Listeners::default();
        let mut add =
            |addr: &str, only_v6| listeners.add(addr.parse().unwrap(), Protocol::Tcp, only_v6);
        add("[::]:22", false);
        add("[::]:80", true);
        add("192.0.2.1:53", false);
        add("[::ffff:192.0.2.1]:54", false);
        add("0.0.0.0:443", false);
        for (addr, expected) in [
            ("192.0.2.1:22", true),
            ("[fd00::1]:22", true),
            ("192.0.2.1:80", false),
            ("[fd00::1]:80", true),
            ("192.0.2.1:53", true),
            ("192.0.2.2:53", false),
            ("192.0.2.1:54", true),
            ("192.0.2.2:443", true),
            ("[fd00::1]:443", false),
        ] {
            assert_eq!(
                listeners.has(addr.parse().unwrap(), Protocol::Tcp),
                expected,
                "{addr}"
            );
        }
        assert!(!listeners.has("192.0.2.1:22".parse().unwrap(), Protocol::Udp));
    }
}
