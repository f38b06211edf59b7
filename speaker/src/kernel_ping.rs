//! Sends ICMP echo requests (RFC 792, RFC 4443) to nodes whose agent is briefly away. While the kernel answers, the node is
//! alive.
//!
//! Uses a raw socket, because the unprivileged kind depends on a sysctl. A raw socket receives every ICMP message of the host, so
//! an answer counts only with our identifier and our random cookie.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recvfrom, sendto,
    socket,
};
use pnet::util::checksum;
use tokio::io::unix::AsyncFd;

/// Type, code, checksum, identifier, sequence number, cookie.
const ECHO: usize = 16;

/// Why nodes can't be pinged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PingError {
    /// The process may not open a raw socket.
    #[error(
        "no right to ping other nodes: run as root or give the process the capability CAP_NET_RAW"
    )]
    NoRight,
    /// The kernel refused.
    #[error("cannot open an ICMP socket: {0}")]
    Io(#[from] io::Error),
}

/// Sends echo requests and receives the answers, for one address family.
#[derive(Debug)]
pub(crate) struct KernelPing {
    fd: AsyncFd<OwnedFd>,
    v6: bool,
    cookie: [u8; 12],
}

impl KernelPing {
    /// Opens the socket for the family of `local`; needs a tokio runtime. `cookie` is random.
    pub(crate) fn open(local: IpAddr, cookie: [u8; 12]) -> Result<Self, PingError> {
        let v6 = local.is_ipv6();
        let (family, protocol) = match v6 {
            true => (AddressFamily::Inet6, SockProtocol::IcmpV6),
            false => (AddressFamily::Inet, SockProtocol::Icmp),
        };
        let fd = socket(
            family,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            protocol,
        )
        .map_err(|e| match e {
            nix::Error::EPERM | nix::Error::EACCES => PingError::NoRight,
            e => PingError::Io(e.into()),
        })?;
        Ok(Self {
            fd: crate::link::socket::readable(fd)?,
            v6,
            cookie,
        })
    }

    fn types(&self) -> (u8, u8) {
        if self.v6 { (128, 129) } else { (8, 0) }
    }

    fn echo(&self, kind: u8) -> [u8; ECHO] {
        let mut echo = [0; ECHO];
        for (octet, value) in echo
            .iter_mut()
            .zip([kind, 0, 0, 0].into_iter().chain(self.cookie))
        {
            *octet = value;
        }
        if !self.v6 {
            // For ICMPv6 the kernel fills in the checksum, which also covers the addresses.
            let [high, low] = checksum(&echo, 1).to_be_bytes();
            (echo[2], echo[3]) = (high, low);
        }
        echo
    }

    /// Sends a request. The caller notices a missing answer, so a lost request needs no other handling.
    pub(crate) fn ping(&self, to: IpAddr) -> io::Result<()> {
        let to = SockaddrStorage::from(SocketAddr::new(to, 0));
        sendto(
            self.fd.as_raw_fd(),
            &self.echo(self.types().0),
            &to,
            MsgFlags::MSG_DONTWAIT,
        )?;
        Ok(())
    }

    /// The next node that answered. Cancel safe.
    pub(crate) async fn answered(&self) -> io::Result<IpAddr> {
        loop {
            let mut ready = self.fd.readable().await?;
            match ready.try_io(|fd| self.read(fd.get_ref())) {
                Ok(Ok(Some(ip))) => return Ok(ip),
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(e)) => return Err(e),
            }
        }
    }

    fn read(&self, fd: &OwnedFd) -> io::Result<Option<IpAddr>> {
        let mut packet = [0u8; 128];
        let (length, from) = recvfrom::<SockaddrStorage>(fd.as_raw_fd(), &mut packet)?;
        let packet = packet.get(..length.min(128)).unwrap_or_default();
        // An IPv4 raw socket also delivers the IP header. Its length is in the low half of the first octet.
        let skip = if self.v6 {
            0
        } else {
            packet.first().map_or(0, |b| usize::from(b & 15) * 4)
        };
        let answer = packet.get(skip..).unwrap_or_default();
        let ours = answer.first() == Some(&self.types().1)
            && answer.get(4..ECHO) == Some(self.cookie.as_slice());
        let ip = from.and_then(|a| {
            a.as_sockaddr_in()
                .map(|a| IpAddr::from(a.ip()))
                .or_else(|| a.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
        });
        Ok(ip.filter(|_| ours))
    }
}
