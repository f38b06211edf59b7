//! Rules 1 and 6: which of two claims to an address is better, and which epoch a new claim gets.
//!
//! Pure comparisons. The order depends on which members the caller sees as live, so all nodes share it only once their views
//! agree. For one view the order is total and merging claims is commutative.

use std::cmp::Ordering;
use std::net::IpAddr;

use crate::member::hash;
use crate::message::{ClaimEntry, NodeName};

/// Who announces an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The claimant.
    pub node: NodeName,
    /// Later claims have higher epochs.
    pub epoch: u64,
    /// No majority of the known nodes has confirmed it.
    pub provisional: bool,
}

impl From<&ClaimEntry> for Claim {
    fn from(entry: &ClaimEntry) -> Self {
        Self {
            node: entry.node.clone(),
            epoch: entry.epoch,
            provisional: entry.provisional,
        }
    }
}

impl Claim {
    /// The claim as it travels.
    pub fn entry(&self, addr: IpAddr) -> ClaimEntry {
        ClaimEntry {
            addr,
            node: self.node.clone(),
            epoch: self.epoch,
            provisional: self.provisional,
        }
    }

    pub(crate) fn digest(&self, addr: &IpAddr) -> u64 {
        let id = hash::pair(hash::addr(addr), hash::bytes(self.node.as_str().as_bytes()));
        hash::pair(id, hash::pair(self.epoch, u64::from(self.provisional)))
    }
}

/// The rendezvous score of a node for an address. The higher score wins a tie.
pub fn score(addr: &IpAddr, node: &NodeName) -> u64 {
    hash::pair(hash::addr(addr), hash::bytes(node.as_str().as_bytes()))
}

/// Rule 1: a live claimant wins, then a confirmed claim, then the higher epoch, then the rendezvous score. The name comes last,
/// so that no two different claims are equal. `Greater` means that `a` is the better claim.
pub fn order(addr: &IpAddr, a: &Claim, b: &Claim, live: impl Fn(&NodeName) -> bool) -> Ordering {
    live(&a.node)
        .cmp(&live(&b.node))
        .then_with(|| b.provisional.cmp(&a.provisional))
        .then_with(|| a.epoch.cmp(&b.epoch))
        .then_with(|| score(addr, &a.node).cmp(&score(addr, &b.node)))
        .then_with(|| a.node.cmp(&b.node))
}

/// Rule 6: higher than every epoch seen for this address, and rising even when all nodes lost their memory. `wall` is Unix time
/// in milliseconds. A wrong clock does no harm.
pub fn next_epoch(highest: u64, wall: u64) -> u64 {
    highest.saturating_add(1).max(wall)
}
