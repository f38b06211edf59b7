//! The UDP socket between the members.
//!
//! One unconnected socket, bound to this node's member address, with `IP_RECVERR` (ip(7)). When a member's kernel answers "port
//! unreachable", the socket's error queue holds the destination that refused. That shows *which* agent is not running.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvfrom, recvmsg, sendto, setsockopt, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::seal::LARGEST;
use super::session::{Rejected, Sessions};
use crate::message::{Message, NodeName};

/// The default port. MetalLB's memberlist uses 7946, and both may run side by side during a migration.
pub const PORT: u16 = 7947;

/// An event from the network.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A message from a member.
    Message(NodeName, Message),
    /// The kernel of this member's node reports that nobody listens there.
    Refused(NodeName),
    /// A datagram from this address was dropped.
    Dropped(IpAddr, Rejected),
}

/// Why the socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for members on UDP {at}: {error}")]
pub struct BindError {
    /// Address and port.
    pub at: SocketAddr,
    /// The kernel's error.
    pub error: io::Error,
}

/// The socket and the sessions on it.
#[derive(Debug)]
pub struct Transport {
    socket: UdpSocket,
    sessions: Sessions,
    addresses: BTreeMap<NodeName, SocketAddr>,
    names: BTreeMap<IpAddr, NodeName>,
    buffer: Vec<u8>,
}

impl Transport {
    /// Binds the socket; needs a tokio runtime.
    pub fn bind(at: SocketAddr, sessions: Sessions) -> Result<Self, BindError> {
        let bound = || -> io::Result<UdpSocket> {
            let socket = std::net::UdpSocket::bind(at)?;
            socket.set_nonblocking(true)?;
            match at {
                SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
                SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
            }
            UdpSocket::from_std(socket)
        };
        Ok(Self {
            socket: bound().map_err(|error| BindError { at, error })?,
            sessions,
            addresses: BTreeMap::new(),
            names: BTreeMap::new(),
            buffer: vec![0; LARGEST + 1],
        })
    }

    /// Sets the members and their listening addresses.
    pub fn set_members(&mut self, members: &BTreeMap<NodeName, Option<IpAddr>>, port: u16) {
        self.sessions
            .set_members(&members.keys().cloned().collect::<BTreeSet<_>>());
        let known = || {
            members
                .iter()
                .filter_map(|(name, ip)| Some((name.clone(), (*ip)?)))
        };
        self.addresses = known()
            .map(|(name, ip)| (name, SocketAddr::new(ip, port)))
            .collect();
        self.names = known().map(|(name, ip)| (ip, name)).collect();
    }

    /// Sends a message now, or when the member has sent its challenge. What the network can't take is lost, like a packet on the
    /// way.
    pub fn send(&mut self, to: &NodeName, message: &Message) {
        if let Some(datagram) = self.sessions.seal(to, message) {
            self.put(to, &datagram);
        }
    }

    fn put(&self, to: &NodeName, datagram: &[u8]) {
        let Some(at) = self.addresses.get(to) else {
            return;
        };
        // If the socket still holds an error for another destination, the call returns it first and clears it.
        for _ in 0..2 {
            // Does not use the runtime's readiness, because a new socket has none before the first wait.
            let destination = SockaddrStorage::from(*at);
            match sendto(
                self.socket.as_raw_fd(),
                datagram,
                &destination,
                MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(_) => return,
                Err(nix::Error::ECONNREFUSED) => {}
                Err(e) => {
                    tracing::debug!(member = %to, "a datagram was not sent: {e}");
                    return;
                }
            }
        }
    }

    /// Waits until [`Transport::receive`] has something. Cancel safe.
    pub async fn ready(&self) -> io::Result<()> {
        self.socket
            .ready(Interest::READABLE | Interest::ERROR)
            .await
            .map(|_| ())
    }

    /// Reads the next event from the socket without waiting.
    pub fn receive(&mut self) -> Option<Heard> {
        loop {
            if let Some(name) = self.refused() {
                return Some(Heard::Refused(name));
            }
            match self.read() {
                Ok((length, from)) => {
                    let opened = self
                        .sessions
                        .open(self.buffer.get(..length).unwrap_or_default());
                    if let Some((to, datagrams)) = &opened.replies {
                        datagrams.iter().for_each(|d| self.put(to, d));
                    }
                    match opened.message {
                        Some(Ok((name, message))) => return Some(Heard::Message(name, message)),
                        Some(Err(why)) => return Some(Heard::Dropped(from.ip(), why)),
                        None => {}
                    }
                }
                // The pending error of the socket. The error queue, read above, says whose it is.
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }

    /// Reads a datagram from the socket itself. If the process was stopped, the runtime may not have polled the socket since and
    /// reports nothing to read. But a process that wakes must read everything that waits before it answers for anything.
    fn read(&mut self) -> io::Result<(usize, SocketAddr)> {
        match self.socket.try_recv_from(&mut self.buffer) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
        let (length, from) =
            recvfrom::<SockaddrStorage>(self.socket.as_raw_fd(), &mut self.buffer)?;
        let from = from.and_then(|a| {
            let v4 = a.as_sockaddr_in().map(|a| SocketAddr::from(*a));
            v4.or_else(|| a.as_sockaddr_in6().map(|a| SocketAddr::from(*a)))
        });
        Ok((length, from.ok_or(io::ErrorKind::InvalidData)?))
    }

    /// One refusal from the error queue.
    fn refused(&self) -> Option<NodeName> {
        loop {
            match self
                .socket
                .try_io(Interest::ERROR, || read_error(&self.socket))
            {
                Ok(Some(ip)) => {
                    if let Some(name) = self.names.get(&ip) {
                        return Some(name.clone());
                    }
                }
                Ok(None) => {}
                Err(_) => return None,
            }
        }
    }
}

/// The destination whose port was unreachable. `None` for other errors.
fn read_error(socket: &UdpSocket) -> io::Result<Option<IpAddr>> {
    let mut payload = [0u8; 64];
    let mut iov = [IoSliceMut::new(&mut payload)];
    let mut space = nix::cmsg_space!([u8; 64]);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags)?;
    let refused = message.cmsgs()?.any(|c| match c {
        ControlMessageOwned::Ipv4RecvErr(e, _) | ControlMessageOwned::Ipv6RecvErr(e, _) => {
            e.ee_errno == libc::ECONNREFUSED as u32
        }
        _ => false,
    });
    // The name of a message in the error queue is the destination of the original datagram.
    let to = message.address.and_then(|a| {
        a.as_sockaddr_in()
            .map(|a| IpAddr::from(a.ip()))
            .or_else(|| a.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
    });
    Ok(to.filter(|_| refused))
}
