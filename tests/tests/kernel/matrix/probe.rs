//! One probe: a request from a port that no other probe uses, and what came of it. Runs in the namespace of the calling thread.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use ferrolb_tests::client::{self, Ask, Outcome};
use ferrolb_tests::wait;

/// The transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Transport {
    /// One HTTP request.
    Tcp,
    /// One datagram.
    Udp,
}

/// What a probe saw.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seen {
    /// The server of that name answered; it saw the client at this address.
    Answer(String, IpAddr),
    /// A TCP reset or an ICMP error.
    Refused,
    /// Nothing came.
    Silence,
    /// Anything else, in words.
    Other(String),
}

/// How long an answer may take. Long, since only an error waits for it.
pub(crate) fn patience() -> Duration {
    Duration::from_secs(4) * wait::slowness().min(3)
}

/// How long nothing must come for it to be silence.
pub(crate) fn silence() -> Duration {
    Duration::from_secs(2) * wait::slowness().min(3)
}

/// Asks once.
pub(crate) fn probe(transport: Transport, to: SocketAddr, timeout: Duration) -> Seen {
    let ask = Ask {
        source_port: fresh_port(),
        timeout,
    };
    let result = match transport {
        Transport::Tcp => client::http(to, ask),
        Transport::Udp => datagram(to, ask),
    };
    match Outcome::from(result) {
        Outcome::Answered(answer) => Seen::Answer(answer.pod, answer.from.ip()),
        Outcome::Refused => Seen::Refused,
        Outcome::Dropped => Seen::Silence,
        Outcome::Failed(why) => Seen::Other(why),
    }
}

/// IPVS finds the connection of a reply by the client's address and port: two probes must never share one. Below the ports that the kernel
/// chooses, and below the node ports.
fn fresh_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    10_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 20_000
}

/// As [`client::udp`], but a datagram that the node's own filter refuses says so twice: as an error of the call, which a silent drop gives as
/// well, and as the ICMP error that tells them apart.
fn datagram(to: SocketAddr, ask: Ask) -> io::Result<client::Answer> {
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, ask.source_port))?;
    socket.connect(to)?;
    let start = Instant::now();
    match client::udp_on(&socket, ask) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let left = ask.timeout.saturating_sub(start.elapsed());
            socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match socket.recv(&mut [0; 1]) {
                Ok(_) => Err(io::Error::other("an answer to what was not sent")),
                Err(error) => Err(error),
            }
        }
        result => result,
    }
}
