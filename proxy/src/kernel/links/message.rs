//! Messages about the dummy's addresses and local routes.

use std::io;
use std::net::IpAddr;

use ferrolb_api::Family;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use super::super::netlink::Request;
use super::Message;

/// `RT_TABLE_LOCAL`.
pub(super) const TABLE_LOCAL: u8 = 255;

/// The rtnetlink number of a family.
pub(super) fn af(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

pub(super) fn gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::ENODEV | Errno::EADDRNOTAVAIL | Errno::ESRCH | Errno::ENOENT)
    )
}

fn address_message(addr: IpAddr, index: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    let family = Family::of(addr);
    (message.header.family, message.header.prefix_len) = (af(family), family.bits());
    message.attributes = vec![
        AddressAttribute::Local(addr),
        AddressAttribute::Address(addr),
    ];
    message
}

/// IPv4 only. For IPv6 the route alone makes an address local.
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

/// Also for IPv6, because another proxy may have added the address.
pub(super) fn del_address(addr: IpAddr, index: u32) -> Message {
    let message = address_message(addr, index);
    Request::new(0, RouteNetlinkMessage::DelAddress(message))
}

pub(super) fn local_route(addr: IpAddr, index: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    let family = Family::of(addr);
    message.header.address_family = af(family);
    message.header.destination_prefix_length = family.bits();
    message.header.table = TABLE_LOCAL;
    message.header.kind = RouteType::Local;
    // For a deletion: matches any scope.
    message.header.scope = RouteScope::NoWhere;
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::from(addr)),
        RouteAttribute::Oif(index),
    ];
    message
}
