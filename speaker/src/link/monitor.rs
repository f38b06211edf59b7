//! Follows the kernel's interfaces and addresses over rtnetlink(7): one subscription first, then a dump, so nothing that
//! happens in between is lost (repeated changes do no harm). It only translates; `state` keeps.

use std::io;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::state::{Link, LinkAddress, LinkChange, Links};
use crate::frame::arp::Mac;

/// How often everything is read again: a socket that overran has lost reports.
const AUDIT: Duration = Duration::from_secs(60);
/// `INFINITY_LIFE_TIME` of linux/if_addr.h.
const FOREVER: u32 = u32::MAX;

/// What follows the interfaces.
#[derive(Debug)]
pub struct Monitor {
    changes: mpsc::Receiver<LinkChange>,
    handle: Handle,
    tasks: [JoinHandle<()>; 3],
}

impl Drop for Monitor {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn failed(e: rtnetlink::Error) -> io::Error {
    io::Error::other(format!(
        "cannot read the network interfaces over rtnetlink: {e}"
    ))
}

impl Monitor {
    /// Subscribes and reads all interfaces. Needs no rights.
    pub async fn start() -> io::Result<(Self, Links)> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let (connection, handle, mut messages) = new_multicast_connection(&groups)?;
        let connection = tokio::spawn(connection);
        let mut links = Links::default();
        dump(&handle, &mut links).await.map_err(failed)?;
        let (sender, changes) = mpsc::channel(64);
        let audit = tokio::spawn(audit(handle.clone(), sender.clone()));
        let forward = tokio::spawn(async move {
            while let Some((message, _)) = messages.next().await {
                if let NetlinkPayload::InnerMessage(message) = message.payload
                    && let Some(change) = translate(&message)
                    && sender.send(change).await.is_err()
                {
                    return;
                }
            }
        });
        Ok((
            Self {
                changes,
                handle,
                tasks: [connection, forward, audit],
            },
            links,
        ))
    }

    /// The next change; `None` when the kernel closed the socket. Cancel safe.
    pub async fn next(&mut self) -> Option<LinkChange> {
        self.changes.recv().await
    }

    /// The rtnetlink handle, for those who change addresses.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

/// Reads everything again and again. A report that crosses the reading is made good by the next one.
async fn audit(handle: Handle, sender: mpsc::Sender<LinkChange>) {
    loop {
        tokio::time::sleep(AUDIT).await;
        let mut links = Links::default();
        match dump(&handle, &mut links).await {
            Ok(()) => {
                if sender.send(LinkChange::All(links)).await.is_err() {
                    return;
                }
            }
            Err(e) => tracing::warn!("{}", failed(e)),
        }
    }
}

async fn dump(handle: &Handle, links: &mut Links) -> Result<(), rtnetlink::Error> {
    let mut found = handle.link().get().execute();
    while let Some(message) = found.try_next().await? {
        if let Some(link) = link(&message) {
            links.apply(LinkChange::Link(link));
        }
    }
    let mut found = handle.address().get().execute();
    while let Some(message) = found.try_next().await? {
        if let Some((index, address)) = address(&message) {
            links.apply(LinkChange::Address(index, address));
        }
    }
    Ok(())
}

fn translate(message: &RouteNetlinkMessage) -> Option<LinkChange> {
    match message {
        RouteNetlinkMessage::NewLink(m) => link(m).map(LinkChange::Link),
        // A port that leaves its bridge is reported as a deleted link of family AF_BRIDGE; the interface stays.
        RouteNetlinkMessage::DelLink(m) => {
            unspecified(m).then_some(LinkChange::LinkGone(m.header.index))
        }
        RouteNetlinkMessage::NewAddress(m) => {
            address(m).map(|(index, a)| LinkChange::Address(index, a))
        }
        RouteNetlinkMessage::DelAddress(m) => {
            address(m).map(|(index, a)| LinkChange::AddressGone(index, a.net))
        }
        _ => None,
    }
}

fn unspecified(message: &LinkMessage) -> bool {
    u8::from(message.header.interface_family) == libc::AF_UNSPEC as u8
}

fn link(message: &LinkMessage) -> Option<Link> {
    if !unspecified(message) {
        return None;
    }
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        up: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        arp: flags.contains(LinkFlags::Broadcast) && !flags.contains(LinkFlags::Noarp),
        master: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(octets) => {
                link.mac = <[u8; 6]>::try_from(octets.as_slice())
                    .ok()
                    .map(Mac)
                    .filter(|m| m.is_unicast());
            }
            LinkAttribute::Controller(index) => link.master = Some(*index),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn address(message: &AddressMessage) -> Option<(u32, LinkAddress)> {
    let mut local = None;
    let mut address = None;
    let mut expires = false;
    for attribute in &message.attributes {
        match attribute {
            // On point-to-point links `Address` is the other end.
            AddressAttribute::Local(a) => local = Some(*a),
            AddressAttribute::Address(a) => address = Some(*a),
            AddressAttribute::CacheInfo(info) => expires = info.ifa_valid != FOREVER,
            _ => {}
        }
    }
    let net = IpNet::new(local.or(address)?, message.header.prefix_len).ok()?;
    Some((message.header.index, LinkAddress { net, expires }))
}
