//! A client's actions, as plain functions that run in the namespace of the calling thread: pass them to
//! [`crate::netns::Netns::run`].

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt,
};
use nix::sys::time::TimeVal;

use crate::netns::Netns;

/// Options of a request.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Local port; 0 lets the kernel choose.
    pub source_port: u16,
    /// The limit for the connect and for the answer, each.
    pub timeout: Duration,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            source_port: 0,
            // Only lost packets take this long.
            timeout: Duration::from_secs(5) * crate::wait::slowness().min(3),
        }
    }
}

/// A new source port. IPVS finds the connection of a reply by the client's address and port alone, so two connections of one
/// client must never share one, even to different addresses. The ports are below those that the kernel chooses and below the
/// node ports, and above those on which Kubernetes' daemons and the agent listen (10256 among them).
pub fn fresh_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    11_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 19_000
}

/// A pod's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Which pod.
    pub pod: String,
    /// The client's address as the pod saw it.
    pub from: SocketAddr,
    /// The client's own address.
    pub local: SocketAddr,
    /// The whole answer.
    pub text: String,
}

/// Connects from a given local port, within a time limit.
pub fn connect(to: SocketAddr, ask: Ask) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // The send timeout also limits connect (socket(7)).
    let micros = i64::from(ask.timeout.subsec_micros());
    let timeout = TimeVal::new(
        i64::try_from(ask.timeout.as_secs()).unwrap_or(i64::MAX),
        micros,
    );
    setsockopt(&fd, sockopt::SendTimeout, &timeout)?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &timeout)?;
    if ask.source_port != 0 {
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        let any: IpAddr = if to.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        };
        socket::bind(
            fd.as_raw_fd(),
            &SockaddrStorage::from(SocketAddr::new(any, ask.source_port)),
        )?;
    }
    match socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) => Ok(TcpStream::from(fd)),
        Err(nix::errno::Errno::EINPROGRESS) => Err(io::ErrorKind::TimedOut.into()),
        Err(error) => Err(error.into()),
    }
}

/// Sends one HTTP request to a `lab-http`, on a new connection.
pub fn http(to: SocketAddr, ask: Ask) -> io::Result<Answer> {
    let (text, local) = get(to, "/", ask)?;
    let body = text
        .split_once("\r\n\r\n")
        .map(|(_, body)| body)
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    answer(body, local)
}

/// Sends one HTTP request on a new connection and returns the whole answer.
pub fn http_text(to: SocketAddr, path: &str, ask: Ask) -> io::Result<String> {
    get(to, path, ask).map(|(text, _)| text)
}

fn get(to: SocketAddr, path: &str, ask: Ask) -> io::Result<(String, SocketAddr)> {
    let mut stream = connect(to, ask)?;
    let local = stream.local_addr()?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok((text, local))
}

/// Sends one datagram to a `lab-http` and returns its answer.
pub fn udp(to: SocketAddr, ask: Ask) -> io::Result<Answer> {
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, ask.source_port))?;
    socket.connect(to)?;
    udp_on(&socket, ask)
}

/// The same on an existing connected socket.
pub fn udp_on(socket: &UdpSocket, ask: Ask) -> io::Result<Answer> {
    socket.set_read_timeout(Some(ask.timeout))?;
    socket.send(b"hello")?;
    let mut buffer = [0; 2048];
    let count = socket.recv(&mut buffer)?;
    answer(
        &String::from_utf8_lossy(&buffer[..count]),
        socket.local_addr()?,
    )
}

/// A long-lived TCP connection to a `lab-http` echo port.
#[derive(Debug)]
pub struct Flow {
    stream: BufReader<TcpStream>,
    /// The greeting.
    pub answer: Answer,
}

impl Flow {
    /// Connects and reads the greeting.
    pub fn open(to: SocketAddr, ask: Ask) -> io::Result<Self> {
        let stream = connect(to, ask)?;
        let local = stream.local_addr()?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line)?;
        Ok(Self {
            answer: answer(&line, local)?,
            stream,
        })
    }

    /// Sends a line and reads its echo.
    pub fn ping(&mut self) -> io::Result<Duration> {
        let start = Instant::now();
        self.stream.get_mut().write_all(b"ping\n")?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if line.ends_with(" ping\n") {
            Ok(start.elapsed())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// `pod=NAME from=ADDRESS:PORT ...`
fn answer(line: &str, local: SocketAddr) -> io::Result<Answer> {
    let mut words = line.split_whitespace();
    let pod = words.next().and_then(|word| word.strip_prefix("pod="));
    let from = words
        .next()
        .and_then(|word| word.strip_prefix("from="))
        .and_then(|text| text.parse().ok());
    match (pod, from) {
        (Some(pod), Some(from)) => Ok(Answer {
            pod: pod.to_owned(),
            from,
            local,
            text: line.trim().to_owned(),
        }),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("not the answer of a pod: {line:?}"),
        )),
    }
}

/// The result of an attempt, in the terms of the traffic matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An answer arrived.
    Answered(Answer),
    /// Refused at once: a TCP reset or an ICMP error.
    Refused,
    /// No answer arrived.
    Dropped,
    /// Anything else.
    Failed(String),
}

impl From<io::Result<Answer>> for Outcome {
    fn from(result: io::Result<Answer>) -> Self {
        use io::ErrorKind::{
            ConnectionRefused, ConnectionReset, PermissionDenied, TimedOut, WouldBlock,
        };
        match result {
            Ok(answer) => Self::Answered(answer),
            Err(error) => match error.kind() {
                ConnectionRefused | ConnectionReset => Self::Refused,
                // If the output hook drops the node's own datagram, the sender gets EPERM.
                TimedOut | WouldBlock | PermissionDenied => Self::Dropped,
                _ => Self::Failed(error.to_string()),
            },
        }
    }
}

/// How long `ping` and `arping` wait for an answer that does not arrive, in seconds.
fn silence() -> String {
    (3 * crate::wait::slowness().min(3)).to_string()
}

/// Whether an address answers ICMP echo.
pub fn ping(netns: &Netns, to: IpAddr) -> bool {
    let to = to.to_string();
    netns
        .output("ping", &["-n", "-q", "-c", "1", "-W", &silence(), &to])
        .status
        .success()
}

/// The MAC addresses that answer for an IPv4 address on `eth0`, without duplicates.
pub fn arp(netns: &Netns, address: Ipv4Addr) -> Vec<String> {
    let address = address.to_string();
    let output = netns.output(
        "arping",
        &["-b", "-c", "2", "-w", &silence(), "-I", "eth0", &address],
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut macs: Vec<String> = text
        .split('[')
        .skip(1)
        .filter_map(|part| part.split_once(']'))
        .map(|(mac, _)| mac.to_lowercase())
        .collect();
    macs.sort();
    macs.dedup();
    macs
}

/// The MAC address of an interface.
pub fn mac(netns: &Netns, interface: &str) -> String {
    // Do not use sysfs: it shows the namespace of the process that mounted it.
    let text = netns.sh("ip", &["-o", "link", "show", "dev", interface]);
    let word = text
        .split("link/ether ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    word.unwrap_or_else(|| panic!("no MAC address: {text}"))
        .to_lowercase()
}

/// Makes the kernel of this namespace resolve its known neighbours with these addresses again, at once. Neighbours that do not
/// answer are forgotten within three seconds. A flush would also discard packets that are waiting for an answer
/// (`neigh_invalidate`), and that loss would not be the other side's.
pub fn ask_again(netns: &Netns, interface: &str, neighbours: &[(Ipv4Addr, &str)]) {
    let line = |(ip, mac): &(Ipv4Addr, &str)| {
        format!("neigh replace {ip} lladdr {mac} dev {interface} nud probe\n")
    };
    netns.ip(&neighbours.iter().map(line).collect::<String>());
}
