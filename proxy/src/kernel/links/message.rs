//! Messages about addresses and local routes, and what is read out of them.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use super::super::netlink::Request;
use super::super::rule::Family;
use super::Message;

/// `RT_TABLE_LOCAL`.
const TABLE_LOCAL: u8 = 255;

pub(super) fn gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::ENODEV | Errno::EADDRNOTAVAIL | Errno::ESRCH | Errno::ENOENT)
    )
}

fn address_message(addr: IpAddr, index: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    (message.header.family, message.header.prefix_len) = match addr {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.attributes = vec![
        AddressAttribute::Local(addr),
        AddressAttribute::Address(addr),
    ];
    message
}

/// IPv4 only; IPv6 addresses are local by their route alone.
pub(super) fn add_address(addr: IpAddr, index: u32) -> Option<Message> {
    (Family::of(addr) == Family::V4).then(|| {
        let mut message = address_message(addr, index);
        message.header.scope = AddressScope::Host;
        Request::new(
            NLM_F_CREATE | NLM_F_REPLACE,
            RouteNetlinkMessage::NewAddress(message),
        )
    })
}

/// IPv6 too: another proxy may have put the address there.
pub(super) fn del_address(addr: IpAddr, index: u32) -> Message {
    let message = address_message(addr, index);
    Request::new(0, RouteNetlinkMessage::DelAddress(message))
}

pub(super) fn local_route(addr: IpAddr, index: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    (
        message.header.address_family,
        message.header.destination_prefix_length,
    ) = match addr {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.table = TABLE_LOCAL;
    message.header.kind = RouteType::Local;
    // For a deletion: whatever its scope.
    message.header.scope = RouteScope::NoWhere;
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::from(addr)),
        RouteAttribute::Oif(index),
    ];
    message
}

/// Address and source of a local route for one address through the link.
pub(super) fn host_route(route: &RouteMessage, index: u32) -> Option<(IpAddr, Option<IpAddr>)> {
    let full = match route.header.address_family {
        AddressFamily::Inet => 32,
        _ => 128,
    };
    if route.header.table != TABLE_LOCAL
        || route.header.kind != RouteType::Local
        || route.header.destination_prefix_length != full
        || !route.attributes.contains(&RouteAttribute::Oif(index))
    {
        return None;
    }
    let (mut addr, mut source) = (None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(a) => addr = ip(a),
            RouteAttribute::PrefSource(a) => source = ip(a),
            _ => {}
        }
    }
    addr.filter(|a| !is_link_local(a)).map(|a| (a, source))
}

/// The address of an answer. IPv6 says `Address` alone.
pub(super) fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(a) => local = Some(*a),
            AddressAttribute::Address(a) => address = Some(*a),
            _ => {}
        }
    }
    local.or(address).filter(|a| !is_link_local(a))
}

/// The link's own link-local address is nobody's service.
fn is_link_local(addr: &IpAddr) -> bool {
    matches!(addr, IpAddr::V6(a) if a.is_unicast_link_local())
}

fn ip(addr: &RouteAddress) -> Option<IpAddr> {
    match addr {
        RouteAddress::Inet(a) => Some(IpAddr::V4(*a)),
        RouteAddress::Inet6(a) => Some(IpAddr::V6(*a)),
        _ => None,
    }
}
