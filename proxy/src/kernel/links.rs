//! `kube-ipvs0` and the service addresses on it, over rtnetlink.
//!
//! An IPv4 address goes on the dummy with scope host, and the local route that the kernel makes for it is replaced by one with the
//! node's address as preferred source: a service address never becomes the source of the node's own packets. For IPv6 the local
//! route alone does (the kernel's own, added from a work queue, cannot be replaced and would be a race to delete).
//!
//! What another proxy left is adopted without a gap: an IPv4 address keeps its scope (a scope cannot be changed in place) and gets
//! our route; an IPv6 address gets our route and is then taken off, and with it the kernel's own route.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::AddressScope;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteProtocol, RouteScope};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;

use super::netlink::{Channel, Request, refused};
use super::{KernelError, Op};

/// Name of the dummy: the one that kube-proxy uses, so that its entries are adopted and users find theirs.
pub const LINK: &str = "kube-ipvs0";

mod message;
mod read;

use message::{add_address, del_address, gone, local_route};
pub(super) use read::Intact;

type Message = Request<RouteNetlinkMessage>;

/// The dummy of one network namespace.
#[derive(Debug)]
pub(super) struct Links {
    channel: Channel,
    node_v4: Option<Ipv4Addr>,
    node_v6: Option<Ipv6Addr>,
    /// Addresses in here are left as they are.
    excluded: Vec<IpNet>,
    /// Index of the dummy, as far as known.
    index: Option<u32>,
}

/// What is known of the dummy.
struct Dummy {
    index: u32,
    up: bool,
    is_dummy: bool,
}

impl Links {
    pub(super) fn open(
        node_v4: Option<Ipv4Addr>,
        node_v6: Option<Ipv6Addr>,
        excluded: Vec<IpNet>,
    ) -> Result<Self, KernelError> {
        Ok(Self {
            channel: Channel::open(NETLINK_ROUTE, "rtnetlink")?,
            node_v4,
            node_v6,
            excluded,
            index: None,
        })
    }

    async fn find(&mut self) -> Result<Option<Dummy>, KernelError> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(LINK.to_owned()));
        let found = match self
            .channel
            .get(RouteNetlinkMessage::GetLink(message))
            .await?
        {
            Ok(RouteNetlinkMessage::NewLink(link)) => {
                let is_dummy = link.attributes.iter().any(|a| match a {
                    LinkAttribute::LinkInfo(infos) => {
                        infos.contains(&LinkInfo::Kind(InfoKind::Dummy))
                    }
                    _ => false,
                });
                Some(Dummy {
                    index: link.header.index,
                    up: link.header.flags.contains(LinkFlags::Up),
                    is_dummy,
                })
            }
            Ok(_) => None,
            Err(e) if e.raw_os_error() == Some(Errno::ENODEV as i32) => None,
            Err(e) => return Err(refused(format!("find {LINK}"), e)),
        };
        self.index = found.as_ref().map(|d| d.index);
        Ok(found)
    }

    /// Makes the dummy be there and up, and the routes of the addresses on it have the node's address as source.
    pub(super) async fn prepare(&mut self) -> Result<(), KernelError> {
        let dummy = self.find().await?;
        if !dummy.is_some_and(|d| d.up) {
            let mut message = LinkMessage::default();
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
            message.attributes = vec![
                LinkAttribute::IfName(LINK.to_owned()),
                LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Dummy)]),
            ];
            let request = Request::new(NLM_F_CREATE, RouteNetlinkMessage::NewLink(message));
            match self.channel.pipeline(&[request]).await?.pop().flatten() {
                None => {}
                Some(e) if e.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {
                    return Err(KernelError::Missing {
                        what: "dummy interfaces".to_owned(),
                        hint: "run `modprobe dummy` or use a kernel with CONFIG_DUMMY".to_owned(),
                    });
                }
                Some(e) => return Err(refused(format!("create {LINK}"), e)),
            }
            self.find().await?;
        }
        let Some(index) = self.index else {
            return Ok(());
        };
        self.adopt(index).await
    }

    /// Brings the addresses that are on the link into the form that we give them.
    async fn adopt(&mut self, index: u32) -> Result<(), KernelError> {
        let mut addresses = self.addresses(AddressFamily::Inet, index).await?;
        let global = addresses
            .values()
            .filter(|s| **s != AddressScope::Host)
            .count();
        if global > 0 {
            tracing::info!(
                addresses = global,
                "addresses on {LINK} that another proxy put there keep their scope"
            );
        }
        addresses.extend(self.addresses(AddressFamily::Inet6, index).await?);
        let routes = self.routes(index).await?;
        let mut messages: Vec<Message> = Vec::new();
        for addr in addresses.into_keys() {
            if self.excluded.iter().any(|net| net.contains(&addr)) {
                continue;
            }
            if addr.is_ipv6() {
                messages.push(self.route(addr, index));
                messages.push(del_address(addr, index));
            } else if routes.get(&addr) != Some(&self.source(addr)) {
                messages.push(self.route(addr, index));
            }
        }
        for error in self
            .channel
            .pipeline(&messages)
            .await?
            .into_iter()
            .flatten()
        {
            if !gone(&error) {
                tracing::warn!(%error, "an address on {LINK} cannot be brought into our form");
            }
        }
        Ok(())
    }

    fn source(&self, addr: IpAddr) -> Option<IpAddr> {
        match addr {
            IpAddr::V4(_) => self.node_v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.node_v6.map(IpAddr::V6),
        }
    }

    /// The message that makes or replaces the local route of an address.
    fn route(&self, addr: IpAddr, index: u32) -> Message {
        let mut message = local_route(addr, index);
        message.header.scope = match addr {
            IpAddr::V4(_) => RouteScope::Host,
            IpAddr::V6(_) => RouteScope::Universe,
        };
        message.header.protocol = RouteProtocol::Static;
        message.attributes.extend(
            self.source(addr)
                .map(|a| RouteAttribute::PrefSource(RouteAddress::from(a))),
        );
        Request::new(
            NLM_F_CREATE | NLM_F_REPLACE,
            RouteNetlinkMessage::NewRoute(message),
        )
    }

    /// Applies the operations on addresses in order; others are skipped.
    pub(super) async fn apply(&mut self, ops: &[Op]) -> Vec<(usize, KernelError)> {
        let found = match self.index {
            Some(index) => Ok(Some(index)),
            None => self.find().await.map(|d| d.map(|d| d.index)),
        };
        let mut messages = Vec::new();
        let mut owners = Vec::new();
        let mut errors = Vec::new();
        for (i, op) in ops.iter().enumerate() {
            let (addr, add) = match op {
                Op::AddAddress(addr) => (*addr, true),
                Op::DelAddress(addr) => (*addr, false),
                _ => continue,
            };
            let index = match &found {
                Ok(Some(index)) => *index,
                Ok(None) if !add => continue,
                Ok(None) => {
                    let source = io::Error::from_raw_os_error(Errno::ENODEV as i32);
                    errors.push((i, refused(format!("add {addr} to {LINK}"), source)));
                    continue;
                }
                Err(e) => {
                    errors.push((i, refused(e.to_string(), io::ErrorKind::Other.into())));
                    continue;
                }
            };
            let before = messages.len();
            if add {
                messages.extend(add_address(addr, index));
                messages.push(self.route(addr, index));
            } else {
                messages.push(del_address(addr, index));
                messages.push(Request::new(
                    0,
                    RouteNetlinkMessage::DelRoute(local_route(addr, index)),
                ));
            }
            owners.extend(std::iter::repeat_n((i, addr, add), messages.len() - before));
        }
        match self.channel.pipeline(&messages).await {
            Err(e) => errors.extend(owners.first().map(|(i, ..)| (*i, e))),
            Ok(results) => {
                for ((i, addr, add), error) in owners.into_iter().zip(results) {
                    let Some(error) = error else { continue };
                    if error.raw_os_error() == Some(Errno::ENODEV as i32) {
                        // The dummy was deleted, and perhaps made again with another index.
                        self.index = None;
                    }
                    if add {
                        errors.push((i, refused(format!("add {addr} to {LINK}"), error)));
                    } else if !gone(&error) {
                        errors.push((i, refused(format!("delete {addr} from {LINK}"), error)));
                    }
                }
            }
        }
        errors.sort_by_key(|(i, _)| *i);
        errors.dedup_by_key(|(i, _)| *i);
        errors
    }

    /// Deletes the dummy; its addresses and routes go with it. A link of another kind with that name is not ours.
    pub(super) async fn delete(&mut self) -> Result<(), KernelError> {
        let Some(dummy) = self.find().await?.filter(|d| d.is_dummy) else {
            return Ok(());
        };
        let mut message = LinkMessage::default();
        message.header.index = dummy.index;
        let request = Request::new(0, RouteNetlinkMessage::DelLink(message));
        self.index = None;
        match self.channel.pipeline(&[request]).await?.pop().flatten() {
            Some(e) if !gone(&e) => Err(refused(format!("delete {LINK}"), e)),
            _ => Ok(()),
        }
    }
}
