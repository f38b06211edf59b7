//! A netlink socket as the parts of the real kernel use it: many requests in one datagram, one answer per request.
//!
//! It knows sequence numbers, acknowledgements and dumps, and nothing about the messages. The kernel works a datagram off message
//! by message before `send` returns, so a thousand requests cost a handful of system calls and no round trips.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::time::Duration;

use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use nix::sys::socket::{
    setsockopt,
    sockopt::{RcvBufForce, SndBufForce},
};

use super::KernelError;

/// Longest wait for an answer. The kernel answers before `send` returns; this only keeps a lost answer from being waited for forever.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests in one datagram outside of transactions: their acknowledgements fit into a default receive buffer.
const WINDOW: usize = 64;
/// Room for one answer. The kernel fills what it is given: the larger, the fewer times a dump has to find its place again.
const DATAGRAM: usize = 256 << 10;
/// Dumps are repeated this often when a change interrupts them (`NLM_F_DUMP_INTR`).
const DUMP_TRIES: usize = 8;
/// `NLM_F_DUMP_INTR`: what was dumped changed meanwhile.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// Room for one transaction in the send buffer (about 50,000 set elements), and for an error per message in the other.
const BUFFER: usize = 8 << 20;

/// One request: flags beside `NLM_F_REQUEST`, and the message.
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

/// A netlink socket in the network namespace of the thread that opened it.
pub(crate) struct Channel {
    socket: TokioSocket,
    name: &'static str,
    sequence: u32,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel")
            .field("name", &self.name)
            .finish_non_exhaustive()
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

impl Channel {
    /// Opens a socket of a netlink protocol; `name` is for messages.
    pub(crate) fn open(protocol: isize, name: &'static str) -> Result<Self, KernelError> {
        let open = || -> io::Result<TokioSocket> {
            let mut socket = TokioSocket::new(protocol)?;
            socket.socket_mut().bind_auto()?;
            socket.socket_ref().set_cap_ack(true)?;
            Ok(socket)
        };
        let socket = open().map_err(|e| {
            // EPROTONOSUPPORT: the protocol's module is not there.
            if e.raw_os_error() == Some(nix::errno::Errno::EPROTONOSUPPORT as i32) {
                KernelError::Missing {
                    what: name.to_owned(),
                    hint: "use a kernel with this netlink protocol".to_owned(),
                }
            } else {
                refused(format!("open {name}"), e)
            }
        })?;
        Ok(Self {
            socket,
            name,
            sequence: 0,
            buffer: Vec::new(),
        })
    }

    /// Makes room for transactions of many thousand messages. Needs CAP_NET_ADMIN in the first user namespace; without it the
    /// usual buffer stays, and long transactions are refused with EMSGSIZE.
    pub(crate) fn enlarge(&self) -> io::Result<()> {
        let socket = self.socket.socket_ref();
        setsockopt(socket, SndBufForce, &BUFFER)?;
        setsockopt(socket, RcvBufForce, &BUFFER)?;
        Ok(())
    }

    /// Sends requests in order, some to a datagram, and returns what became of each.
    pub(crate) async fn pipeline<M>(
        &mut self,
        requests: &[Request<M>],
    ) -> Result<Vec<Option<io::Error>>, KernelError>
    where
        M: NetlinkSerializable + Clone + Debug,
    {
        let mut results = Vec::with_capacity(requests.len());
        for window in requests.chunks(WINDOW) {
            let first = self.sequence.wrapping_add(1);
            let mut bytes = Vec::new();
            for request in window {
                self.put(&mut bytes, request, NLM_F_ACK);
            }
            self.send(&bytes).await?;
            let mut answers = BTreeMap::new();
            while answers.len() < window.len() {
                self.receive::<Discard>(first, |sequence, answer| {
                    if let Answer::Ack(result) = answer {
                        answers.insert(sequence.wrapping_sub(first), result);
                    }
                    Ok(())
                })
                .await?;
            }
            results.extend(answers.into_values());
        }
        Ok(results)
    }

    /// Sends all requests in one datagram and collects errors by index until the request `last` is acknowledged or the
    /// datagram itself is refused (index `None`). `requests[last]` asks for the acknowledgement, no other does.
    pub(crate) async fn batch<M>(
        &mut self,
        requests: &[Request<M>],
        last: usize,
    ) -> Result<Vec<(usize, io::Error)>, KernelError>
    where
        M: NetlinkSerializable + Clone + Debug,
    {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for (i, request) in requests.iter().enumerate() {
            let ack = if i == last { NLM_F_ACK } else { 0 };
            self.put(&mut bytes, request, ack);
        }
        self.send(&bytes).await?;
        let mut errors = Vec::new();
        let mut done = false;
        while !done {
            self.receive::<Discard>(first, |sequence, answer| {
                if let Answer::Ack(result) = answer {
                    let index = sequence.wrapping_sub(first) as usize;
                    // An error of the first message (the batch header) stands for the whole batch: nothing follows it.
                    done |= index == last || index == 0;
                    errors.extend(result.map(|e| (index, e)));
                }
                Ok(())
            })
            .await?;
        }
        Ok(errors)
    }

    /// Dumps: calls `each` for every answer. Repeats when a change interrupted it; `reset` is called before each try.
    pub(crate) async fn dump<M, A, R>(
        &mut self,
        request: M,
        mut reset: impl FnMut() -> R,
        mut each: impl FnMut(&mut R, A) -> Result<(), DecodeError>,
    ) -> Result<R, KernelError>
    where
        M: NetlinkSerializable + Clone + Debug,
        A: NetlinkDeserializable + Debug,
        A::Error: std::error::Error,
    {
        for _ in 0..DUMP_TRIES {
            let mut bytes = Vec::new();
            let first = self.sequence.wrapping_add(1);
            self.put(&mut bytes, &Request::new(NLM_F_DUMP, request.clone()), 0);
            self.send(&bytes).await?;
            let mut result = reset();
            let (mut done, mut interrupted, mut failed) = (false, false, None);
            while !done {
                self.receive::<A>(first, |_, answer| {
                    match answer {
                        Answer::Message(flags, message) => {
                            interrupted |= flags & NLM_F_DUMP_INTR != 0;
                            each(&mut result, message)?;
                        }
                        Answer::Done(flags) => {
                            interrupted |= flags & NLM_F_DUMP_INTR != 0;
                            done = true;
                        }
                        Answer::Ack(error) => {
                            failed = error;
                            done = true;
                        }
                    }
                    Ok(())
                })
                .await?;
            }
            match failed {
                Some(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Some(e) => return Err(refused(format!("read {}", self.name), e)),
                None if !interrupted => return Ok(result),
                None => {}
            }
        }
        Err(refused(
            format!("read {}", self.name),
            io::Error::from(io::ErrorKind::Interrupted),
        ))
    }

    /// Asks for one object: its message, or the error number.
    pub(crate) async fn get<M>(&mut self, request: M) -> Result<Result<M, io::Error>, KernelError>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Clone + Debug,
        M::Error: std::error::Error,
    {
        let mut bytes = Vec::new();
        let first = self.sequence.wrapping_add(1);
        self.put(&mut bytes, &Request::new(0, request), NLM_F_ACK);
        self.send(&bytes).await?;
        let (mut found, mut answered) = (None, None);
        while answered.is_none() {
            self.receive::<M>(first, |_, answer| {
                match answer {
                    Answer::Message(_, message) => found = Some(message),
                    Answer::Ack(error) => answered = Some(error),
                    Answer::Done(_) => answered = Some(None),
                }
                Ok(())
            })
            .await?;
        }
        Ok(match (answered.flatten(), found) {
            (Some(e), _) => Err(e),
            (None, Some(message)) => Ok(message),
            (None, None) => Err(io::Error::from(io::ErrorKind::NotFound)),
        })
    }

    fn put<M>(&mut self, bytes: &mut Vec<u8>, request: &Request<M>, extra: u16)
    where
        M: NetlinkSerializable + Clone + Debug,
    {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::new(
            Default::default(),
            NetlinkPayload::InnerMessage(request.message.clone()),
        );
        message.header.flags = NLM_F_REQUEST | request.flags | extra;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        if let Some(rest) = bytes.get_mut(start..) {
            message.serialize(rest);
        }
    }

    async fn send(&self, bytes: &[u8]) -> Result<(), KernelError> {
        self.socket
            .send(bytes)
            .await
            .map(|_| ())
            .map_err(|e| refused(format!("write {}", self.name), e))
    }

    /// Reads one datagram and hands over those of its messages that answer requests from `first` to the newest.
    async fn receive<M>(
        &mut self,
        first: u32,
        mut each: impl FnMut(u32, Answer<M>) -> Result<(), DecodeError>,
    ) -> Result<(), KernelError>
    where
        M: NetlinkDeserializable + Debug,
        M::Error: std::error::Error,
    {
        let protocol = |detail: String| KernelError::Protocol {
            what: format!("read {}", self.name),
            detail,
        };
        let mut bytes = std::mem::take(&mut self.buffer);
        bytes.clear();
        bytes.reserve(DATAGRAM);
        tokio::time::timeout(PATIENCE, self.socket.recv(&mut bytes))
            .await
            .map_err(|_| protocol(format!("none within {PATIENCE:?}")))?
            .map_err(|e| refused(format!("read {}", self.name), e))?;
        let window = self.sequence.wrapping_sub(first);
        let mut rest = bytes.as_slice();
        while rest.len() >= 16 {
            let message =
                NetlinkMessage::<M>::deserialize(rest).map_err(|e| protocol(e.to_string()))?;
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length.max(16)..).unwrap_or_default();
            let (sequence, flags) = (message.header.sequence_number, message.header.flags);
            if sequence.wrapping_sub(first) > window {
                continue;
            }
            let answer = match message.payload {
                NetlinkPayload::InnerMessage(m) => Answer::Message(flags, m),
                NetlinkPayload::Done(done) if done.code < 0 => {
                    Answer::Ack(Some(io::Error::from_raw_os_error(-done.code)))
                }
                NetlinkPayload::Done(_) => Answer::Done(flags),
                NetlinkPayload::Error(e) => Answer::Ack(e.code.map(|_| e.to_io())),
                _ => continue,
            };
            each(sequence, answer).map_err(|e| protocol(e.to_string()))?;
        }
        self.buffer = bytes;
        Ok(())
    }
}

/// What an answer holds, with its flags.
enum Answer<M> {
    Message(u16, M),
    Done(u16),
    Ack(Option<io::Error>),
}

/// The payload of answers that are not looked at.
#[derive(Debug)]
struct Discard;

impl NetlinkDeserializable for Discard {
    type Error = DecodeError;

    fn deserialize(_: &netlink_packet_core::NetlinkHeader, _: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self)
    }
}
