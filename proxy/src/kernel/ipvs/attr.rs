//! IPVS services and destinations as netlink attributes (`linux/ip_vs.h`).
//!
//! Addresses always take 16 bytes. Ports are in network order, everything else is in host order. A netmask is an address for IPv4
//! and a prefix length for IPv6.

use std::net::{IpAddr, SocketAddr};

use ferrolb_api::Family;
use ferrolb_api::view::Protocol;
use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED};

use super::super::netlink::attr::{Malformed, address, attributes, text, u16_of, u32_of, u64_of};
use super::super::{Forwarding, RealServer, Traffic, VirtualServer, VirtualServerId};

/// `IPVS_CMD_ATTR_*`.
pub(super) const CMD_SERVICE: u16 = 1;
pub(super) const CMD_DEST: u16 = 2;
pub(super) const CMD_TIMEOUT_TCP: u16 = 4;
pub(super) const CMD_TIMEOUT_TCP_FIN: u16 = 5;
pub(super) const CMD_TIMEOUT_UDP: u16 = 6;
/// `IPVS_SVC_ATTR_*`.
const SVC_AF: u16 = 1;
const SVC_PROTOCOL: u16 = 2;
const SVC_ADDR: u16 = 3;
const SVC_PORT: u16 = 4;
const SVC_FWMARK: u16 = 5;
const SVC_SCHED_NAME: u16 = 6;
const SVC_FLAGS: u16 = 7;
const SVC_TIMEOUT: u16 = 8;
const SVC_NETMASK: u16 = 9;
const SVC_STATS64: u16 = 12;
/// `IPVS_STATS_ATTR_*`.
const STATS_CONNS: u16 = 1;
const STATS_INPKTS: u16 = 2;
const STATS_OUTPKTS: u16 = 3;
const STATS_INBYTES: u16 = 4;
const STATS_OUTBYTES: u16 = 5;
/// `IPVS_DEST_ATTR_*`.
const DEST_ADDR: u16 = 1;
const DEST_PORT: u16 = 2;
const DEST_FWD_METHOD: u16 = 3;
const DEST_WEIGHT: u16 = 4;
const DEST_U_THRESH: u16 = 5;
const DEST_L_THRESH: u16 = 6;
const DEST_ADDR_FAMILY: u16 = 11;
/// `AF_INET`, `AF_INET6`.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// `IP_VS_SVC_F_PERSISTENT`, and the three flags of schedulers.
const F_PERSISTENT: u32 = 1;
const F_SCHEDULER: u32 = 0x38;
/// `IP_VS_CONN_F_FWD_MASK` and the methods.
const FWD_MASK: u32 = 7;
const FWD_MASQ: u32 = 0;
const FWD_TUNNEL: u32 = 2;
const FWD_ROUTE: u32 = 3;

pub(super) fn nested(kind: u16, inner: &[DefaultNla]) -> DefaultNla {
    let mut value = vec![0; inner.buffer_len()];
    inner.emit(&mut value);
    DefaultNla::new(kind | NLA_F_NESTED, value)
}

fn nla_u16(kind: u16, value: u16) -> DefaultNla {
    DefaultNla::new(kind, value.to_ne_bytes().to_vec())
}

pub(super) fn nla_u32(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_ne_bytes().to_vec())
}

fn nla_port(kind: u16, port: u16) -> DefaultNla {
    DefaultNla::new(kind, port.to_be_bytes().to_vec())
}

fn nla_addr(kind: u16, addr: IpAddr) -> DefaultNla {
    let mut value = match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    value.resize(16, 0);
    DefaultNla::new(kind, value)
}

fn family_of(id: VirtualServerId) -> Family {
    match id {
        VirtualServerId::Address { addr, .. } => Family::of(addr),
        VirtualServerId::Fwmark { family, .. } => family,
    }
}

fn af(family: Family) -> u16 {
    match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    }
}

/// The attributes that identify a service.
pub(super) fn identity(id: VirtualServerId) -> Vec<DefaultNla> {
    let mut out = vec![nla_u16(SVC_AF, af(family_of(id)))];
    match id {
        VirtualServerId::Address {
            addr,
            port,
            protocol,
        } => out.extend([
            nla_u16(SVC_PROTOCOL, protocol.number().into()),
            nla_addr(SVC_ADDR, addr),
            nla_port(SVC_PORT, port),
        ]),
        VirtualServerId::Fwmark { mark, .. } => out.push(nla_u32(SVC_FWMARK, mark)),
    }
    out
}

/// A whole service.
pub(super) fn service(server: &VirtualServer) -> Vec<DefaultNla> {
    let mut out = identity(server.id);
    let mut name = server.scheduler.clone().into_bytes();
    name.push(0);
    out.push(DefaultNla::new(SVC_SCHED_NAME, name));
    let persistent = server.persistence.map_or(0, |_| F_PERSISTENT);
    let flags = server.sched_flags & F_SCHEDULER | persistent;
    let mut pair = flags.to_ne_bytes().to_vec();
    pair.extend(u32::MAX.to_ne_bytes());
    out.push(DefaultNla::new(SVC_FLAGS, pair));
    out.push(nla_u32(SVC_TIMEOUT, server.persistence.unwrap_or(0)));
    out.push(nla_u32(
        SVC_NETMASK,
        match family_of(server.id) {
            Family::V4 => u32::MAX,
            Family::V6 => 128,
        },
    ));
    out
}

/// The attributes that identify a destination.
pub(super) fn dest_identity(addr: SocketAddr) -> Vec<DefaultNla> {
    vec![
        nla_u16(DEST_ADDR_FAMILY, af(Family::of(addr.ip()))),
        nla_addr(DEST_ADDR, addr.ip()),
        nla_port(DEST_PORT, addr.port()),
    ]
}

/// A whole destination.
pub(super) fn dest(server: &RealServer) -> Vec<DefaultNla> {
    let method = match server.forwarding {
        Forwarding::Masq => FWD_MASQ,
        Forwarding::Tunnel => FWD_TUNNEL,
        Forwarding::Route => FWD_ROUTE,
    };
    let mut out = dest_identity(server.addr);
    out.extend([
        nla_u32(DEST_FWD_METHOD, method),
        nla_u32(DEST_WEIGHT, server.weight.min(i32::MAX as u32)),
        nla_u32(DEST_U_THRESH, 0),
        nla_u32(DEST_L_THRESH, 0),
    ]);
    out
}

fn port_of(value: &[u8]) -> Option<u16> {
    value.try_into().ok().map(u16::from_be_bytes)
}

/// The address in an attribute of 16 bytes.
fn addr_of(family: Family, value: &[u8]) -> Option<IpAddr> {
    match family {
        Family::V4 => address(value.get(..4)?),
        Family::V6 => address(value.get(..16)?),
    }
}

fn family_from(af: u16) -> Option<Family> {
    Family::ALL
        .into_iter()
        .find(|family| self::af(*family) == af)
}

/// A service from a dump. `None` if our types cannot express it (a protocol other than TCP, UDP, SCTP).
pub(super) fn service_from(bytes: &[u8]) -> Result<Option<VirtualServer>, Malformed> {
    let (mut family, mut protocol, mut addr, mut port, mut mark) = (None, None, None, None, None);
    let (mut scheduler, mut flags, mut timeout) = (String::new(), 0, 0);
    for attribute in attributes(bytes) {
        let (kind, value) = attribute?;
        match kind {
            SVC_AF => family = u16_of(value).and_then(family_from),
            SVC_PROTOCOL => protocol = u16_of(value),
            SVC_ADDR => addr = Some(value),
            SVC_PORT => port = port_of(value),
            SVC_FWMARK => mark = u32_of(value),
            SVC_SCHED_NAME => scheduler = text(value).unwrap_or_default().to_owned(),
            SVC_FLAGS => flags = value.get(..4).and_then(u32_of).unwrap_or(0),
            SVC_TIMEOUT => timeout = u32_of(value).unwrap_or(0),
            _ => {}
        }
    }
    let id = || {
        let family = family?;
        if let Some(mark) = mark {
            return Some(VirtualServerId::Fwmark { mark, family });
        }
        let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
            .into_iter()
            .find(|p| Some(u16::from(p.number())) == protocol)?;
        Some(VirtualServerId::Address {
            addr: addr_of(family, addr?)?,
            port: port?,
            protocol,
        })
    };
    Ok(id().map(|id| VirtualServer {
        id,
        scheduler,
        sched_flags: flags & F_SCHEDULER,
        persistence: (flags & F_PERSISTENT != 0).then_some(timeout),
    }))
}

/// What a service in a dump has carried. Kernels before 4.1 do not say it.
pub(super) fn traffic_from(bytes: &[u8]) -> Result<Traffic, Malformed> {
    let mut out = Traffic::default();
    for attribute in attributes(bytes) {
        let (kind, block) = attribute?;
        if kind != SVC_STATS64 {
            continue;
        }
        for attribute in attributes(block) {
            let (kind, value) = attribute?;
            let place = match kind {
                STATS_CONNS => &mut out.connections,
                STATS_INPKTS => &mut out.packets_in,
                STATS_OUTPKTS => &mut out.packets_out,
                STATS_INBYTES => &mut out.bytes_in,
                STATS_OUTBYTES => &mut out.bytes_out,
                _ => continue,
            };
            *place = u64_of(value).unwrap_or_default();
        }
    }
    Ok(out)
}

/// A destination of the service `of`, from a dump. `None` if it has no address or port.
pub(super) fn dest_from(
    of: VirtualServerId,
    bytes: &[u8],
) -> Result<Option<RealServer>, Malformed> {
    let (mut family, mut addr, mut port, mut method, mut weight) =
        (family_of(of), None, None, 0, 0);
    for attribute in attributes(bytes) {
        let (kind, value) = attribute?;
        match kind {
            // Older kernels omit it or send 0. Then the family is that of the service.
            DEST_ADDR_FAMILY => family = u16_of(value).and_then(family_from).unwrap_or(family),
            DEST_ADDR => addr = Some(value),
            DEST_PORT => port = port_of(value),
            DEST_FWD_METHOD => method = u32_of(value).unwrap_or(0) & FWD_MASK,
            DEST_WEIGHT => weight = u32_of(value).unwrap_or(0),
            _ => {}
        }
    }
    let addr = addr.and_then(|value| addr_of(family, value));
    Ok(addr.zip(port).map(|(addr, port)| RealServer {
        addr: SocketAddr::new(addr, port),
        weight,
        // Some kernels show a server on this node as "local node", however it was created.
        forwarding: match method {
            FWD_TUNNEL => Forwarding::Tunnel,
            FWD_ROUTE => Forwarding::Route,
            _ => Forwarding::Masq,
        },
    }))
}
