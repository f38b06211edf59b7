//! Reads what is on the dummy, in full or as a quick check.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::Family;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};

use super::super::KernelError;
use super::super::netlink::Socket;
use super::Links;
use super::decode::{NEW_ADDRESS, NEW_ROUTE, interface_address, route};
use super::message::af;

/// The result of [`Links::intact`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernel) enum Intact {
    Whole,
    NoLink,
    NoAddress,
}

impl<S: Socket> Links<S> {
    /// Whether the dummy is the one that was prepared and is up, and whether an address (a service's, on the dummy or on the
    /// node) is local. Two requests.
    pub(in crate::kernel) async fn intact(
        &mut self,
        addr: Option<IpAddr>,
    ) -> Result<Intact, KernelError> {
        let before = self.index;
        let dummy = self.find().await?.filter(|d| d.up);
        if dummy.is_none_or(|d| before.is_some_and(|index| index != d.index)) {
            return Ok(Intact::NoLink);
        }
        let Some(addr) = addr else {
            return Ok(Intact::Whole);
        };
        let mut message = RouteMessage::default();
        let family = Family::of(addr);
        message.header.address_family = af(family);
        message.header.destination_prefix_length = family.bits();
        message.attributes = vec![RouteAttribute::Destination(RouteAddress::from(addr))];
        let request = RouteNetlinkMessage::GetRoute(message);
        let answer = self.channel.get(request, |kind, payload| match kind {
            NEW_ROUTE => route(payload),
            _ => Ok(None),
        });
        Ok(match answer.await? {
            Ok(Some(route)) if route.local => Intact::Whole,
            // Routed elsewhere, or not at all.
            Ok(_) | Err(_) => Intact::NoAddress,
        })
    }

    /// The service addresses on the dummy: its IPv4 addresses, and the IPv6 addresses with a local route through it.
    pub(in crate::kernel) async fn read(&mut self) -> Result<BTreeSet<IpAddr>, KernelError> {
        let Some(dummy) = self.find().await? else {
            return Ok(BTreeSet::new());
        };
        let v4 = self.addresses(Family::V4, dummy.index).await?;
        let mut out: BTreeSet<IpAddr> = v4.into_keys().collect();
        let routes = self.routes(dummy.index).await?;
        out.extend(routes.into_keys().filter(IpAddr::is_ipv6));
        Ok(out)
    }

    /// Addresses of one family on the link with their scopes, except for the link's own link-local address.
    pub(super) async fn addresses(
        &mut self,
        family: Family,
        index: u32,
    ) -> Result<BTreeMap<IpAddr, u8>, KernelError> {
        let mut message = AddressMessage::default();
        message.header.family = af(family);
        let request = RouteNetlinkMessage::GetAddress(message);
        let found = self
            .channel
            .dump(request, BTreeMap::new, |out, kind, payload| {
                if kind == NEW_ADDRESS
                    && let Some(found) = interface_address(payload)?
                    && found.index == index
                    && Family::of(found.addr) == family
                {
                    out.insert(found.addr, found.scope);
                }
                Ok(())
            });
        match found.await {
            // A kernel without IPv6.
            Err(KernelError::Refused { .. }) if family == Family::V6 => Ok(BTreeMap::new()),
            found => found,
        }
    }

    /// Local host routes through the link with their preferred source. If several lead to one address, one with the right source
    /// is used.
    pub(super) async fn routes(
        &mut self,
        index: u32,
    ) -> Result<BTreeMap<IpAddr, Option<IpAddr>>, KernelError> {
        let mut out = BTreeMap::new();
        for family in Family::ALL {
            let mut message = RouteMessage::default();
            message.header.address_family = af(family);
            let wanted = match family {
                Family::V4 => self.node_v4.map(IpAddr::V4),
                Family::V6 => self.node_v6.map(IpAddr::V6),
            };
            let request = RouteNetlinkMessage::GetRoute(message);
            let routes = self
                .channel
                .dump(request, BTreeMap::new, |out, kind, payload| {
                    if kind == NEW_ROUTE
                        && let Some(route) = route(payload)?
                        && let Some((addr, source)) = route.host(index)
                    {
                        let entry = out.entry(addr).or_insert(source);
                        if source == wanted {
                            *entry = source;
                        }
                    }
                    Ok(())
                });
            match routes.await {
                Ok(routes) => out.extend(routes),
                // A kernel without IPv6.
                Err(KernelError::Refused { .. }) if family == Family::V6 => {}
                Err(e) => return Err(e),
            }
        }
        Ok(out)
    }
}
