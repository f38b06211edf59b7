//! The announcer on packet sockets: one per interface that may announce, each with a task that forwards what it receives.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Announcer;
use crate::frame::arp::{Arp, Mac};
use crate::link::choose::{Patterns, candidates};
use crate::link::socket::{ArpSocket, SocketError};
use crate::link::{Link, Links};
use crate::problem::{Cause, Problem};

/// What was heard.
#[derive(Debug)]
pub(crate) enum HeardArp {
    /// A frame on this interface.
    Frame(u32, Arp),
    /// The socket of this interface broke (the interface went down).
    Closed(u32),
}

#[derive(Debug)]
struct Open {
    mac: Mac,
    link: Link,
    socket: Arc<ArpSocket>,
    task: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The sockets.
#[derive(Debug)]
pub(crate) struct Sockets {
    open: BTreeMap<u32, Open>,
    heard: mpsc::Sender<HeardArp>,
}

impl Sockets {
    /// Starts without sockets. Received frames go to `heard`. If that channel is full they are lost, as in the socket's own
    /// queue.
    pub(crate) fn new(heard: mpsc::Sender<HeardArp>) -> Self {
        Self {
            open: BTreeMap::new(),
            heard,
        }
    }

    /// Opens and closes sockets until they match the interfaces. Returns the ones that could not be opened.
    pub(crate) fn sync(&mut self, links: &Links, patterns: &Patterns) -> Vec<Problem> {
        let wanted: BTreeMap<u32, &Link> =
            candidates(links, patterns).map(|l| (l.index, l)).collect();
        self.open
            .retain(|index, open| wanted.get(index).is_some_and(|l| **l == open.link));
        let mut problems = Vec::new();
        for (index, link) in wanted {
            let Some(mac) = link.mac.filter(|_| !self.open.contains_key(&index)) else {
                continue;
            };
            match ArpSocket::open(link) {
                Ok(socket) => {
                    let socket = Arc::new(socket);
                    let task = tokio::spawn(listen(index, Arc::clone(&socket), self.heard.clone()));
                    self.open.insert(
                        index,
                        Open {
                            mac,
                            link: link.clone(),
                            socket,
                            task,
                        },
                    );
                }
                Err(error) => problems.push(Problem::NoArp {
                    interface: link.name.clone(),
                    cause: match error {
                        SocketError::NoRight(_) => Cause::NoRight,
                        SocketError::Io(_, error) => Cause::Kernel(error.to_string()),
                    },
                }),
            }
        }
        problems
    }

    /// The interfaces that have a socket.
    pub(crate) fn interfaces(&self) -> BTreeSet<u32> {
        self.open.keys().copied().collect()
    }

    /// The Ethernet address of each of them.
    pub(crate) fn macs(&self) -> BTreeMap<u32, Mac> {
        self.open.iter().map(|(i, open)| (*i, open.mac)).collect()
    }

    /// Forgets a socket that broke. The next [`Sockets::sync`] opens it again if its interface is up.
    pub(crate) fn closed(&mut self, interface: u32) {
        self.open.remove(&interface);
    }
}

async fn listen(index: u32, socket: Arc<ArpSocket>, heard: mpsc::Sender<HeardArp>) {
    loop {
        match socket.recv().await {
            Ok(arp) => {
                let _ = heard.try_send(HeardArp::Frame(index, arp));
            }
            Err(e) => {
                tracing::info!(interface = index, "the ARP socket closed: {e}");
                let _ = heard.send(HeardArp::Closed(index)).await;
                return;
            }
        }
    }
}

impl Announcer for Sockets {
    fn mac(&self, interface: u32) -> Option<Mac> {
        self.open.get(&interface).map(|o| o.mac)
    }

    fn send(&mut self, interface: u32, arp: &Arp) -> io::Result<()> {
        self.open
            .get(&interface)
            .ok_or(io::ErrorKind::NotConnected)?
            .socket
            .send(arp)
    }
}
