//! Hashes that are the same on all nodes.
//!
//! Rendezvous ties, the choice of watchers and the digests compare values between processes. The standard library's hashers
//! differ by version and by process, so they can't be used. The hashes are not cryptographic: packets are authenticated.

use std::net::IpAddr;

/// The finalizer of SplitMix64: spreads every input bit over the output.
pub(crate) fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// FNV-1a over bytes, mixed.
pub(crate) fn bytes(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(fnv)
}

/// The hash of an address. The inputs of the two families differ, so they never collide by construction.
pub(crate) fn addr(addr: &IpAddr) -> u64 {
    match addr {
        IpAddr::V4(a) => bytes(&a.octets()),
        IpAddr::V6(a) => bytes(&a.octets()),
    }
}

/// Two hashes, in order: `pair(a, b) != pair(b, a)`.
pub(crate) fn pair(a: u64, b: u64) -> u64 {
    mix(a.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ mix(b))
}

/// A small seeded generator. The seed is the machine's only randomness.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % n).unwrap_or(0)
    }
}
