//! The node's surroundings, read from the kernel: interfaces, routes and neighbours over rtnetlink, sockets over sock_diag.
//!
//! It only reads. Everything belongs to the network namespace of the thread that called [`Around::open`].

use std::collections::BTreeMap;

use ferrolb_api::proxy_config::InterfaceName;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{NeighbourMessage, NeighbourState};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::KernelError;
use super::links::LINK;
use super::netlink::attr::Malformed;
use super::netlink::{Channel, NetlinkSocket};
use crate::surroundings::{Link, Surroundings, is_link_local};

mod decode;
mod sockets;

use sockets::Sockets;

const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// Interfaces by index.
type Links = BTreeMap<u32, (InterfaceName, Link)>;

/// The netlink channels.
#[derive(Debug)]
pub(super) struct Around {
    channel: Channel<NetlinkSocket>,
    sockets: Sockets,
    /// Why the listening sockets could not be read, as it was logged.
    unread: Option<String>,
}

impl Around {
    pub(super) fn open() -> Result<Self, KernelError> {
        Ok(Self {
            channel: Channel::open(NETLINK_ROUTE, "rtnetlink", false)?,
            sockets: Sockets::default(),
            unread: None,
        })
    }

    /// Reads everything.
    pub(super) async fn read(&mut self) -> Result<Surroundings, KernelError> {
        let mut around = Surroundings::default();
        let mut links = self.links().await?;
        // The addresses on it are ours and not part of the surroundings.
        let mut dummy = links.iter().filter(|(_, (name, _))| name.as_str() == LINK);
        let dummy = dummy.next().map(|(index, _)| *index);
        for family in FAMILIES {
            self.family(family, dummy, &mut links, &mut around).await?;
        }
        let known = |(name, link): &(InterfaceName, Link)| {
            name.as_str() != "lo" && (link.tunnel || !link.addresses.is_empty())
        };
        around.links = links.into_values().filter(known).collect();
        around.listeners = match self.sockets.read().await {
            Ok(listeners) => {
                self.unread = None;
                Some(listeners)
            }
            Err(error) => {
                let error = error.to_string();
                if self.unread.as_ref() != Some(&error) {
                    tracing::warn!(
                        %error,
                        "the listening sockets of this node cannot be read, so no Service gets a port of the node's own addresses by \
                         spec.externalIPs: use a kernel with tcp_diag and udp_diag (CONFIG_INET_DIAG, CONFIG_INET_UDP_DIAG)"
                    );
                }
                self.unread = Some(error);
                None
            }
        };
        Ok(around)
    }

    /// All interfaces by index, without their addresses.
    async fn links(&mut self) -> Result<Links, KernelError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let each = |all: &mut Links, kind, payload: &[u8]| {
            let link = decode::link(kind, payload)?;
            all.extend(link.map(|(index, name, tunnel)| {
                let link = Link {
                    tunnel,
                    ..Link::default()
                };
                (index, (name, link))
            }));
            Ok(())
        };
        self.channel.dump(request, Links::default, each).await
    }

    async fn family(
        &mut self,
        family: AddressFamily,
        dummy: Option<u32>,
        links: &mut Links,
        around: &mut Surroundings,
    ) -> Result<(), KernelError> {
        let mut address = AddressMessage::default();
        address.header.family = family;
        let mut route = RouteMessage::default();
        route.header.address_family = family;
        let mut neighbour = NeighbourMessage::default();
        neighbour.header.family = family;
        neighbour.header.state = NeighbourState::None;

        let interfaces = self.dump(RouteNetlinkMessage::GetAddress(address), |all, message| {
            let Some((index, address)) = decode::interface(message, dummy)? else {
                return Ok(());
            };
            all.interfaces.insert(address);
            if let Some((_, link)) = links.get_mut(&index).filter(|_| !is_link_local(address)) {
                link.addresses.insert(address);
            }
            Ok(())
        });
        let interfaces = interfaces.await;
        if family == AddressFamily::Inet6 && matches!(interfaces, Err(KernelError::Refused { .. }))
        {
            // A kernel without IPv6.
            return Ok(());
        }
        around.interfaces.extend(interfaces?.interfaces);
        let routes = self.dump(RouteNetlinkMessage::GetRoute(route), |all, message| {
            decode::gateways(message, &mut all.gateways)
        });
        around.gateways.extend(routes.await?.gateways);
        let neighbours = RouteNetlinkMessage::GetNeighbour(neighbour);
        let neighbours = self.dump(neighbours, |all, message| {
            all.neighbours.extend(decode::neighbour(message, dummy)?);
            Ok(())
        });
        around.neighbours.extend(neighbours.await?.neighbours);
        Ok(())
    }

    async fn dump(
        &mut self,
        request: RouteNetlinkMessage,
        mut each: impl FnMut(&mut Surroundings, (u16, &[u8])) -> Result<(), Malformed>,
    ) -> Result<Surroundings, KernelError> {
        let each = |all: &mut Surroundings, kind, payload: &[u8]| each(all, (kind, payload));
        self.channel
            .dump(request, Surroundings::default, each)
            .await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::net::IpAddr;

    use super::*;

    #[tokio::test]
    async fn the_kernel_of_this_machine_understands_every_request() {
        let mut around = Around::open().unwrap();
        for family in FAMILIES {
            let mut found = Surroundings::default();
            let mut links = around.links().await.unwrap();
            let lo = InterfaceName::new("lo");
            assert!(links.values().any(|(name, _)| Some(*name) == lo));
            around
                .family(family, None, &mut links, &mut found)
                .await
                .unwrap();
            if family == AddressFamily::Inet {
                let loopback = IpAddr::from([127, 0, 0, 1]);
                assert!(found.interfaces.contains(&loopback), "{found:?}");
            }
        }
    }
}
