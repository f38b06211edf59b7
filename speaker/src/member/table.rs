//! The known nodes and the status of each, with a digest that every change updates.
//!
//! Within one incarnation belief only grows (`Unknown < Alive < Held < Dead`, unsettled < settled), so merging two views is
//! commutative. A node that must revoke something (it was declared dead, or it was paused) starts a new incarnation.

use std::collections::BTreeMap;
use std::time::Duration;

use super::eligible::EligibleSet;
use super::hash;
use super::watch::Suspicion;
use crate::message::{MAX_MULTIPLIER, MAX_WATCHERS, MemberEntry, NodeName, Status};

/// One known node.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) hash: u64,
    pub(crate) incarnation: u64,
    pub(crate) status: Status,
    pub(crate) settled: bool,
    /// How many times longer than usual it may be silent. Within one incarnation it only grows.
    pub(crate) multiplier: u8,
    /// It was not heard since this node's pause, and may have asked for more patience meanwhile.
    pub(crate) unheard: bool,
    /// While `Held`: when the hold ends.
    pub(crate) hold_until: Duration,
    /// When its last frame arrived, in this life of mine.
    pub(crate) heard: Option<Duration>,
    /// Start of its silence: when it was last heard, or when I began to watch it.
    pub(crate) silent_from: Duration,
    /// It sends me heartbeats, or should.
    pub(crate) watching: bool,
    /// The watchers that its last heartbeat named.
    pub(crate) watchers: Vec<NodeName>,
    pub(crate) suspicion: Option<Suspicion>,
    /// It is not declared dead before this time: I slept myself, and it gets a moment to answer.
    pub(crate) spared: Duration,
    /// When it came back after I had taken it for dead.
    pub(crate) rejoined: Option<Duration>,
    pub(crate) eligible: EligibleSet,
    /// The number of consecutive heartbeats whose digests differ from mine.
    pub(crate) mismatches: u8,
    /// No full transfer to it before this time.
    pub(crate) transfer_next: Duration,
    pub(crate) transfer_gap: Duration,
    /// It is not notified again of its status in my view before this time.
    pub(crate) tell_next: Duration,
    /// When the next kernel ping is due, while it is held and I watch it.
    pub(crate) kernel_next: Duration,
}

impl Member {
    fn new(name: &NodeName) -> Self {
        Self {
            hash: hash::bytes(name.as_str().as_bytes()),
            incarnation: 0,
            status: Status::Unknown,
            settled: false,
            multiplier: 1,
            unheard: false,
            hold_until: Duration::ZERO,
            heard: None,
            silent_from: Duration::ZERO,
            watching: false,
            watchers: Vec::new(),
            suspicion: None,
            spared: Duration::ZERO,
            rejoined: None,
            eligible: EligibleSet::default(),
            mismatches: 0,
            transfer_next: Duration::ZERO,
            transfer_gap: Duration::ZERO,
            tell_next: Duration::ZERO,
            kernel_next: Duration::ZERO,
        }
    }

    /// It keeps its addresses: its agent is alive or briefly away.
    pub(crate) fn live(&self) -> bool {
        matches!(self.status, Status::Alive | Status::Held)
    }

    /// It may be given addresses and may place them.
    pub(crate) fn candidate(&self) -> bool {
        self.status == Status::Alive && self.settled
    }

    /// The multiplier by which its silence is judged.
    pub(crate) fn patience(&self) -> u32 {
        let known = if self.unheard {
            MAX_MULTIPLIER
        } else {
            self.multiplier
        };
        u32::from(known.clamp(1, MAX_MULTIPLIER))
    }

    fn digest(&self) -> u64 {
        if self.status == Status::Unknown {
            return 0;
        }
        // Only a member that speaks sets its own multiplier.
        let multiplier = match self.status {
            Status::Alive => self.multiplier,
            _ => 0,
        };
        let flags =
            u64::from(multiplier) << 8 | (self.status as u64) << 1 | u64::from(self.settled);
        let eligible = if self.live() {
            self.eligible.digest()
        } else {
            0
        };
        hash::pair(
            hash::pair(self.hash, self.incarnation),
            hash::pair(flags, eligible),
        )
    }
}

/// A member, for readers outside the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// The node.
    pub node: NodeName,
    /// Its status in this node's view.
    pub status: Status,
    /// Whether it is settled.
    pub settled: bool,
    /// How many times longer than usual it may be silent before it counts as dead; 1 for a node that is never late.
    pub multiplier: u8,
    /// Its incarnation.
    pub incarnation: u64,
    /// How many addresses it may announce.
    pub eligible: usize,
    /// When it was last heard directly, measured from the machine's origin of time.
    pub heard: Option<Duration>,
}

/// All known nodes, including this one.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    map: BTreeMap<NodeName, Member>,
    digest: u64,
}

impl Members {
    pub(crate) fn new<'a>(known: impl IntoIterator<Item = &'a NodeName>) -> Self {
        let map = known
            .into_iter()
            .map(|n| (n.clone(), Member::new(n)))
            .collect();
        Self { map, digest: 0 }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// How many nodes are known: the denominator of every majority.
    pub(crate) fn known(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn get(&self, name: &NodeName) -> Option<&Member> {
        self.map.get(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&NodeName, &Member)> {
        self.map.iter()
    }

    /// Changes a member and updates the digest.
    pub(crate) fn update<R>(
        &mut self,
        name: &NodeName,
        f: impl FnOnce(&mut Member) -> R,
    ) -> Option<R> {
        let member = self.map.get_mut(name)?;
        let before = member.digest();
        let result = f(member);
        self.digest ^= before ^ member.digest();
        Some(result)
    }

    /// Changes fields that no digest covers (timers, suspicion).
    pub(crate) fn touch(&mut self, name: &NodeName) -> Option<&mut Member> {
        self.map.get_mut(name)
    }

    /// The same for all of them.
    pub(crate) fn touch_all(&mut self) -> impl Iterator<Item = (&NodeName, &mut Member)> {
        self.map.iter_mut()
    }

    pub(crate) fn add(&mut self, name: &NodeName) {
        self.map
            .entry(name.clone())
            .or_insert_with(|| Member::new(name));
    }

    pub(crate) fn remove(&mut self, name: &NodeName) {
        if let Some(member) = self.map.remove(name) {
            self.digest ^= member.digest();
        }
    }

    pub(crate) fn live(&self, name: &NodeName) -> bool {
        self.get(name).is_some_and(Member::live)
    }

    /// Names of those whose agents speak, without `me`.
    pub(crate) fn peers(&self, me: &NodeName) -> Vec<NodeName> {
        self.map
            .iter()
            .filter(|(n, m)| m.status == Status::Alive && *n != me)
            .map(|(n, _)| n.clone())
            .collect()
    }

    /// Settled members whose agents speak, lowest name first.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = (&NodeName, &Member)> {
        self.map.iter().filter(|(_, m)| m.candidate())
    }

    /// The first live nodes by rendezvous for `name`: the nodes that it heartbeats.
    pub(crate) fn watchers_of(&self, name: &NodeName, hash: u64) -> Vec<NodeName> {
        let mut best: Vec<(u64, &NodeName)> = Vec::with_capacity(MAX_WATCHERS + 1);
        for (n, m) in &self.map {
            if m.status != Status::Alive || n == name {
                continue;
            }
            let score = (hash::pair(hash, m.hash), n);
            let at = best.partition_point(|b| *b > score);
            if at < MAX_WATCHERS {
                best.insert(at, score);
                best.truncate(MAX_WATCHERS);
            }
        }
        best.into_iter().map(|(_, n)| n.clone()).collect()
    }

    /// What I would report to others about it.
    pub(crate) fn entry(&self, name: &NodeName, now: Duration) -> Option<MemberEntry> {
        let member = self.get(name)?;
        let left = match member.status {
            Status::Held => member.hold_until.saturating_sub(now),
            _ => Duration::ZERO,
        };
        Some(MemberEntry {
            node: name.clone(),
            incarnation: member.incarnation,
            status: member.status,
            settled: member.settled,
            multiplier: member.multiplier,
            hold_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
        })
    }

    pub(crate) fn views(&self) -> Vec<MemberView> {
        self.map
            .iter()
            .map(|(n, m)| MemberView {
                node: n.clone(),
                status: m.status,
                settled: m.settled,
                multiplier: m.multiplier,
                incarnation: m.incarnation,
                eligible: m.eligible.addresses().len(),
                heard: m.heard,
            })
            .collect()
    }
}
