//! The encoding of [`Message`]: one octet for the kind, then the fields in order.
//!
//! Decoding refuses anything that exceeds the limits of [`crate::message`]. The version is in the header of the datagram. `State`
//! has its own module, `state`.

use super::codec::{DecodeError, EncodeError, Reader, Writer};
use super::state::{decode_state, encode_state};
use crate::message::{Heartbeat, MAX_OPAQUE, MAX_WATCHERS, Message};

mod kind {
    pub(super) const HEARTBEAT: u8 = 1;
    pub(super) const PING: u8 = 2;
    pub(super) const PONG: u8 = 3;
    pub(super) const UNWATCH: u8 = 4;
    pub(super) const SUSPECT: u8 = 5;
    pub(super) const ANSWER: u8 = 6;
    pub(super) const ACK: u8 = 7;
    pub(super) const STATE: u8 = 8;
    pub(super) const GOODBYE: u8 = 9;
    pub(super) const OPAQUE: u8 = 10;
}

/// The bytes of a message.
pub fn encode(message: &Message) -> Result<Vec<u8>, EncodeError> {
    let mut w = Writer(Vec::with_capacity(64));
    match message {
        Message::Heartbeat(h) => {
            if h.watchers.len() > MAX_WATCHERS {
                return Err(EncodeError::Bounds("the number of watchers"));
            }
            w.u8(kind::HEARTBEAT);
            w.u64(h.incarnation);
            w.u8(u8::from(h.settled));
            w.u8(h.multiplier);
            w.u64(h.members);
            w.u64(h.claims);
            w.count(h.watchers.len())?;
            h.watchers.iter().try_for_each(|n| w.name(n))?;
        }
        Message::Ping => w.u8(kind::PING),
        Message::Pong => w.u8(kind::PONG),
        Message::Unwatch => w.u8(kind::UNWATCH),
        Message::Suspect { member } => {
            w.u8(kind::SUSPECT);
            w.name(member)?;
        }
        Message::Answer { member, heard } => {
            w.u8(kind::ANSWER);
            w.u8(u8::from(*heard));
            w.name(member)?;
        }
        Message::Ack { seq } => {
            w.u8(kind::ACK);
            w.u64(*seq);
        }
        Message::State(state) => {
            w.u8(kind::STATE);
            encode_state(&mut w, state)?;
        }
        Message::Goodbye {
            incarnation,
            hold_ms,
        } => {
            w.u8(kind::GOODBYE);
            w.u64(*incarnation);
            w.u32(*hold_ms);
        }
        Message::Opaque(payload) => {
            if payload.len() > MAX_OPAQUE {
                return Err(EncodeError::Bounds("the length of a payload"));
            }
            w.u8(kind::OPAQUE);
            w.0.extend_from_slice(payload);
        }
    }
    Ok(w.0)
}

/// Decodes a message that fills all of these bytes.
pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    let mut r = Reader(bytes);
    let message = match r.u8()? {
        kind::HEARTBEAT => {
            let (incarnation, settled) = (r.u64()?, r.bool()?);
            let multiplier = r.u8()?;
            let (members, claims) = (r.u64()?, r.u64()?);
            let watchers = r.list(2, Reader::name)?;
            if watchers.len() > MAX_WATCHERS {
                return Err(DecodeError::Bounds("the number of watchers"));
            }
            Message::Heartbeat(Heartbeat {
                incarnation,
                settled,
                multiplier,
                watchers,
                members,
                claims,
            })
        }
        kind::PING => Message::Ping,
        kind::PONG => Message::Pong,
        kind::UNWATCH => Message::Unwatch,
        kind::SUSPECT => Message::Suspect { member: r.name()? },
        kind::ANSWER => {
            let heard = r.bool()?;
            Message::Answer {
                member: r.name()?,
                heard,
            }
        }
        kind::ACK => Message::Ack { seq: r.u64()? },
        kind::STATE => Message::State(decode_state(&mut r)?),
        kind::GOODBYE => Message::Goodbye {
            incarnation: r.u64()?,
            hold_ms: r.u32()?,
        },
        kind::OPAQUE => {
            let payload = r.take(r.0.len())?;
            if payload.len() > MAX_OPAQUE {
                return Err(DecodeError::Bounds("the length of a payload"));
            }
            Message::Opaque(payload.to_vec())
        }
        _ => return Err(DecodeError::Unknown("a kind of message")),
    };
    r.end()?;
    Ok(message)
}
