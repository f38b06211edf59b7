//! What is on the dummy, wholly and at a glance.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink_packet_route::address::{AddressMessage, AddressScope};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::super::KernelError;
use super::Links;
use super::message::{address_of, host_route};

/// What [`Links::intact`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernel) enum Intact {
    Whole,
    NoLink,
    NoAddress,
}

impl Links {
    /// Whether the dummy is the one that was prepared, and up, and an address (of a service, on it or on the node) is local. Two requests.
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
        (
            message.header.address_family,
            message.header.destination_prefix_length,
        ) = match addr {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        message.attributes = vec![RouteAttribute::Destination(RouteAddress::from(addr))];
        let request = RouteNetlinkMessage::GetRoute(message);
        Ok(match self.channel.get(request).await? {
            Ok(RouteNetlinkMessage::NewRoute(route)) if route.header.kind == RouteType::Local => {
                Intact::Whole
            }
            // Led elsewhere, or nowhere.
            Ok(_) | Err(_) => Intact::NoAddress,
        })
    }

    /// The service addresses on the dummy: its IPv4 addresses, and the IPv6 addresses with a local route through it.
    pub(in crate::kernel) async fn read(&mut self) -> Result<BTreeSet<IpAddr>, KernelError> {
        let Some(dummy) = self.find().await? else {
            return Ok(BTreeSet::new());
        };
        let v4 = self.addresses(AddressFamily::Inet, dummy.index).await?;
        let mut out: BTreeSet<IpAddr> = v4.into_keys().collect();
        let routes = self.routes(dummy.index).await?;
        out.extend(routes.into_keys().filter(IpAddr::is_ipv6));
        Ok(out)
    }

    /// Addresses of a family on the link, but for its own link-local one.
    pub(super) async fn addresses(
        &mut self,
        family: AddressFamily,
        index: u32,
    ) -> Result<BTreeMap<IpAddr, AddressScope>, KernelError> {
        let mut message = AddressMessage::default();
        message.header.family = family;
        let found = self
            .channel
            .dump(
                RouteNetlinkMessage::GetAddress(message),
                BTreeMap::new,
                |out, m: RouteNetlinkMessage| {
                    if let RouteNetlinkMessage::NewAddress(address) = m
                        && address.header.index == index
                        && address.header.family == family
                    {
                        let scope = address.header.scope;
                        out.extend(address_of(&address).map(|addr| (addr, scope)));
                    }
                    Ok(())
                },
            )
            .await;
        match found {
            // A kernel without IPv6.
            Err(KernelError::Refused { .. }) if family == AddressFamily::Inet6 => {
                Ok(BTreeMap::new())
            }
            found => found,
        }
    }

    /// Local host routes through the link with their preferred source. Where several lead to one address, one with the right source counts.
    pub(super) async fn routes(
        &mut self,
        index: u32,
    ) -> Result<BTreeMap<IpAddr, Option<IpAddr>>, KernelError> {
        let mut out = BTreeMap::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let (v4, v6) = (self.node_v4.map(IpAddr::V4), self.node_v6.map(IpAddr::V6));
            let routes = self
                .channel
                .dump(
                    RouteNetlinkMessage::GetRoute(message),
                    BTreeMap::new,
                    |out, m: RouteNetlinkMessage| {
                        if let RouteNetlinkMessage::NewRoute(route) = m
                            && let Some((addr, source)) = host_route(&route, index)
                        {
                            let wanted = if addr.is_ipv4() { v4 } else { v6 };
                            let entry = out.entry(addr).or_insert(source);
                            if source == wanted {
                                *entry = source;
                            }
                        }
                        Ok(())
                    },
                )
                .await;
            match routes {
                Ok(routes) => out.extend(routes),
                // A kernel without IPv6.
                Err(KernelError::Refused { .. }) if family == AddressFamily::Inet6 => {}
                Err(e) => return Err(e),
            }
        }
        Ok(out)
    }
}
