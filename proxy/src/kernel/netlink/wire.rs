//! Netlink messages in a datagram (RFC 3549 section 2.3.2, `linux/netlink.h`): writes requests and parses answers.

use std::io;

use netlink_packet_core::NetlinkSerializable;

use super::attr::Malformed;

/// Length of a message's header.
pub(super) const HEADER: usize = 16;
/// Messages are aligned to this.
const ALIGN: usize = 4;
/// `NLMSG_*`.
const NOOP: u16 = 1;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const OVERRUN: u16 = 4;

/// One message from the kernel.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    pub(super) sequence: u32,
    pub(super) flags: u16,
    pub(super) answer: Answer<'a>,
}

/// Its content.
#[derive(Debug)]
pub(super) enum Answer<'a> {
    /// A message of the protocol: its type, and what follows the header.
    Message(u16, &'a [u8]),
    /// The end of a dump.
    Done,
    /// An acknowledgement (`None`), or an error number.
    Result(Option<io::Error>),
}

/// Appends a request.
pub(super) fn put(
    bytes: &mut Vec<u8>,
    flags: u16,
    sequence: u32,
    message: &impl NetlinkSerializable,
) {
    let start = bytes.len();
    let payload = message.buffer_len();
    let length = u32::try_from(HEADER + payload).unwrap_or(u32::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(message.message_type().to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    // To the kernel (port 0), from the port that the socket is bound to.
    bytes.extend([0; 4]);
    bytes.resize(start + HEADER + payload, 0);
    if let Some(space) = bytes.get_mut(start + HEADER..) {
        message.serialize(space);
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
}

/// The messages of a datagram, at least one. It ends after the first malformed message, because the start of the next one is
/// unknown.
pub(super) fn replies(datagram: &[u8]) -> impl Iterator<Item = Result<Reply<'_>, Malformed>> {
    let mut rest = datagram;
    let mut empty = datagram.is_empty();
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() && !std::mem::take(&mut empty) {
                return None;
            }
            match reply(&mut rest) {
                Ok(None) => {}
                Ok(Some(reply)) => return Some(Ok(reply)),
                Err(error) => {
                    rest = &[];
                    return Some(Err(error));
                }
            }
        }
    })
}

/// Removes the first message and returns it. `None` if it has no content.
fn reply<'a>(rest: &mut &'a [u8]) -> Result<Option<Reply<'a>>, Malformed> {
    let cut = Malformed("a message that is cut off");
    let bytes = *rest;
    let word = |at: usize| -> Result<u32, Malformed> {
        let word = bytes.get(at..at + 4).and_then(super::attr::u32_of);
        word.ok_or(cut)
    };
    let half = |at: usize| -> Result<u16, Malformed> {
        let half = bytes.get(at..at + 2).and_then(super::attr::u16_of);
        half.ok_or(cut)
    };
    let length = word(0)? as usize;
    let (kind, flags, sequence) = (half(4)?, half(6)?, word(8)?);
    let payload = bytes.get(HEADER..length).ok_or(cut)?;
    *rest = bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or(&[]);
    let code = || -> Result<i32, Malformed> {
        let code = payload.get(..4).and_then(|c| c.try_into().ok());
        code.map(i32::from_ne_bytes).ok_or(cut)
    };
    let errno = |code: i32| io::Error::from_raw_os_error(code.saturating_abs());
    let answer = match kind {
        NOOP | OVERRUN => return Ok(None),
        ERROR => {
            let code = code()?;
            Answer::Result((code != 0).then(|| errno(code)))
        }
        // Some kernels send it without a code.
        DONE if payload.is_empty() => Answer::Done,
        DONE => match code()? {
            code if code < 0 => Answer::Result(Some(errno(code))),
            _ => Answer::Done,
        },
        kind => Answer::Message(kind, payload),
    };
    Ok(Some(Reply {
        sequence,
        flags,
        answer,
    }))
}
