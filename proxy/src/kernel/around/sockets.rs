//! The listening sockets, over sock_diag (`linux/inet_diag.h`; `man 7 sock_diag`).

use std::io;
use std::net::SocketAddr;

use ferrolb_api::view::Protocol;
use netlink_packet_core::NetlinkSerializable;
use nix::errno::Errno;

use super::super::KernelError;
use super::super::netlink::attr::{Malformed, address, attributes, behind};
use super::super::netlink::{Channel, NetlinkSocket};
use crate::surroundings::Listeners;

/// `NETLINK_SOCK_DIAG` of `linux/netlink.h`.
const NETLINK_SOCK_DIAG: isize = 4;
/// `SOCK_DIAG_BY_FAMILY` of `linux/sock_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `AF_INET`, `AF_INET6`.
const FAMILIES: [u8; 2] = [2, 10];
/// `INET_DIAG_SKV6ONLY`: present for IPv6 sockets.
const SKV6ONLY: u16 = 11;
/// `TCP_LISTEN` of `net/tcp_states.h`; SCTP uses the same number.
const LISTEN: u32 = 10;
/// `TCP_CLOSE`: an unconnected UDP socket.
const UNCONNECTED: u32 = 7;
/// Size of `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
/// Size of `struct inet_diag_msg`.
const ANSWER: usize = 72;

/// The netlink channel, opened on first use.
#[derive(Debug, Default)]
pub(super) struct Sockets(Option<Channel<NetlinkSocket>>);

impl Sockets {
    /// All sockets that accept traffic to a port.
    pub(super) async fn read(&mut self) -> Result<Listeners, KernelError> {
        let channel = match &mut self.0 {
            Some(channel) => channel,
            none => none.insert(Channel::open(NETLINK_SOCK_DIAG, "sock_diag", false)?),
        };
        let mut listeners = Listeners::default();
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            for family in FAMILIES {
                let request = Request { family, protocol };
                let each = |out: &mut Vec<Socket>, kind, payload: &[u8]| {
                    if kind == SOCK_DIAG_BY_FAMILY {
                        out.push(socket(payload)?);
                    }
                    Ok(())
                };
                let found = channel.dump(request, Vec::new, each).await;
                let found = match found {
                    // If SCTP is not loaded, it has no sockets.
                    Err(KernelError::Refused { source, .. })
                        if protocol == Protocol::Sctp && is_absent(&source) =>
                    {
                        continue;
                    }
                    found => found?,
                };
                for socket in found {
                    listeners.add(socket.addr, protocol, socket.only_v6);
                }
            }
        }
        Ok(listeners)
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT)
    )
}

/// `struct inet_diag_req_v2` for all listening sockets.
#[derive(Debug, Clone, Copy)]
struct Request {
    family: u8,
    protocol: Protocol,
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        SOCK_DIAG_BY_FAMILY
    }

    fn buffer_len(&self) -> usize {
        REQUEST
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let state = match self.protocol {
            Protocol::Udp => UNCONNECTED,
            _ => LISTEN,
        };
        buffer.fill(0);
        let states = (1_u32 << state).to_ne_bytes();
        let start = [self.family, self.protocol.number(), 0, 0];
        for (slot, byte) in buffer.iter_mut().zip(start.into_iter().chain(states)) {
            *slot = byte;
        }
    }
}

/// The part of `struct inet_diag_msg` that is used.
#[derive(Debug)]
struct Socket {
    addr: SocketAddr,
    only_v6: bool,
}

fn socket(payload: &[u8]) -> Result<Socket, Malformed> {
    let attached = behind(payload, ANSWER)?;
    let short = Malformed("the header of a socket");
    let family = *payload.first().ok_or(short)?;
    let port = payload.get(4..6).and_then(|b| b.try_into().ok());
    let port = u16::from_be_bytes(port.ok_or(short)?);
    let bytes = match family {
        2 => payload.get(8..12),
        10 => payload.get(8..24),
        _ => None,
    };
    let ip = bytes.and_then(address);
    let ip = ip.ok_or(Malformed("the family of a socket"))?;
    let mut only_v6 = false;
    for attribute in attributes(attached) {
        let (kind, value) = attribute?;
        only_v6 |= kind == SKV6ONLY && value.first().is_some_and(|v| *v != 0);
    }
    Ok(Socket {
        addr: SocketAddr::new(ip, port),
        only_v6,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn message(family: u8, port: u16, ip: &[u8], attributes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; ANSWER];
        bytes[0] = family;
        bytes[4..6].copy_from_slice(&port.to_be_bytes());
        bytes[8..8 + ip.len()].copy_from_slice(ip);
        bytes.extend_from_slice(attributes);
        bytes
    }

    #[test]
    fn sockets_are_read_and_short_answers_are_refused() {
        let four = socket(&message(2, 22, &[192, 0, 2, 1], &[])).unwrap();
        assert_eq!(four.addr, "192.0.2.1:22".parse().unwrap());
        let unlimited = [6, 0, 8, 0, 1, 0, 0, 0, 5, 0, 11, 0, 0, 0, 0, 0];
        let six = socket(&message(10, 80, &[0; 16], &unlimited)).unwrap();
        assert_eq!((six.addr, six.only_v6), ("[::]:80".parse().unwrap(), false));
        let limited = [5, 0, 11, 0, 1, 0, 0, 0];
        let six = socket(&message(10, 80, &[0; 16], &limited)).unwrap();
        assert!(six.only_v6);
        for bad in [
            &message(2, 22, &[], &[])[..ANSWER - 1],
            &message(1, 22, &[], &[]),
        ] {
            assert!(socket(bad).is_err());
        }
        for lie in [[0, 0, 11, 0, 1, 0, 0, 0], [200, 0, 11, 0, 1, 0, 0, 0]] {
            assert!(socket(&message(10, 80, &[0; 16], &lie)).is_err());
        }
    }

    #[tokio::test]
    async fn the_kernel_names_the_sockets_of_this_process() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let Ok(found) = Sockets::default().read().await else {
            println!("SKIPPED the_kernel_names_the_sockets_of_this_process: no sock_diag here");
            return;
        };
        let (tcp, udp) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
        assert!(found.has(tcp, Protocol::Tcp));
        assert!(found.has(udp, Protocol::Udp));
        assert!(!found.has(SocketAddr::new(tcp.ip(), 1), Protocol::Tcp));
    }
}
