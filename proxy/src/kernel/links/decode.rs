//! The parts of rtnetlink(7) messages about links, addresses and routes that are used.

use std::net::IpAddr;

use ferrolb_api::Family;
use netlink_packet_route::route::RouteType;

use super::super::netlink::attr::{Malformed, address, attributes, behind, text, u32_of};
use super::message::{TABLE_LOCAL, af};

/// `RTM_NEWLINK`, `RTM_NEWADDR`, `RTM_NEWROUTE`.
pub(super) const NEW_LINK: u16 = 16;
pub(super) const NEW_ADDRESS: u16 = 20;
pub(super) const NEW_ROUTE: u16 = 24;
/// Lengths of `struct ifinfomsg`, `ifaddrmsg` and `rtmsg`.
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;
/// `IFF_UP`.
const UP: u32 = 1;
/// `IFLA_LINKINFO` and `IFLA_INFO_KIND` in it.
pub(super) const LINK_INFO: u16 = 18;
pub(super) const INFO_KIND: u16 = 1;
/// `IFA_ADDRESS`, `IFA_LOCAL`.
pub(super) const ADDRESS: u16 = 1;
pub(super) const LOCAL: u16 = 2;
/// `RTA_DST`, `RTA_OIF`, `RTA_PREFSRC`.
pub(super) const DESTINATION: u16 = 1;
pub(super) const OUT: u16 = 4;
pub(super) const SOURCE: u16 = 7;

/// A link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dummy {
    pub(super) index: u32,
    pub(super) up: bool,
    /// Whether it is of the kind `dummy`, and not another link with that name.
    pub(super) is_dummy: bool,
}

/// An address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) index: u32,
    /// `rt_scope`.
    pub(super) scope: u8,
    pub(super) addr: IpAddr,
}

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    /// Whether its type is `local`. The answer to a lookup names no particular table.
    pub(super) local: bool,
    /// Whether it is in the table `local`.
    pub(super) in_local_table: bool,
    /// Prefix length.
    pub(super) length: u8,
    /// The destination; `None`: everywhere.
    pub(super) destination: Option<IpAddr>,
    /// Index of the outgoing link.
    pub(super) out: Option<u32>,
    /// The preferred source.
    pub(super) source: Option<IpAddr>,
}

fn family(af: u8) -> Option<Family> {
    let same = |family: &Family| u8::from(self::af(*family)) == af;
    Family::ALL.into_iter().find(same)
}

/// An address of that family.
fn addr(of: Family, value: &[u8]) -> Option<IpAddr> {
    address(value).filter(|a| Family::of(*a) == of)
}

/// The link's own link-local address is not a service address.
fn is_link_local(addr: &IpAddr) -> bool {
    matches!(addr, IpAddr::V6(a) if a.is_unicast_link_local())
}

pub(super) fn link(payload: &[u8]) -> Result<Dummy, Malformed> {
    let word = |at: usize| payload.get(at..at + 4).and_then(u32_of);
    let (Some(index), Some(flags)) = (word(4), word(8)) else {
        return Err(Malformed("the header of a link"));
    };
    let mut is_dummy = false;
    for attribute in attributes(behind(payload, LINK_HEADER)?) {
        let (kind, value) = attribute?;
        if kind == LINK_INFO {
            for inner in attributes(value) {
                let (kind, value) = inner?;
                is_dummy |= kind == INFO_KIND && text(value) == Some("dummy");
            }
        }
    }
    Ok(Dummy {
        index,
        up: flags & UP != 0,
        is_dummy,
    })
}

/// `None` if it is of another family, or the link's own link-local address.
pub(super) fn interface_address(payload: &[u8]) -> Result<Option<Address>, Malformed> {
    let [af, _, _, scope, index @ ..] = payload else {
        return Err(Malformed("the header of an address"));
    };
    let index = index.get(..4).and_then(u32_of);
    let index = index.ok_or(Malformed("the header of an address"))?;
    let Some(family) = family(*af) else {
        return Ok(None);
    };
    let (mut local, mut other) = (None, None);
    for attribute in attributes(behind(payload, ADDRESS_HEADER)?) {
        let (kind, value) = attribute?;
        match kind {
            LOCAL => local = addr(family, value),
            // The only one that IPv6 sends.
            ADDRESS => other = addr(family, value),
            _ => {}
        }
    }
    let addr = local.or(other).filter(|a| !is_link_local(a));
    Ok(addr.map(|addr| Address {
        index,
        scope: *scope,
        addr,
    }))
}

/// `None` if it is of another family.
pub(super) fn route(payload: &[u8]) -> Result<Option<Route>, Malformed> {
    let [af, length, _, _, table, _, _, kind, ..] = *payload else {
        return Err(Malformed("the header of a route"));
    };
    let Some(family) = family(af) else {
        return Ok(None);
    };
    let mut route = Route {
        local: kind == u8::from(RouteType::Local),
        in_local_table: table == TABLE_LOCAL,
        length,
        destination: None,
        out: None,
        source: None,
    };
    for attribute in attributes(behind(payload, ROUTE_HEADER)?) {
        let (kind, value) = attribute?;
        match kind {
            DESTINATION => route.destination = addr(family, value),
            OUT => route.out = u32_of(value),
            SOURCE => route.source = addr(family, value),
            _ => {}
        }
    }
    Ok(Some(route))
}

impl Route {
    /// Address and source, if this is a local route to one address through the link.
    pub(super) fn host(&self, index: u32) -> Option<(IpAddr, Option<IpAddr>)> {
        let addr = self.destination.filter(|a| !is_link_local(a))?;
        let whole = self.length == Family::of(addr).bits();
        (self.local && self.in_local_table && whole && self.out == Some(index))
            .then_some((addr, self.source))
    }
}
