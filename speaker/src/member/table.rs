//! The known nodes and what each is taken for, with a digest that is kept up as they change.
//!
//! Within one incarnation belief only grows (`Unknown < Alive < Held < Dead`, unsettled < settled), so merging two views is
//! commutative. A node that must take something back (it was declared dead, it was paused) starts a new incarnation.

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
    /// It was not heard since this node's pause and may have asked for more patience meanwhile.
    pub(crate) unheard: bool,
    /// While `Held`: until when.
    pub(crate) hold_until: Duration,
    /// Last frame that came from it, in this life of mine.
    pub(crate) heard: Option<Duration>,
    /// Since when its silence counts: last heard, or when I began to watch.
    pub(crate) silent_from: Duration,
    /// It heartbeats me, or ought to.
    pub(crate) watching: bool,
    /// Whom its last heartbeat named.
    pub(crate) watchers: Vec<NodeName>,
    pub(crate) suspicion: Option<Suspicion>,
    /// Not declared dead before this time: I slept myself, and it gets a moment to answer.
    pub(crate) spared: Duration,
    /// When it came back from what I held for its death.
    pub(crate) rejoined: Option<Duration>,
    pub(crate) eligible: EligibleSet,
    /// Heartbeats running whose digests differ from mine.
    pub(crate) mismatches: u8,
    /// No full transfer to it before this time.
    pub(crate) transfer_next: Duration,
    pub(crate) transfer_gap: Duration,
    /// Not told again what I take it for before this time.
    pub(crate) tell_next: Duration,
    /// When a kernel ping to it is due, while it is held and I watch it.
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

    /// Keeps its addresses: its agent lives, or is away for a moment.
    pub(crate) fn live(&self) -> bool {
        matches!(self.status, Status::Alive | Status::Held)
    }

    /// May be given addresses, and may place them.
    pub(crate) fn candidate(&self) -> bool {
        self.status == Status::Alive && self.settled
    }

    /// The multiplier that its silence is judged by.
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
        // Only who speaks says how patient to be with it.
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

/// A member as others may read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Who.
    pub node: NodeName,
    /// What this node takes it for.
    pub status: Status,
    /// Whether it is settled.
    pub settled: bool,
    /// How many times longer than usual it may be silent before it is taken for dead; 1 for a node that is never late.
    pub multiplier: u8,
    /// Which life of it.
    pub incarnation: u64,
    /// How many addresses it may announce.
    pub eligible: usize,
    /// When it was last heard directly, since the machine's origin of time.
    pub heard: Option<Duration>,
}

/// All known nodes, myself among them.
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

    /// Changes a member and keeps the digest right.
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

    /// Changes what no digest covers (timers, suspicion).
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

    /// The first live nodes by rendezvous for `name`: whom it heartbeats.
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

    /// What I would tell others of it.
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
