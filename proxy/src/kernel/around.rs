//! The node's surroundings, read from the kernel: interfaces, routes and neighbours over rtnetlink, sockets over sock_diag.
//!
//! It only reads. Everything belongs to the network namespace of the thread that called [`Around::open`].

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourMessage, NeighbourState};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;

use super::KernelError;
use super::links::LINK;
use super::netlink::attr::Malformed;
use super::netlink::{Channel, NetlinkSocket, refused};
use crate::surroundings::Surroundings;

mod decode;
mod sockets;

use sockets::Sockets;

const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

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
        let dummy = self.dummy().await?;
        let mut around = Surroundings::default();
        for family in FAMILIES {
            self.family(family, dummy, &mut around).await?;
        }
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

    /// Index of the interface with the service addresses. The addresses on it are ours and not part of the surroundings.
    async fn dummy(&mut self) -> Result<Option<u32>, KernelError> {
        let mut message = LinkMessage::default();
        let name = LinkAttribute::IfName(LINK.to_owned());
        message.attributes.push(name);
        let request = RouteNetlinkMessage::GetLink(message);
        let answer = self.channel.get(request, decode::link).await?;
        match answer {
            Ok(index) => Ok(index),
            Err(e) if e.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(None),
            Err(e) => Err(refused(format!("find {LINK}"), e)),
        }
    }

    async fn family(
        &mut self,
        family: AddressFamily,
        dummy: Option<u32>,
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
            all.interfaces.extend(decode::interface(message, dummy)?);
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
            around.family(family, None, &mut found).await.unwrap();
            if family == AddressFamily::Inet {
                let loopback = IpAddr::from([127, 0, 0, 1]);
                assert!(found.interfaces.contains(&loopback), "{found:?}");
            }
        }
        around.dummy().await.unwrap();
    }
}
