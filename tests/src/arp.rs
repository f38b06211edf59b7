//! Sends a steady stream of ARP requests from one host, and records the times of requests and replies (RFC 826).
#![allow(unsafe_code)] // An address of a packet socket can only be made from the C structure.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;

use crate::client;
use crate::lan::Host;

/// An Ethernet header and an ARP packet for IPv4.
const FRAME: usize = 42;

/// The requests and replies.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// When each request was sent.
    pub asked: Vec<Instant>,
    /// When each reply arrived, and the Ethernet address in it.
    pub answers: Vec<(Instant, String)>,
}

/// A stream of requests that runs until it is finished.
#[derive(Debug)]
pub struct Questions {
    stop: Arc<AtomicBool>,
    asking: Option<JoinHandle<io::Result<Heard>>>,
}

impl Questions {
    /// Asks for `address` on `eth0` once per `pace`.
    pub fn start(host: &Host, address: Ipv4Addr, pace: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, ip) = (Arc::clone(&stop), host.v4);
        let mac = parse(&client::mac(&host.netns, "eth0")).expect("an Ethernet address");
        let asking = host
            .netns
            .thread(move || ask(&question(mac, ip, address), address, pace, &stopped));
        Self {
            stop,
            asking: Some(asking),
        }
    }

    /// Stops the stream and returns what was received.
    pub fn finish(mut self) -> Heard {
        self.stop.store(true, Ordering::Relaxed);
        let asking = self.asking.take().expect("it is finished once");
        let heard = asking.join().expect("the thread does not panic");
        heard.expect("a packet socket works for root")
    }
}

impl Drop for Questions {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn ask(
    question: &[u8; FRAME],
    address: Ipv4Addr,
    pace: Duration,
    stop: &AtomicBool,
) -> io::Result<Heard> {
    let socket = open()?;
    let mut heard = Heard::default();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now >= next {
            next = now + pace;
            nix::unistd::write(&socket, question)?;
            heard.asked.push(now);
        }
        let mut frame = [0; 128];
        match nix::unistd::read(&socket, &mut frame) {
            Ok(length) => {
                let mac = frame.get(..length).and_then(|f| answer(f, address));
                heard.answers.extend(mac.map(|mac| (Instant::now(), mac)));
            }
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(heard)
}

/// A socket for ARP on `eth0` with a receive timeout of 2 ms.
fn open() -> io::Result<OwnedFd> {
    let arp = (libc::ETH_P_ARP as u16).to_be();
    let fd = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(0, 2000))?;
    let index = if_nametoindex("eth0")?;
    // SAFETY: sockaddr_ll is plain data, and the pointer and its length describe a local variable that outlives the call.
    let bound = unsafe {
        let mut at: libc::sockaddr_ll = std::mem::zeroed();
        at.sll_family = libc::AF_PACKET as u16;
        at.sll_protocol = arp;
        at.sll_ifindex = index as i32;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        libc::bind(fd.as_raw_fd(), (&raw const at).cast(), length)
    };
    if bound < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd)
}

fn parse(mac: &str) -> Option<[u8; 6]> {
    let octets: Result<Vec<u8>, _> = mac.split(':').map(|o| u8::from_str_radix(o, 16)).collect();
    octets.ok()?.try_into().ok()
}

/// A broadcast request from `mac` at `from`: who has `address`?
fn question(mac: [u8; 6], from: Ipv4Addr, address: Ipv4Addr) -> [u8; FRAME] {
    let parts: [&[u8]; 7] = [
        &[0xff; 6],
        &mac,
        // ARP; Ethernet and IPv4 with their lengths; a request.
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &mac,
        &from.octets(),
        &[0; 6],
        &address.octets(),
    ];
    let mut frame = [0; FRAME];
    for (to, octet) in frame.iter_mut().zip(parts.concat()) {
        *to = octet;
    }
    frame
}

/// The Ethernet address in a reply for `address`; `None` if the frame is something else.
fn answer(frame: &[u8], address: Ipv4Addr) -> Option<String> {
    let reply = frame.get(20..22)? == [0, 2] && frame.get(28..32)? == address.octets();
    let unicast = frame.first()? & 1 == 0;
    let mac = frame.get(22..28)?;
    let text: Vec<String> = mac.iter().map(|o| format!("{o:02x}")).collect();
    (reply && unicast).then(|| text.join(":"))
}
