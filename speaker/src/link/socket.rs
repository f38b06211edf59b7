//! An ARP socket on one interface: AF_PACKET bound to ETH_P_ARP (packet(7)), so the kernel delivers nothing else.
//!
//! It ignores our own frames and frames between other stations that the interface happens to see (another VLAN, promiscuous
//! mode).

// Packet sockets have no safe wrapper. The calls below are the smallest set that opens, binds, reads and writes one.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::state::Link;
use crate::frame::arp::{Arp, FRAME};

/// An Ethernet frame with ARP is never larger than Ethernet's minimum of 60 octets. Anything beyond is cut off.
const LARGEST: usize = 128;

/// Why an ARP socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The process may not open one.
    #[error(
        "no right to answer ARP on {0}: run as root or give the process the capability CAP_NET_RAW"
    )]
    NoRight(String),
    /// The kernel refused.
    #[error("cannot listen for ARP on {0}: {1}")]
    Io(String, io::Error),
}

/// The socket.
#[derive(Debug)]
pub struct ArpSocket {
    fd: AsyncFd<OwnedFd>,
}

/// Packet types addressed to this station or to all stations.
const FOR_US: [u8; 3] = [
    libc::PACKET_HOST,
    libc::PACKET_BROADCAST,
    libc::PACKET_MULTICAST,
];

impl ArpSocket {
    /// Opens it on an interface; needs CAP_NET_RAW and a tokio runtime.
    pub fn open(link: &Link) -> Result<Self, SocketError> {
        Self::bound(link.index).map_err(|e| match e.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => SocketError::NoRight(link.name.clone()),
            _ => SocketError::Io(link.name.clone(), e),
        })
    }

    fn bound(index: u32) -> io::Result<Self> {
        let protocol = (libc::ETH_P_ARP as u16).to_be();
        // Protocol 0: the socket receives nothing before it is bound to its interface. SAFETY: no pointers; the result is checked
        // before it becomes an owned descriptor.
        let fd = unsafe {
            let fd = libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                0,
            );
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        // SAFETY: sockaddr_ll is plain data; the pointer and its length are valid during the call.
        let bound = unsafe {
            let mut address: libc::sockaddr_ll = zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol;
            address.sll_ifindex =
                i32::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { fd: readable(fd)? })
    }

    /// The next ARP frame for this station. Fails when the interface goes down or is removed. Cancel safe.
    pub async fn recv(&self) -> io::Result<Arp> {
        loop {
            let mut ready = self.fd.readable().await?;
            match ready.try_io(|fd| read(fd.get_ref())) {
                Ok(Ok(Some(arp))) => return Ok(arp),
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(e)) => return Err(e),
            }
        }
    }

    /// Sends a frame. A full queue is an error (`WouldBlock`): a late answer is worthless, and the asker repeats its request.
    pub fn send(&self, arp: &Arp) -> io::Result<()> {
        let frame: [u8; FRAME] = arp.build();
        // SAFETY: the pointer and its length describe `frame` and are valid during the call.
        let sent = unsafe {
            libc::send(
                self.fd.as_raw_fd(),
                frame.as_ptr().cast(),
                FRAME,
                libc::MSG_DONTWAIT,
            )
        };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

/// Waits on the runtime until a descriptor is readable.
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open and does not change. It is closed only when it is dropped, together with the AsyncFd that now
    // owns it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

fn read(fd: &OwnedFd) -> io::Result<Option<Arp>> {
    let mut frame = [0u8; LARGEST];
    // SAFETY: sockaddr_ll is plain data; both pointers and lengths describe locals that live during the call.
    let (read, from) = unsafe {
        let mut from: libc::sockaddr_ll = zeroed();
        let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        let read = libc::recvfrom(
            fd.as_raw_fd(),
            frame.as_mut_ptr().cast(),
            LARGEST,
            libc::MSG_DONTWAIT,
            (&raw mut from).cast(),
            &raw mut length,
        );
        (read, from)
    };
    let Ok(read) = usize::try_from(read) else {
        return Err(io::Error::last_os_error());
    };
    if !FOR_US.contains(&from.sll_pkttype) {
        return Ok(None);
    }
    Ok(frame.get(..read).and_then(Arp::parse))
}
