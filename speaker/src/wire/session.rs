//! Rejects recordings: a datagram counts only once, and only if its sender has answered this process's challenge.
//!
//! Each receiver sends each sender a random *token* in a challenge. Every message carries the token from its receiver. Within
//! that token, a window over the sender's counter rejects repetitions. A datagram with another token or from another boot is
//! answered with a challenge. So datagrams from before the receiver's start, or from an earlier process of the sender, are
//! worthless. This needs no clocks and no state that survives a restart.
//!
//! A challenge names the datagram that caused it. A sender accepts it only for a datagram that it sent itself a moment ago, and
//! that is later than the previous one. So challenges can't be replayed: an old token, put back in force, would make the sender
//! mute.
//!
//! Every datagram causes at most one challenge, and of each boot only one that is later than all before it. So a flood of
//! recordings cannot spend the challenge that the member itself needs: what it sends now is later than every recording.
//!
//! Messages before the first challenge wait for it (the last [`PENDING`] of them) and are sent after it. A start costs one round
//! trip. Pure: the table holds known members only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::codec::{Reader, Writer};
use super::key::Key;
use super::message::{decode, encode};
use super::seal::{Cipher, Header, Kind, sender_id};
use crate::message::{Message, NodeName};

/// How many messages wait for a challenge.
pub const PENDING: usize = 8;
/// How many boots of a member are remembered, with the last datagram of each that caused a challenge.
const BOOTS: usize = 16;
/// A challenge must name one of our most recent datagrams.
const RECENT: u64 = 4096;

/// Why a datagram was dropped.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error,
)]
pub enum Rejected {
    /// Not a datagram of this version.
    #[error("not a ferrolb datagram of this version")]
    Malformed,
    /// Its sender is not a known member.
    #[error("its sender is not a known member")]
    Stranger,
    /// It carries our own name.
    #[error("it is our own, or another node has our name")]
    Own,
    /// The key differs, or somebody changed it.
    #[error("it is not authentic: do all nodes have the same key file?")]
    Forged,
    /// It was received before.
    #[error("it was received before")]
    Replayed,
    /// Its sender has not answered our challenge yet.
    #[error("its sender has yet to answer our challenge")]
    Unproven,
}

/// The result of a datagram.
#[derive(Debug, Default)]
pub struct Opened {
    /// Its sender and its message, or the reason for rejecting it. `None` for an accepted challenge.
    pub message: Option<Result<(NodeName, Message), Rejected>>,
    /// What to send to that member at once: a challenge, or the messages that waited for one.
    pub replies: Option<(NodeName, Vec<Vec<u8>>)>,
}

/// The last 64 counters of a session.
#[derive(Clone, Copy, Debug)]
struct Window {
    highest: u64,
    seen: u64,
}

impl Window {
    /// Returns true if this counter is new.
    fn accept(&mut self, counter: u64) -> bool {
        if counter > self.highest {
            let by = counter - self.highest;
            self.seen = if by < 64 { self.seen << by | 1 } else { 1 };
            self.highest = counter;
            return true;
        }
        let back = self.highest - counter;
        let bit = 1u64
            .checked_shl(u32::try_from(back).unwrap_or(u32::MAX))
            .unwrap_or(0);
        let fresh = bit != 0 && self.seen & bit == 0;
        self.seen |= bit;
        fresh
    }
}

#[derive(Debug, Default)]
struct Peer {
    /// The token from this member, for the messages that we send it.
    token: Option<u64>,
    /// The datagram of ours that its last challenge named.
    proved: u64,
    pending: VecDeque<Vec<u8>>,
    /// Its current boot and our token that it uses.
    session: Option<(u64, u64, Window)>,
    /// A token that we sent and that it has not used yet.
    offered: Option<u64>,
    /// By boot, the last used one at the end: the latest datagram that caused a challenge.
    challenged: VecDeque<(u64, u64)>,
}

impl Peer {
    /// Whether a datagram causes a challenge: none of its boot that is as late as this one did.
    fn deserves_challenge(&mut self, boot: u64, counter: u64) -> bool {
        let known = self.challenged.iter().position(|(b, _)| *b == boot);
        let before = known.and_then(|at| self.challenged.remove(at));
        let before = before.map(|(_, latest)| latest);
        if self.challenged.len() == BOOTS {
            self.challenged.pop_front();
        }
        let latest = before.map_or(counter, |latest| latest.max(counter));
        self.challenged.push_back((boot, latest));
        before.is_none_or(|latest| latest < counter)
    }
}

/// The sessions with all members.
#[derive(Debug)]
pub struct Sessions {
    me: NodeName,
    id: u64,
    cipher: Cipher,
    boot: u64,
    counter: u64,
    /// The source of tokens: a hash over a secret seed, which nobody can predict.
    seed: [u8; 32],
    drawn: u64,
    peers: BTreeMap<NodeName, Peer>,
    names: BTreeMap<u64, NodeName>,
}

impl Sessions {
    /// `seed` is 32 random octets that were never used before.
    pub fn new(me: NodeName, key: &Key, seed: [u8; 32]) -> Self {
        let id = sender_id(&me);
        let mut sessions = Self {
            me,
            id,
            cipher: Cipher::new(key),
            boot: 0,
            counter: 0,
            seed,
            drawn: 0,
            peers: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        sessions.boot = sessions.draw();
        sessions
    }

    /// The members that may send, with or without this node.
    pub fn set_members(&mut self, members: &BTreeSet<NodeName>) {
        self.peers.retain(|name, _| members.contains(name));
        for name in members.iter().filter(|n| **n != self.me) {
            self.peers.entry(name.clone()).or_default();
        }
        self.names = self
            .peers
            .keys()
            .map(|n| (sender_id(n), n.clone()))
            .collect();
    }

    /// The datagram that carries a message to a member. `None` if it must wait for the member's challenge, is too large, or the
    /// member is not known.
    pub fn seal(&mut self, to: &NodeName, message: &Message) -> Option<Vec<u8>> {
        let encoded = match encode(message) {
            Ok(encoded) => encoded,
            Err(e) => {
                tracing::error!(%to, "a message was not sent: {e}");
                return None;
            }
        };
        let peer = self.peers.get_mut(to)?;
        match peer.token {
            Some(token) => self.data(to, token, &encoded),
            None => {
                if peer.pending.len() == PENDING {
                    peer.pending.pop_front();
                }
                peer.pending.push_back(encoded);
                // Only a datagram can cause a challenge, so this sends an empty message without a token.
                self.data(to, 0, &[])
            }
        }
    }

    /// Handles a datagram from the network.
    pub fn open(&mut self, datagram: &[u8]) -> Opened {
        let rejected = |why| Opened {
            message: Some(Err(why)),
            replies: None,
        };
        let Some(header) = Header::read(datagram) else {
            return rejected(Rejected::Malformed);
        };
        if header.sender == self.id {
            return rejected(Rejected::Own);
        }
        let Some(from) = self.names.get(&header.sender).cloned() else {
            return rejected(Rejected::Stranger);
        };
        let Some(plain) = self.cipher.open(&header, &from, &self.me, datagram) else {
            return rejected(Rejected::Forged);
        };
        match header.kind {
            Kind::Challenge => self.challenged(from, &plain),
            Kind::Data => self.received(from, &header, &plain),
        }
    }

    fn received(&mut self, from: NodeName, header: &Header, plain: &[u8]) -> Opened {
        let rejected = |why| Opened {
            message: Some(Err(why)),
            replies: None,
        };
        let mut r = Reader(plain);
        let (Ok(token), Some(peer)) = (r.u64(), self.peers.get_mut(&from)) else {
            return rejected(Rejected::Malformed);
        };
        let counter = header.counter;
        match &mut peer.session {
            Some((boot, given, window)) if *boot == header.boot && *given == token => {
                if !window.accept(counter) {
                    return rejected(Rejected::Replayed);
                }
            }
            session if peer.offered == Some(token) => {
                *session = Some((
                    header.boot,
                    token,
                    Window {
                        highest: counter,
                        seen: 1,
                    },
                ));
                peer.offered = None;
            }
            _ => return self.challenge(from, header),
        }
        let message = match decode(r.0) {
            Ok(message) => Ok((from, message)),
            Err(_) => Err(Rejected::Malformed),
        };
        Opened {
            message: Some(message),
            replies: None,
        }
    }

    /// Challenges a sender to prove itself.
    fn challenge(&mut self, from: NodeName, header: &Header) -> Opened {
        let fresh = self.draw();
        let mut opened = Opened {
            message: Some(Err(Rejected::Unproven)),
            replies: None,
        };
        let Some(peer) = self.peers.get_mut(&from) else {
            return opened;
        };
        if !peer.deserves_challenge(header.boot, header.counter) {
            return opened;
        }
        let mut w = Writer::default();
        w.u64(*peer.offered.get_or_insert(fresh));
        w.u64(header.boot);
        w.u64(header.counter);
        if let Some(datagram) = self.datagram(Kind::Challenge, &from, &w.0) {
            opened.replies = Some((from, vec![datagram]));
        }
        opened
    }

    /// Handles a challenge from a member.
    fn challenged(&mut self, from: NodeName, plain: &[u8]) -> Opened {
        let rejected = |why| Opened {
            message: Some(Err(why)),
            replies: None,
        };
        let mut r = Reader(plain);
        let (Ok(token), Ok(boot), Ok(counter), Ok(())) = (r.u64(), r.u64(), r.u64(), r.end())
        else {
            return rejected(Rejected::Malformed);
        };
        let recent = counter <= self.counter && self.counter - counter < RECENT;
        if boot != self.boot || !recent {
            return rejected(Rejected::Replayed);
        }
        let Some(peer) = self.peers.get_mut(&from) else {
            return rejected(Rejected::Stranger);
        };
        if counter <= peer.proved {
            return rejected(Rejected::Replayed);
        }
        peer.proved = counter;
        peer.token = Some(token);
        let pending = std::mem::take(&mut peer.pending);
        let datagrams: Vec<_> = pending
            .iter()
            .filter_map(|encoded| self.data(&from, token, encoded))
            .collect();
        Opened {
            message: None,
            replies: (!datagrams.is_empty()).then_some((from, datagrams)),
        }
    }

    fn data(&mut self, to: &NodeName, token: u64, encoded: &[u8]) -> Option<Vec<u8>> {
        let mut w = Writer(Vec::with_capacity(8 + encoded.len()));
        w.u64(token);
        w.0.extend_from_slice(encoded);
        self.datagram(Kind::Data, to, &w.0)
    }

    fn datagram(&mut self, kind: Kind, to: &NodeName, plain: &[u8]) -> Option<Vec<u8>> {
        self.counter += 1;
        let header = Header {
            kind,
            sender: self.id,
            boot: self.boot,
            counter: self.counter,
        };
        self.cipher.seal(&header, &self.me, to, plain)
    }

    /// An unpredictable number. It is never 0, which stands for "no token".
    fn draw(&mut self) -> u64 {
        use sha2::{Digest, Sha256};
        self.drawn += 1;
        let hash: [u8; 32] = Sha256::new()
            .chain_update(self.seed)
            .chain_update(self.drawn.to_be_bytes())
            .finalize()
            .into();
        let [a, b, c, d, e, f, g, h, ..] = hash;
        u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1)
    }
}
