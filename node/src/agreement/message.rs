//! The messages that members exchange about the table. Each has at most [`MAX_MESSAGE`] bytes, and every length is checked on
//! reading.
//!
//! Layout: one byte format (2), one byte kind, then the fields in order. Numbers are big endian; names are one byte of length
//! followed by the text (Kubernetes allows 253 bytes).

use std::sync::Arc;

use super::table::{Ballot, MAX_ROUND, MAX_TABLE, Version};

/// The maximum size of a message: it fits into an Ethernet frame together with the seal and all headers.
pub const MAX_MESSAGE: usize = 1100;
/// Bytes of a table in one part: what remains after the longest header.
pub const PART: usize = 780;
/// The maximum number of parts in one request.
pub const WINDOW: u32 = 32;

const FORMAT: u8 = 2;

/// What a member has promised, holds and knows. All of it is on its disk, except that `agreed` may be ahead of the disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// The highest ballot promised. If it is the sender's own ballot, it asks the receiver for a promise.
    pub promised: Ballot,
    /// Version of the newest table accepted. If it is the sender's own, it offers the table.
    pub held: Version,
    /// Version of the newest table known to be agreed.
    pub agreed: Version,
    /// The sender cannot write to its disk, so another member should lead.
    pub yields: bool,
}

impl Status {
    /// The highest round in it.
    pub fn round(&self) -> u64 {
        let rounds = [&self.promised, &self.held.ballot, &self.agreed.ballot].map(|b| b.round);
        rounds.into_iter().max().unwrap_or_default()
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The state of the sender.
    Status(Status),
    /// Requests up to [`WINDOW`] parts of a table.
    Fetch {
        /// Which table.
        version: Version,
        /// The first part.
        first: u32,
        /// How many.
        count: u32,
    },
    /// One part of a table.
    Part {
        /// Which table.
        version: Version,
        /// Size of the whole table in bytes.
        total: u32,
        /// Which part, counted from 0.
        index: u32,
        /// Its bytes: [`PART`], or fewer in the last one.
        bytes: Vec<u8>,
    },
}

/// Why bytes are not a valid message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Too short, too long, or a number out of range.
    #[error("the message about assignments is cut off, too long, or says something impossible")]
    Content,
    /// A round or a number that has no successor.
    #[error(
        "the message about assignments names {0}, which no honest member can have counted up to"
    )]
    TooHigh(u64),
    /// An unknown format.
    #[error(
        "the message about assignments has format {0}; this version speaks {FORMAT}: run the same version on all nodes"
    )]
    Format(u8),
}

/// The number of parts of a table with this many bytes; at least one.
pub fn parts(total: usize) -> u32 {
    u32::try_from(total.div_ceil(PART).max(1)).unwrap_or(u32::MAX)
}

impl Message {
    /// Encodes the message to at most [`MAX_MESSAGE`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        match self {
            Self::Status(s) => {
                out.push(1);
                put_ballot(&mut out, &s.promised);
                put_version(&mut out, &s.held);
                put_version(&mut out, &s.agreed);
                out.push(u8::from(s.yields));
            }
            Self::Fetch {
                version,
                first,
                count,
            } => {
                out.push(2);
                put_version(&mut out, version);
                out.extend(first.to_be_bytes());
                out.extend(count.to_be_bytes());
            }
            Self::Part {
                version,
                total,
                index,
                bytes,
            } => {
                out.push(3);
                put_version(&mut out, version);
                out.extend(total.to_be_bytes());
                out.extend(index.to_be_bytes());
                out.extend(bytes);
            }
        }
        out
    }

    /// Decodes the bytes of [`Message::encode`]. Everything in the result is within bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader(bytes);
        match r.array::<1>().filter(|_| bytes.len() <= MAX_MESSAGE) {
            Some([FORMAT]) => {}
            Some([other]) => return Err(Malformed::Format(other)),
            None => return Err(Malformed::Content),
        }
        let message = r.message().ok_or(Malformed::Content)?;
        match message.highest() {
            n if n >= MAX_ROUND => Err(Malformed::TooHigh(n)),
            _ => Ok(message),
        }
    }

    /// The highest counter in it.
    fn highest(&self) -> u64 {
        let of = |v: &Version| v.ballot.round.max(v.number);
        match self {
            Self::Status(s) => s.round().max(s.held.number).max(s.agreed.number),
            Self::Fetch { version, .. } | Self::Part { version, .. } => of(version),
        }
    }
}

fn put_ballot(out: &mut Vec<u8>, b: &Ballot) {
    out.extend(b.round.to_be_bytes());
    out.extend(b.boot.to_be_bytes());
    let name = b.proposer.as_bytes();
    let name = name.get(..255).unwrap_or(name);
    out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.extend(name);
}

fn put_version(out: &mut Vec<u8>, v: &Version) {
    put_ballot(out, &v.ballot);
    out.extend(v.number.to_be_bytes());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn ballot(&mut self) -> Option<Ballot> {
        let (round, boot) = (self.u64()?, self.u64()?);
        let [length] = self.array()?;
        let proposer = std::str::from_utf8(self.take(length.into())?).ok()?;
        Some(Ballot {
            round,
            proposer: Arc::from(proposer),
            boot,
        })
    }

    fn version(&mut self) -> Option<Version> {
        Some(Version {
            ballot: self.ballot()?,
            number: self.u64()?,
        })
    }

    fn message(&mut self) -> Option<Message> {
        let [kind] = self.array()?;
        let message = match kind {
            1 => Message::Status(Status {
                promised: self.ballot()?,
                held: self.version()?,
                agreed: self.version()?,
                yields: match self.array()? {
                    [0] => false,
                    [1] => true,
                    _ => return None,
                },
            }),
            2 => Message::Fetch {
                version: self.version()?,
                first: self.u32()?,
                count: self.u32().filter(|n| *n <= WINDOW)?,
            },
            3 => self.part()?,
            _ => return None,
        };
        self.0.is_empty().then_some(message)
    }

    fn part(&mut self) -> Option<Message> {
        let version = self.version()?;
        let (total, index) = (self.u32()?, self.u32()?);
        let size = usize::try_from(total).ok().filter(|n| *n <= MAX_TABLE)?;
        let bytes = self.take(self.0.len())?;
        let at = usize::try_from(index).ok()?.checked_mul(PART)?;
        let expected = size.checked_sub(at)?.min(PART);
        let fits = index < parts(size) && bytes.len() == expected;
        fits.then(|| Message::Part {
            version,
            total,
            index,
            bytes: bytes.to_vec(),
        })
    }
}
