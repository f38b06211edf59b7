//! One probe: a request from a port that no other probe uses, and its result. It runs in the namespace of the calling thread.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ferrolb_tests::client::{self, Ask, Outcome, fresh_port};
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
    /// The server with this name answered, and it saw the client at this address.
    Answer(String, IpAddr),
    /// A TCP reset or an ICMP error.
    Refused,
    /// No answer came.
    Silence,
    /// Anything else, in words.
    Other(String),
}

/// How long an answer may take. This can be long, because only a failing probe waits this long.
pub(crate) fn patience() -> Duration {
    Duration::from_secs(4) * wait::slowness().min(3)
}

/// How long there must be no answer for it to count as silence.
pub(crate) fn silence() -> Duration {
    Duration::from_secs(2) * wait::slowness().min(3)
}

/// Sends one request.
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

/// Like [`client::udp`]. But if the node's own filter refuses a datagram, this shows twice: as an error of the call, which a
/// silent drop causes too, and as the ICMP error that distinguishes the two.
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
