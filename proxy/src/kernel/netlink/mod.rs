//! A netlink channel for the parts of the real kernel: many requests in one datagram, one answer per request.
//!
//! It handles sequence numbers, acknowledgements and dumps, and knows nothing about the content of messages. The kernel processes
//! a datagram message by message before `send` returns, so a thousand requests need only a few system calls and no round trips.
//!
//! An answer can be lost, because the receive buffer overran (the kernel reports ENOBUFS, netlink(7)) or memory was short. Then
//! the request is sent once more. If it is still not answered, it is [`Outcome::Unanswered`], and the requests after it are
//! [`Outcome::Unsent`]. Neither ever counts as done. Late answers to abandoned requests are recognised by their sequence numbers
//! and skipped.

use std::io;
use std::time::Duration;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkSerializable};
use nix::errno::Errno;
use tokio::time::Instant;

pub(crate) mod attr;
mod change;
#[cfg(test)]
pub(crate) mod faulty;
mod read;
mod socket;
#[cfg(test)]
pub(crate) mod tests;
mod wire;

use super::KernelError;
use attr::Malformed;
pub(crate) use socket::{NetlinkSocket, Socket};
use wire::Answer;

/// Longest silence while an answer is due. The kernel answers before `send` returns, so after a longer silence the answer is
/// lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a request is sent at most.
const TRIES: usize = 2;
/// Requests in one datagram outside of transactions. Their acknowledgements fit into a default receive buffer.
const WINDOW: usize = 64;
/// How often a dump is repeated if a change interrupts it (`NLM_F_DUMP_INTR`).
const DUMP_TRIES: usize = 8;

/// One request: the message, and its flags in addition to `NLM_F_REQUEST`.
#[derive(Debug, Clone)]
pub(crate) struct Request<M> {
    pub(crate) flags: u16,
    pub(crate) message: M,
}

impl<M> Request<M> {
    pub(crate) fn new(flags: u16, message: M) -> Self {
        Self { flags, message }
    }
}

/// The outcome of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The kernel did it.
    Done,
    /// The kernel refused it with this error.
    Refused(io::Error),
    /// It was sent but not answered, so it may or may not be done.
    Unanswered,
    /// It was not sent, because an earlier one was not answered.
    Unsent,
}

impl Outcome {
    /// The outcome as an error of the operation `what`. `None` if it was done.
    pub(crate) fn error(self, what: impl FnOnce() -> String) -> Option<KernelError> {
        match self {
            Self::Done => None,
            Self::Refused(source) => Some(refused(what(), source)),
            Self::Unanswered => Some(KernelError::Unanswered { what: what() }),
            Self::Unsent => Some(KernelError::Unsent { what: what() }),
        }
    }
}

/// An error number as a [`KernelError`] for the operation `what`.
pub(crate) fn refused(what: impl Into<String>, source: io::Error) -> KernelError {
    let what = what.into();
    if source.kind() == io::ErrorKind::PermissionDenied {
        KernelError::Permission {
            what: format!("the kernel ({what})"),
        }
    } else {
        KernelError::Refused { what, source }
    }
}

/// Why an answer is missing.
#[derive(Debug)]
enum Silence {
    /// Nothing within [`PATIENCE`].
    Timeout,
    /// ENOBUFS: the kernel dropped answers.
    Overrun,
    /// EBUSY: an abandoned dump is still under way.
    Busy,
    /// The socket failed.
    Failed(io::Error),
}

/// Requests and answers over one netlink socket.
#[derive(Debug)]
pub(crate) struct Channel<S> {
    socket: S,
    name: &'static str,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Channel<NetlinkSocket> {
    /// Opens a socket for a netlink protocol. `name` is for messages. `large` makes room for transactions of many thousand
    /// messages.
    pub(crate) fn open(
        protocol: isize,
        name: &'static str,
        large: bool,
    ) -> Result<Self, KernelError> {
        let socket = NetlinkSocket::open(protocol, large).map_err(|e| {
            // EPROTONOSUPPORT: the protocol's module is missing.
            if e.raw_os_error() == Some(Errno::EPROTONOSUPPORT as i32) {
                KernelError::Missing {
                    what: name.to_owned(),
                    hint: "use a kernel with this netlink protocol".to_owned(),
                }
            } else {
                refused(format!("open {name}"), e)
            }
        })?;
        Ok(Self::new(socket, name))
    }
}

impl<S: Socket> Channel<S> {
    /// A channel over a socket; `name` is for messages.
    pub(crate) fn new(socket: S, name: &'static str) -> Self {
        Self {
            socket,
            name,
            sequence: 0,
            buffer: Vec::new(),
        }
    }

    /// The datagram with these requests, and the sequence number of the first. `extra` gives additional flags by index.
    fn write<M>(&mut self, requests: &[Request<M>], extra: impl Fn(usize) -> u16) -> (u32, Vec<u8>)
    where
        M: NetlinkSerializable,
    {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for (i, request) in requests.iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let flags = NLM_F_REQUEST | request.flags | extra(i);
            wire::put(&mut bytes, flags, self.sequence, &request.message);
        }
        (first, bytes)
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        tokio::time::timeout(PATIENCE, self.socket.send(bytes))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads datagrams until one has answers to the requests from `first` to the newest. Passes on each answer with the index of
    /// its request, counted from `first`, and its flags. A malformed message counts as lost; the return value says whether there
    /// was one.
    async fn receive(
        &mut self,
        first: u32,
        mut each: impl FnMut(u32, u16, Answer<'_>),
    ) -> Result<Option<Malformed>, Silence> {
        let deadline = Instant::now() + PATIENCE;
        let newest = self.sequence.wrapping_sub(first);
        loop {
            let received = self.socket.recv(&mut self.buffer);
            match tokio::time::timeout_at(deadline, received).await {
                Err(_) => return Err(Silence::Timeout),
                Ok(Err(e)) if e.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    return Err(Silence::Overrun);
                }
                Ok(Err(e)) => return Err(Silence::Failed(e)),
                Ok(Ok(())) => {}
            }
            let (mut any, mut bad) = (false, None);
            for reply in wire::replies(&self.buffer) {
                let reply = match reply {
                    Ok(reply) => reply,
                    Err(error) => {
                        bad = Some(error);
                        continue;
                    }
                };
                let place = reply.sequence.wrapping_sub(first);
                if place <= newest {
                    any = true;
                    each(place, reply.flags, reply.answer);
                }
            }
            if any || bad.is_some() {
                return Ok(bad);
            }
        }
    }

    /// Makes the channel usable again after a missing answer.
    fn recover(&mut self, silence: Silence) {
        match &silence {
            // Answers still in the buffer are skipped by their sequence number.
            Silence::Overrun => {
                tracing::debug!(channel = self.name, "the kernel dropped answers (ENOBUFS)");
                return;
            }
            Silence::Timeout => {
                tracing::warn!(
                    channel = self.name,
                    "the kernel did not answer within {PATIENCE:?}"
                );
            }
            Silence::Busy => {
                tracing::debug!(
                    channel = self.name,
                    "the netlink socket is busy with an earlier dump"
                );
            }
            Silence::Failed(error) => {
                tracing::warn!(channel = self.name, %error, "the netlink socket failed");
            }
        }
        if let Err(error) = self.socket.reopen() {
            tracing::warn!(channel = self.name, %error, "a new netlink socket cannot be opened, so the old one stays in use");
        }
    }
}
