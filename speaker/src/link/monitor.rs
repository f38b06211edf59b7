//! Follows the kernel's interfaces and addresses over rtnetlink(7). It subscribes first and dumps second, so no change in between
//! is lost; repeated changes do no harm. It only translates; `state` keeps the result. Gateways are part of each full reading alone:
//! on a router, routes change all the time.
//!
//! If a connection ends or leaves a dump unanswered, a new connection replaces it and everything is read again.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ferrolb_api::Backoff;
use futures_util::{Stream, StreamExt, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteVia};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder, new_multicast_connection};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::state::{Link, LinkAddress, LinkChange, Links};
use crate::frame::arp::Mac;

/// How often everything is read again, because a socket that overran has lost reports.
const AUDIT: Duration = Duration::from_secs(60);
/// The longest wait for all answers to a dump.
const PATIENCE: Duration = Duration::from_secs(5);
/// The delay between attempts to reconnect.
const RETRIES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
/// `INFINITY_LIFE_TIME` of linux/if_addr.h.
const FOREVER: u32 = u32::MAX;

/// The interface monitor.
#[derive(Debug)]
pub struct Monitor {
    changes: mpsc::Receiver<LinkChange>,
    current: Arc<Mutex<Handle>>,
    task: JoinHandle<()>,
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Monitor {
    /// Subscribes and reads all interfaces. Needs no privileges.
    pub async fn start() -> io::Result<(Self, Links)> {
        let (connection, links) = Connection::open().await?;
        let current = Arc::new(Mutex::new(connection.handle.clone()));
        let (sender, changes) = mpsc::channel(64);
        let task = tokio::spawn(follow(connection, current.clone(), sender));
        let monitor = Self {
            changes,
            current,
            task,
        };
        Ok((monitor, links))
    }

    /// The next change. `None` when the monitor has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<LinkChange> {
        self.changes.recv().await
    }

    /// The current rtnetlink handle, for code that changes addresses.
    pub fn handle(&self) -> Handle {
        let current = self.current.lock();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One rtnetlink socket and the task that reads it.
struct Connection {
    handle: Handle,
    messages: Pin<Box<dyn Stream<Item = RouteNetlinkMessage> + Send>>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Subscribes, then reads everything.
    async fn open() -> io::Result<(Self, Links)> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let (task, handle, messages) = new_multicast_connection(&groups)?;
        let inner = |(message, _): (rtnetlink::packet_core::NetlinkMessage<_>, _)| async move {
            match message.payload {
                NetlinkPayload::InnerMessage(message) => Some(message),
                _ => None,
            }
        };
        let mut connection = Self {
            handle,
            messages: Box::pin(messages.filter_map(inner)),
            task: tokio::spawn(task),
        };
        let links = connection.read().await?;
        Ok((connection, links))
    }

    async fn read(&mut self) -> io::Result<Links> {
        let mut links = Links::default();
        let read = tokio::time::timeout(PATIENCE, dump(&self.handle, &mut links));
        let cannot = |why: String| {
            io::Error::other(format!(
                "cannot read the network interfaces over rtnetlink: {why}"
            ))
        };
        match read.await {
            Ok(Ok(())) => Ok(links),
            Ok(Err(e)) => Err(cannot(e.to_string())),
            Err(_) => Err(cannot(format!("no answer within {PATIENCE:?}"))),
        }
    }

    /// Reports changes until the connection fails. If a report crosses an audit, the next audit corrects it.
    async fn report(&mut self, sender: &mpsc::Sender<LinkChange>) -> Result<(), Failure> {
        let mut audit = Instant::now() + AUDIT;
        loop {
            let change = tokio::select! {
                message = self.messages.next() => match message {
                    Some(message) => translate(&message),
                    None => return Err(Failure::Ended),
                },
                () = tokio::time::sleep_until(audit) => {
                    audit = Instant::now() + AUDIT;
                    Some(LinkChange::All(self.read().await.map_err(Failure::Read)?))
                }
            };
            if let Some(change) = change
                && sender.send(change).await.is_err()
            {
                return Ok(());
            }
        }
    }
}

/// Why a connection can't be used any more.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the rtnetlink connection ended")]
    Ended,
    #[error(transparent)]
    Read(io::Error),
}

/// Reports changes over one connection after another, until nobody listens.
async fn follow(
    mut connection: Connection,
    current: Arc<Mutex<Handle>>,
    sender: mpsc::Sender<LinkChange>,
) {
    while let Err(failure) = connection.report(&sender).await {
        tracing::warn!(
            "{failure}; connecting again, until then changes of the interfaces are not seen"
        );
        let mut retries = RETRIES;
        let links = loop {
            tokio::time::sleep(retries.next(0)).await;
            match Connection::open().await {
                Ok((fresh, links)) => {
                    connection = fresh;
                    break links;
                }
                Err(error) => tracing::warn!("{error}"),
            }
        };
        *current.lock().unwrap_or_else(PoisonError::into_inner) = connection.handle.clone();
        if sender.send(LinkChange::All(links)).await.is_err() {
            return;
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
    for mut request in [
        handle
            .route()
            .get(RouteMessageBuilder::<Ipv4Addr>::new().build()),
        handle
            .route()
            .get(RouteMessageBuilder::<Ipv6Addr>::new().build()),
    ] {
        // All tables.
        request.message_mut().header.table = RouteHeader::RT_TABLE_UNSPEC;
        let mut found = Box::pin(request.execute());
        while let Some(message) = found.try_next().await? {
            for gateway in gateways(&message.attributes) {
                links.apply(LinkChange::Gateway(gateway));
            }
        }
    }
    Ok(())
}

/// The next hops of a route.
fn gateways(attributes: &[RouteAttribute]) -> impl Iterator<Item = IpAddr> {
    let hops = attributes.iter().flat_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => hops.as_slice(),
        _ => &[],
    });
    let all = attributes
        .iter()
        .chain(hops.flat_map(|hop| &hop.attributes));
    all.filter_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(addr))
        | RouteAttribute::Via(RouteVia::Inet(addr)) => Some(IpAddr::from(*addr)),
        RouteAttribute::Gateway(RouteAddress::Inet6(addr))
        | RouteAttribute::Via(RouteVia::Inet6(addr)) => Some(IpAddr::from(*addr)),
        _ => None,
    })
}

fn translate(message: &RouteNetlinkMessage) -> Option<LinkChange> {
    match message {
        RouteNetlinkMessage::NewLink(m) => link(m).map(LinkChange::Link),
        // A port that leaves its bridge is reported as a deleted link of family AF_BRIDGE. The interface stays.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[tokio::test]
    async fn a_connection_that_ends_is_replaced_and_everything_is_read_again() {
        let (connection, links) = Connection::open().await.unwrap();
        let current = Arc::new(Mutex::new(connection.handle.clone()));
        let (sender, mut changes) = mpsc::channel(8);
        // Simulates a message that makes the decoder panic.
        connection.task.abort();
        let task = tokio::spawn(follow(connection, current.clone(), sender));
        let everything = async {
            loop {
                if let Some(LinkChange::All(links)) = changes.recv().await {
                    return links;
                }
            }
        };
        let again = tokio::time::timeout(Duration::from_secs(60), everything);
        let names = |links: &Links| links.iter().map(|l| l.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&again.await.unwrap()), names(&links));
        let handle = current.lock().unwrap().clone();
        dump(&handle, &mut Links::default()).await.unwrap();
        drop(changes);
        task.abort();
    }
}
