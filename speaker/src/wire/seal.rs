//! The envelope of a datagram: XChaCha20-Poly1305 (RFC 8439 with the extended nonce) under the cluster's key.
//!
//! | octets | what |
//! |---|---|
//! | 3 + 1 | magic `flb`, version in the upper and kind in the lower half of the fourth |
//! | 8 | sender: start of SHA-256 of its name |
//! | 8 | boot of the sender: random, drawn when its process starts |
//! | 8 | counter: rises with every datagram of that boot |
//! | n + 16 | ciphertext and tag |
//!
//! The nonce is boot, counter and sender, so no nonce is ever used twice. The header and both names are authenticated too, so a
//! packet can't be passed off as another member's or forwarded to a third. Rejecting old datagrams is the task of `session`.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};

use super::codec::{Reader, Writer};
use super::key::Key;
use crate::message::NodeName;

/// Octets before the ciphertext.
pub const HEADER: usize = 28;
/// The largest datagram: unfragmented on every Ethernet, tunnels included.
pub const LARGEST: usize = 1400;

const MAGIC: &[u8] = b"flb";
const VERSION: u8 = 1;

/// What a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message.
    Data,
    /// "Prove that you are not a recording": see `session`.
    Challenge,
}

/// The part of a datagram that is not secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is for.
    pub kind: Kind,
    /// The sender's [`sender_id`].
    pub sender: u64,
    /// The process of the sender.
    pub boot: u64,
    /// The datagram of that process.
    pub counter: u64,
}

/// The short form of a name in a header.
pub fn sender_id(name: &NodeName) -> u64 {
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = Sha256::digest(name.as_str()).into();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl Header {
    fn bytes(&self) -> Vec<u8> {
        let mut w = Writer(Vec::with_capacity(LARGEST));
        w.0.extend_from_slice(MAGIC);
        w.u8(VERSION << 4 | matches!(self.kind, Kind::Challenge) as u8);
        w.u64(self.sender);
        w.u64(self.boot);
        w.u64(self.counter);
        w.0
    }

    /// Reads the header of a datagram. `None` if it is not a datagram of this version.
    pub fn read(datagram: &[u8]) -> Option<Self> {
        if datagram.len() > LARGEST {
            return None;
        }
        let mut r = Reader(datagram);
        if r.take(3).ok()? != MAGIC {
            return None;
        }
        let kind = match r.u8().ok()? {
            k if k == VERSION << 4 => Kind::Data,
            k if k == VERSION << 4 | 1 => Kind::Challenge,
            _ => return None,
        };
        Some(Self {
            kind,
            sender: r.u64().ok()?,
            boot: r.u64().ok()?,
            counter: r.u64().ok()?,
        })
    }

    fn nonce(&self) -> XNonce {
        let mut nonce = XNonce::default();
        for (octet, value) in nonce.iter_mut().zip(
            [self.boot, self.counter, self.sender]
                .iter()
                .flat_map(|v| v.to_be_bytes()),
        ) {
            *octet = value;
        }
        nonce
    }

    fn authenticated(&self, from: &NodeName, to: &NodeName) -> Vec<u8> {
        let mut bytes = self.bytes();
        for name in [from, to] {
            bytes.extend_from_slice(&(name.as_str().len() as u64).to_be_bytes());
            bytes.extend_from_slice(name.as_str().as_bytes());
        }
        bytes
    }
}

/// Seals and opens datagrams.
pub struct Cipher(XChaCha20Poly1305);

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher(..)")
    }
}

impl Cipher {
    /// A cipher with the cluster's key.
    pub fn new(key: &Key) -> Self {
        Self(XChaCha20Poly1305::new(key.bytes().into()))
    }

    /// The sealed datagram. `None` if it would be too large.
    pub fn seal(
        &self,
        header: &Header,
        from: &NodeName,
        to: &NodeName,
        plain: &[u8],
    ) -> Option<Vec<u8>> {
        let aad = header.authenticated(from, to);
        let sealed = self
            .0
            .encrypt(
                &header.nonce(),
                Payload {
                    msg: plain,
                    aad: &aad,
                },
            )
            .ok()?;
        let mut datagram = header.bytes();
        datagram.extend_from_slice(&sealed);
        (datagram.len() <= LARGEST).then_some(datagram)
    }

    /// The plain text of a datagram with this header. `None` if it is not authentic.
    pub fn open(
        &self,
        header: &Header,
        from: &NodeName,
        to: &NodeName,
        datagram: &[u8],
    ) -> Option<Vec<u8>> {
        let aad = header.authenticated(from, to);
        self.0
            .decrypt(
                &header.nonce(),
                Payload {
                    msg: datagram.get(HEADER..)?,
                    aad: &aad,
                },
            )
            .ok()
    }
}
