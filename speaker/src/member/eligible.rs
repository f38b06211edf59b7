//! Which addresses a node may announce, as reported by the node itself: a versioned set that is sent in parts or as a change.
//!
//! A newer version replaces an older one only as a whole. Parts wait in a staging area until all have arrived. If a datagram is
//! lost, the old list stays and the digest reveals the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::hash;
use crate::message::{ELIGIBLE_PART, Eligible, EligibleChange};

/// The most parts of a list. A larger number is refused as invalid.
const MAX_PARTS: u16 = 512;

/// The eligibility of one node. Version 0 means that nothing is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct EligibleSet {
    version: u64,
    addresses: BTreeSet<IpAddr>,
    digest: u64,
    staging: Option<Staging>,
}

#[derive(Clone, Debug)]
struct Staging {
    version: u64,
    parts: u16,
    got: BTreeMap<u16, Vec<IpAddr>>,
}

impl EligibleSet {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.addresses
    }

    pub(crate) fn contains(&self, addr: &IpAddr) -> bool {
        self.addresses.contains(addr)
    }

    /// A digest of version and content; 0 if nothing is known.
    pub(crate) fn digest(&self) -> u64 {
        if self.version == 0 {
            return 0;
        }
        hash::pair(self.version, self.digest)
    }

    /// A digest of the content alone. Equal lists of different nodes are sent together.
    pub(crate) fn content(&self) -> (usize, u64) {
        (self.addresses.len(), self.digest)
    }

    /// Forgets everything and returns what was eligible.
    pub(crate) fn clear(&mut self) -> BTreeSet<IpAddr> {
        std::mem::take(self).addresses
    }

    /// Replaces the list. Returns the addresses whose eligibility changed.
    pub(crate) fn replace(&mut self, version: u64, addresses: BTreeSet<IpAddr>) -> Vec<IpAddr> {
        let changed = self
            .addresses
            .symmetric_difference(&addresses)
            .copied()
            .collect();
        self.version = version;
        self.digest = addresses.iter().fold(0, |d, a| d ^ hash::addr(a));
        self.addresses = addresses;
        self.staging = None;
        changed
    }

    /// Takes one part of `version`. The last part replaces the list. Returns the addresses whose eligibility changed.
    pub(crate) fn receive(&mut self, version: u64, entry: &Eligible) -> Option<Vec<IpAddr>> {
        if version <= self.version
            || entry.parts == 0
            || entry.parts > MAX_PARTS
            || entry.part >= entry.parts
            || entry.addresses.len() > ELIGIBLE_PART
        {
            return None;
        }
        let fresh = self.staging.as_ref().is_none_or(|s| {
            s.version < version || (s.version == version && s.parts != entry.parts)
        });
        if fresh {
            self.staging = Some(Staging {
                version,
                parts: entry.parts,
                got: BTreeMap::new(),
            });
        }
        let staging = self.staging.as_mut()?;
        if staging.version != version {
            return None;
        }
        staging.got.insert(entry.part, entry.addresses.clone());
        if staging.got.len() < usize::from(staging.parts) {
            return None;
        }
        let all = std::mem::take(&mut staging.got)
            .into_values()
            .flatten()
            .collect();
        Some(self.replace(version, all))
    }

    /// Applies another node's change if it starts from the current version. Returns the addresses whose eligibility changed.
    pub(crate) fn change(&mut self, change: &EligibleChange) -> Option<Vec<IpAddr>> {
        let follows = change.from == self.version && change.to > change.from;
        (follows && self.version > 0).then(|| self.set(change))
    }

    /// Applies a change. Returns the addresses whose eligibility changed.
    pub(crate) fn set(&mut self, change: &EligibleChange) -> Vec<IpAddr> {
        let mut changed = Vec::new();
        for addr in &change.added {
            if self.addresses.insert(*addr) {
                changed.push(*addr);
            }
        }
        for addr in &change.removed {
            if self.addresses.remove(addr) {
                changed.push(*addr);
            }
        }
        self.digest = changed.iter().fold(self.digest, |d, a| d ^ hash::addr(a));
        self.version = change.to;
        changed
    }

    /// The sorted list, split the same way on all nodes. An empty list is one empty part.
    pub(crate) fn parts(&self) -> Vec<Vec<IpAddr>> {
        let all: Vec<IpAddr> = self.addresses.iter().copied().collect();
        if all.is_empty() {
            return vec![Vec::new()];
        }
        all.chunks(ELIGIBLE_PART).map(<[IpAddr]>::to_vec).collect()
    }
}
