//! One slot per existing address with its best known claim, an index by claimant, and a digest that every change updates.
//!
//! Claims for addresses that do not exist here yet are kept outside the table and the digest. Nodes learn of a new address at
//! different times, and a claim that arrives first must not be lost. These claims are forgotten after a while.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::rules::Claim;
use crate::message::{ClaimEntry, NodeName};

/// The most claims for unknown addresses that are kept.
const MAX_EARLY: usize = 16_384;

/// What is known of one address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) claim: Option<Claim>,
    /// The highest epoch ever seen for it.
    pub(crate) highest: u64,
}

/// All existing addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    slots: BTreeMap<IpAddr, Slot>,
    by_node: BTreeMap<NodeName, BTreeSet<IpAddr>>,
    digest: u64,
    early: BTreeMap<IpAddr, (ClaimEntry, Duration)>,
    /// Addresses that came or went, or whose announcer may be another one now, since somebody asked.
    touched: BTreeSet<IpAddr>,
}

impl Claims {
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn get(&self, addr: &IpAddr) -> Option<&Slot> {
        self.slots.get(addr)
    }

    pub(crate) fn claim(&self, addr: &IpAddr) -> Option<&Claim> {
        self.slots.get(addr)?.claim.as_ref()
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = &IpAddr> {
        self.slots.keys()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&IpAddr, &Claim)> {
        self.slots
            .iter()
            .filter_map(|(a, s)| s.claim.as_ref().map(|c| (a, c)))
    }

    /// The addresses that `node` claims.
    pub(crate) fn of(&self, node: &NodeName) -> impl Iterator<Item = &IpAddr> {
        self.by_node.get(node).into_iter().flatten()
    }

    /// How many addresses `node` claims.
    pub(crate) fn load(&self, node: &NodeName) -> usize {
        self.by_node.get(node).map_or(0, BTreeSet::len)
    }

    /// Remembers that an epoch was used.
    pub(crate) fn saw(&mut self, addr: &IpAddr, epoch: u64) {
        if let Some(slot) = self.slots.get_mut(addr) {
            slot.highest = slot.highest.max(epoch);
        }
    }

    /// Puts a claim into its slot, replacing whatever was there.
    pub(crate) fn set(&mut self, addr: IpAddr, claim: Option<Claim>) {
        let Some(slot) = self.slots.get_mut(&addr) else {
            return;
        };
        self.touched.insert(addr);
        if let Some(old) = slot.claim.take() {
            self.digest ^= old.digest(&addr);
            if let Some(set) = self.by_node.get_mut(&old.node) {
                set.remove(&addr);
                if set.is_empty() {
                    self.by_node.remove(&old.node);
                }
            }
        }
        if let Some(new) = &claim {
            self.digest ^= new.digest(&addr);
            slot.highest = slot.highest.max(new.epoch);
            self.by_node
                .entry(new.node.clone())
                .or_default()
                .insert(addr);
        }
        slot.claim = claim;
    }

    /// Empties every slot but keeps the epochs; returns the claims.
    pub(crate) fn drain(&mut self) -> Vec<ClaimEntry> {
        let old: Vec<ClaimEntry> = self.iter().map(|(a, c)| c.entry(*a)).collect();
        self.touched.extend(old.iter().map(|entry| entry.addr));
        for slot in self.slots.values_mut() {
            slot.claim = None;
        }
        self.by_node.clear();
        self.digest = 0;
        old
    }

    /// Notes that another node may announce these addresses now.
    pub(crate) fn touch(&mut self, addrs: impl IntoIterator<Item = IpAddr>) {
        self.touched.extend(addrs);
    }

    /// The same for everything that `node` claims.
    pub(crate) fn touch_those_of(&mut self, node: &NodeName) {
        let claimed = self.by_node.get(node).into_iter().flatten();
        self.touched.extend(claimed);
    }

    /// The addresses whose claim or announcer may have changed since the last call.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<IpAddr> {
        std::mem::take(&mut self.touched)
    }

    /// Keeps a claim of an address that does not exist here.
    pub(crate) fn keep_early(&mut self, entry: &ClaimEntry, now: Duration) {
        let known = self.early.get(&entry.addr);
        let newer = known.is_none_or(|(old, _)| old.epoch <= entry.epoch);
        if newer && (known.is_some() || self.early.len() < MAX_EARLY) {
            self.early.insert(entry.addr, (entry.clone(), now));
        }
    }

    pub(crate) fn forget_early(&mut self, before: Duration) {
        self.early.retain(|_, (_, at)| *at >= before);
    }

    /// Adds an address. Returns the claim that waited for it.
    pub(crate) fn add(&mut self, addr: IpAddr) -> Option<ClaimEntry> {
        self.slots.entry(addr).or_default();
        self.early.remove(&addr).map(|(e, _)| e)
    }

    /// Removes an address and everything known about it.
    pub(crate) fn remove(&mut self, addr: IpAddr) {
        self.set(addr, None);
        self.slots.remove(&addr);
    }
}
