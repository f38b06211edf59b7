//! A socket to a test kernel that loses, delays, swaps, cuts and repeats datagrams.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTIPART};
use nix::errno::Errno;

use super::Socket;
use super::wire::HEADER;

/// A request as the kernel gets it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) payload: Vec<u8>,
}

impl Message {
    pub(crate) fn is_dump(&self) -> bool {
        self.flags & NLM_F_DUMP == NLM_F_DUMP
    }
}

/// The test kernel's answer to a request: messages with their types, or an error number.
pub(crate) type Said = Result<Vec<(u16, Vec<u8>)>, Errno>;

/// The other end of a socket.
pub(crate) trait Peer: Send + std::fmt::Debug {
    /// Handles the messages of one datagram.
    fn answer(&mut self, messages: &[Message]) -> Vec<Said>;
}

/// What happens to a datagram from the kernel. Datagrams are counted over all sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The request that it would answer never arrives.
    Unheard,
    /// It is lost.
    Lost,
    /// It is dropped, and the kernel reports that (ENOBUFS).
    Overrun,
    /// It comes twice.
    Twice,
    /// It arrives after the answers to the next request.
    Late,
    /// It swaps places with the next one.
    Swapped,
    /// Only this many bytes of it arrive.
    Cut(usize),
}

/// The faults, by the number of the datagram.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) script: BTreeMap<usize, Fault>,
    pub(crate) count: usize,
}

/// The socket.
#[derive(Debug, Clone)]
pub(crate) struct FaultySocket {
    peer: Arc<Mutex<dyn Peer>>,
    faults: Arc<Mutex<Faults>>,
    queue: VecDeque<Result<Vec<u8>, Errno>>,
    late: Vec<Vec<u8>>,
}

impl FaultySocket {
    pub(crate) fn new(peer: Arc<Mutex<dyn Peer>>, faults: Arc<Mutex<Faults>>) -> Self {
        Self {
            peer,
            faults,
            queue: VecDeque::new(),
            late: Vec::new(),
        }
    }

    fn deliver(&mut self, replies: Vec<Vec<u8>>) {
        let mut faults = self.faults.lock().unwrap();
        let late = std::mem::take(&mut self.late);
        let mut swapped = None;
        for reply in replies {
            let multipart = flags(&reply) & NLM_F_MULTIPART != 0;
            let fault = faults.script.get(&faults.count).copied();
            faults.count += 1;
            match fault {
                // The kernel fills the datagrams of a dump as they are read, so none can overtake another or get lost unnoticed.
                Some(Fault::Lost | Fault::Late | Fault::Overrun) if multipart => {
                    self.queue.push_back(Err(Errno::ENOBUFS));
                }
                Some(Fault::Twice | Fault::Swapped) if multipart => {
                    let mut reply = reply;
                    let flags = (flags(&reply) | NLM_F_DUMP_INTR).to_ne_bytes();
                    reply[6..8].copy_from_slice(&flags);
                    self.queue.push_back(Ok(reply));
                }
                None | Some(Fault::Unheard) => self.queue.push_back(Ok(reply)),
                Some(Fault::Lost) => {}
                Some(Fault::Overrun) => self.queue.push_back(Err(Errno::ENOBUFS)),
                Some(Fault::Twice) => {
                    self.queue.push_back(Ok(reply.clone()));
                    self.queue.push_back(Ok(reply));
                }
                Some(Fault::Late) => self.late.push(reply),
                Some(Fault::Swapped) => {
                    swapped = Some(reply);
                    continue;
                }
                Some(Fault::Cut(length)) => {
                    let mut reply = reply;
                    reply.truncate(length);
                    self.queue.push_back(Ok(reply));
                }
            }
            self.queue.extend(swapped.take().map(Ok));
        }
        self.queue.extend(swapped.map(Ok));
        self.queue.extend(late.into_iter().map(Ok));
    }
}

impl Socket for FaultySocket {
    async fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        {
            let mut faults = self.faults.lock().unwrap();
            if faults.script.get(&faults.count) == Some(&Fault::Unheard) {
                faults.count += 1;
                return Ok(());
            }
        }
        let replies = serve(&mut *self.peer.lock().unwrap(), datagram);
        self.deliver(replies);
        Ok(())
    }

    async fn recv(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        match self.queue.pop_front() {
            Some(Ok(datagram)) => {
                *buffer = datagram;
                Ok(())
            }
            Some(Err(errno)) => Err(errno.into()),
            None => std::future::pending().await,
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.queue.clear();
        self.late.clear();
        Ok(())
    }
}

/// A kernel that receives everything and never answers.
#[derive(Debug)]
pub(crate) struct Mute;

impl Peer for Mute {
    fn answer(&mut self, messages: &[Message]) -> Vec<Said> {
        // Neither messages nor an acknowledgement; see `serve`.
        messages.iter().map(|_| Err(Errno::UnknownErrno)).collect()
    }
}

fn flags(message: &[u8]) -> u16 {
    u16::from_ne_bytes(message[6..8].try_into().unwrap())
}

/// The datagrams with which a kernel answers one datagram.
fn serve(peer: &mut dyn Peer, datagram: &[u8]) -> Vec<Vec<u8>> {
    let (mut messages, mut headers) = (Vec::new(), Vec::new());
    let mut rest = datagram;
    while !rest.is_empty() {
        let length = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
        headers.push(rest[..HEADER].to_vec());
        messages.push(Message {
            kind: u16::from_ne_bytes(rest[4..6].try_into().unwrap()),
            flags: flags(rest),
            payload: rest[HEADER..length].to_vec(),
        });
        rest = &rest[length.next_multiple_of(4)..];
    }
    let mut out = Vec::new();
    let said = peer.answer(&messages);
    assert_eq!(said.len(), messages.len());
    for ((said, message), header) in said.into_iter().zip(&messages).zip(&headers) {
        let sequence = u32::from_ne_bytes(header[8..12].try_into().unwrap());
        let result = |code: i32| {
            let payload = [code.to_ne_bytes().to_vec(), header.clone()].concat();
            bytes(2, 0, sequence, &payload)
        };
        match said {
            Err(Errno::UnknownErrno) => {}
            Err(errno) => out.push(result(-(errno as i32))),
            Ok(replies) => {
                let multipart = if message.is_dump() {
                    NLM_F_MULTIPART
                } else {
                    0
                };
                for (kind, payload) in replies {
                    out.push(bytes(kind, multipart, sequence, &payload));
                }
                if message.is_dump() {
                    out.push(bytes(3, multipart, sequence, &[0; 4]));
                } else if message.flags & NLM_F_ACK != 0 {
                    out.push(result(0));
                }
            }
        }
    }
    out
}

/// A message.
pub(crate) fn bytes(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + payload.len()).unwrap();
    let mut out = length.to_ne_bytes().to_vec();
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend([0; 4]);
    out.extend(payload);
    out
}

/// An attribute.
pub(crate) fn nla(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    let mut out = length.to_ne_bytes().to_vec();
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}
