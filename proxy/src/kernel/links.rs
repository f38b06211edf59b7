//! `kube-ipvs0` and the service addresses on it, over rtnetlink.
//!
//! An IPv4 address goes on the dummy with scope host. The local route that the kernel creates for it is replaced by one with the
//! node's address as preferred source, so a service address never becomes the source of the node's own packets. For IPv6 only a
//! local route is added. The kernel's own IPv6 route, which it adds from a work queue, cannot be replaced, and deleting it would
//! be a race.
//!
//! Addresses that another proxy left are adopted without a gap. An IPv4 address keeps its scope (a scope cannot be changed in
//! place) and gets our route. An IPv6 address gets our route and is then removed, together with the kernel's own route.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ferrolb_api::Family;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressScope;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteProtocol, RouteScope};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;

use super::netlink::{Channel, NetlinkSocket, Outcome, Request, Socket, refused};
use super::{KernelError, Op};

/// Name of the dummy. kube-proxy uses the same one, so its entries are adopted and users find theirs.
pub const LINK: &str = "kube-ipvs0";

mod decode;
#[cfg(test)]
pub(super) mod fake;
mod message;
mod read;
#[cfg(test)]
mod tests;

use decode::{Dummy, NEW_LINK, link};
use message::{add_address, del_address, gone, local_route};
pub(super) use read::Intact;

type Message = Request<RouteNetlinkMessage>;

/// The dummy of one network namespace.
#[derive(Debug)]
pub(super) struct Links<S> {
    channel: Channel<S>,
    node_v4: Option<Ipv4Addr>,
    node_v6: Option<Ipv6Addr>,
    /// Addresses in these networks are left unchanged.
    excluded: Vec<IpNet>,
    /// Index of the dummy, if known.
    index: Option<u32>,
}

impl Links<NetlinkSocket> {
    pub(super) fn open(
        node_v4: Option<Ipv4Addr>,
        node_v6: Option<Ipv6Addr>,
        excluded: Vec<IpNet>,
    ) -> Result<Self, KernelError> {
        let channel = Channel::open(NETLINK_ROUTE, "rtnetlink", false)?;
        Ok(Self::over(channel, node_v4, node_v6, excluded))
    }
}

impl<S: Socket> Links<S> {
    /// The same, over an existing channel.
    pub(super) fn over(
        channel: Channel<S>,
        node_v4: Option<Ipv4Addr>,
        node_v6: Option<Ipv6Addr>,
        excluded: Vec<IpNet>,
    ) -> Self {
        Self {
            channel,
            node_v4,
            node_v6,
            excluded,
            index: None,
        }
    }

    async fn find(&mut self) -> Result<Option<Dummy>, KernelError> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(LINK.to_owned()));
        let request = RouteNetlinkMessage::GetLink(message);
        let answer = self.channel.get(request, |kind, payload| match kind {
            NEW_LINK => link(payload).map(Some),
            _ => Ok(None),
        });
        let found = match answer.await? {
            Ok(found) => found,
            Err(e) if e.raw_os_error() == Some(Errno::ENODEV as i32) => None,
            Err(e) => return Err(refused(format!("find {LINK}"), e)),
        };
        self.index = found.as_ref().map(|d| d.index);
        Ok(found)
    }

    /// Ensures that the dummy exists and is up, and that the routes of its addresses have the node's address as source.
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
            match self.one(request).await {
                Outcome::Refused(e) if e.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {
                    return Err(KernelError::Missing {
                        what: "dummy interfaces".to_owned(),
                        hint: "run `modprobe dummy` or use a kernel with CONFIG_DUMMY".to_owned(),
                    });
                }
                outcome => outcome
                    .error(|| format!("create {LINK}"))
                    .map_or(Ok(()), Err)?,
            }
            self.find().await?;
        }
        let Some(index) = self.index else {
            return Ok(());
        };
        self.adopt(index).await
    }

    /// Converts the addresses on the link to the form in which we add them.
    async fn adopt(&mut self, index: u32) -> Result<(), KernelError> {
        let mut addresses = self.addresses(Family::V4, index).await?;
        let global = addresses
            .values()
            .filter(|s| **s != u8::from(AddressScope::Host))
            .count();
        if global > 0 {
            tracing::info!(
                addresses = global,
                "addresses on {LINK} that another proxy put there keep their scope"
            );
        }
        addresses.extend(self.addresses(Family::V6, index).await?);
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
        for outcome in self.channel.pipeline(&messages).await {
            match outcome {
                Outcome::Refused(e) if gone(&e) => {}
                outcome => {
                    if let Some(error) = outcome.error(|| format!("adopt an address on {LINK}")) {
                        tracing::warn!(%error, "an address that another proxy put on {LINK} stays as it is");
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends one request.
    async fn one(&mut self, request: Message) -> Outcome {
        let mut outcomes = self.channel.pipeline(&[request]).await;
        outcomes.pop().unwrap_or(Outcome::Unsent)
    }

    fn source(&self, addr: IpAddr) -> Option<IpAddr> {
        match addr {
            IpAddr::V4(_) => self.node_v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.node_v6.map(IpAddr::V6),
        }
    }

    /// The message that creates or replaces the local route of an address.
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

    /// Applies the operations on addresses in order and skips all others. Returns those that were not done.
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
                    errors.push((i, refused(describe(addr, add), source)));
                    continue;
                }
                Err(e) if e.is_unanswered() => {
                    let what = describe(addr, add);
                    errors.push((i, KernelError::Unsent { what }));
                    continue;
                }
                Err(e) => {
                    errors.push((i, e.again()));
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
            owners.push((i, addr, add, messages.len() - before));
        }
        let mut outcomes = self.channel.pipeline(&messages).await.into_iter();
        for (i, addr, add, count) in owners {
            let mut whole = Outcome::Done;
            for (at, outcome) in outcomes.by_ref().take(count).enumerate() {
                if let Outcome::Refused(e) = &outcome {
                    // The dummy was deleted, and perhaps created again with another index.
                    if e.raw_os_error() == Some(Errno::ENODEV as i32) {
                        self.index = None;
                    }
                    if !add && gone(e) {
                        continue;
                    }
                }
                whole = match (whole, outcome) {
                    (Outcome::Done, Outcome::Unsent) if at > 0 => Outcome::Unanswered,
                    (Outcome::Done, outcome) | (_, outcome @ Outcome::Unanswered) => outcome,
                    (whole, _) => whole,
                };
            }
            errors.extend(whole.error(|| describe(addr, add)).map(|e| (i, e)));
        }
        errors.sort_by_key(|(i, _)| *i);
        errors
    }

    /// Deletes the dummy together with its addresses and routes. A link of another kind with that name is not ours and stays.
    pub(super) async fn delete(&mut self) -> Result<(), KernelError> {
        let Some(dummy) = self.find().await?.filter(|d| d.is_dummy) else {
            return Ok(());
        };
        let mut message = LinkMessage::default();
        message.header.index = dummy.index;
        let request = Request::new(0, RouteNetlinkMessage::DelLink(message));
        self.index = None;
        match self.one(request).await {
            Outcome::Refused(e) if gone(&e) => Ok(()),
            outcome => outcome
                .error(|| format!("delete {LINK}"))
                .map_or(Ok(()), Err),
        }
    }
}

fn describe(addr: IpAddr, add: bool) -> String {
    if add {
        format!("add {addr} to {LINK}")
    } else {
        format!("delete {addr} from {LINK}")
    }
}
