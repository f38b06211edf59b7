//! The socket below a channel: a real one or one for tests.

use std::fmt;
use std::future::Future;
use std::io;

use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use nix::sys::socket::{
    setsockopt,
    sockopt::{RcvBufForce, SndBufForce},
};

/// Room for one answer. The kernel fills the buffer, so a larger one means that a dump resumes less often.
const DATAGRAM: usize = 256 << 10;
/// Room for one transaction in the send buffer (about 50,000 set elements), and for one error per message in the receive buffer.
const BUFFER: usize = 8 << 20;

/// Carries datagrams to the kernel and back.
pub(crate) trait Socket: Send + fmt::Debug {
    /// Sends one datagram, completely or not at all.
    fn send(&mut self, datagram: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits for a datagram from the kernel and replaces the content of `buffer` with it. Cancel safe.
    fn recv(&mut self, buffer: &mut Vec<u8>) -> impl Future<Output = io::Result<()>> + Send;

    /// Continues with a fresh socket. Whatever is under way on the old one ends.
    fn reopen(&mut self) -> io::Result<()>;
}

/// A netlink socket in the network namespace of the thread that opened it.
pub(crate) struct NetlinkSocket {
    socket: TokioSocket,
    protocol: isize,
    large: bool,
    namespace: Option<u64>,
}

impl fmt::Debug for NetlinkSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetlinkSocket")
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

fn open(protocol: isize, large: bool) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind_auto()?;
    socket.socket_ref().set_cap_ack(true)?;
    if large {
        // Needs CAP_NET_ADMIN in the initial user namespace. Without it the default buffer stays, and long transactions are
        // refused with EMSGSIZE.
        let enlarged = setsockopt(socket.socket_ref(), SndBufForce, &BUFFER)
            .and_then(|()| setsockopt(socket.socket_ref(), RcvBufForce, &BUFFER));
        if let Err(error) = enlarged {
            tracing::debug!(%error, "the netlink buffer stays small, long transactions are split");
        }
    }
    Ok(socket)
}

/// The network namespace of this thread, as a number.
fn namespace() -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    Some(std::fs::metadata("/proc/thread-self/ns/net").ok()?.ino())
}

impl NetlinkSocket {
    /// Opens a socket for a netlink protocol. `large` makes room for transactions of many thousand messages.
    pub(crate) fn open(protocol: isize, large: bool) -> io::Result<Self> {
        Ok(Self {
            socket: open(protocol, large)?,
            protocol,
            large,
            namespace: namespace(),
        })
    }
}

impl Socket for NetlinkSocket {
    async fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send(datagram).await.map(|_| ())
    }

    async fn recv(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        loop {
            buffer.clear();
            buffer.reserve(DATAGRAM);
            // Port 0 is the kernel. Messages from other processes are ignored.
            if self.socket.recv_from(buffer).await?.port_number() == 0 {
                return Ok(());
            }
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        // A thread that has changed its namespace would open the socket in the wrong one.
        if self.namespace.is_none() || self.namespace != namespace() {
            return Err(io::Error::other(
                "this thread is in another network namespace",
            ));
        }
        self.socket = open(self.protocol, self.large)?;
        Ok(())
    }
}
