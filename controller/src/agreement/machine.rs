//! One member's side of the agreement: events in, actions out. The rules are in the module above.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fetch::{Fetch, Progress, RESEND};
use super::message::{Malformed, Message, PART, Status, WINDOW, parts};
use super::table::{Ballot, MAX_TABLE, Name, Saved, Table, Version};
use crate::assignment::Assignments;

/// How often every member says where it stands when nothing changes.
const DIGEST: Duration = Duration::from_millis(500);
/// How long after a failed write the next try is made.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// What this node sees of the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The elected allocator: the lowest settled live member; `None` while this node has not settled.
    pub placer: Option<Name>,
    /// How many nodes are known (Node objects or the static list), this one included, dead ones too.
    pub known: usize,
    /// The live ones of them; whether this node is among them does not matter.
    pub live: BTreeSet<Name>,
}

/// What happens to a member.
#[derive(Debug, Clone)]
pub enum Event {
    /// The view of the others changed.
    View(View),
    /// A message came, from an authenticated member.
    Received {
        /// Its sender.
        from: Name,
        /// The message.
        bytes: Vec<u8>,
    },
    /// What this node's allocator computed, going on from the table of [`Action::Lead`].
    Wanted {
        /// The ballot of that action; what was computed for an older one is ignored.
        ballot: Ballot,
        /// The assignments.
        assignments: Assignments,
    },
    /// The last [`Action::Persist`] is on disk.
    Persisted,
    /// The last [`Action::Persist`] failed. It is tried again.
    PersistFailed,
    /// Time passed; every 50 to 100 ms.
    Tick,
}

/// What a member must do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this to that member. It may be lost.
    Send {
        /// The receiver.
        to: Name,
        /// At most [`super::message::MAX_MESSAGE`] bytes.
        bytes: Vec<u8>,
    },
    /// Write this to disk, then say [`Event::Persisted`] or [`Event::PersistFailed`]. One at a time.
    Persist(Arc<Saved>),
    /// This table is in force now.
    Agreed(Arc<Table>),
    /// This node allocates under this ballot: rebase the allocator on the table, decide, say [`Event::Wanted`]; again
    /// whenever something changes, until another [`Action::Lead`] or [`Action::Follow`].
    Lead {
        /// To be repeated in [`Event::Wanted`].
        ballot: Ballot,
        /// What to go on from.
        base: Arc<Table>,
    },
    /// This node does not allocate any more.
    Follow,
    /// A message or a table made no sense; for the log.
    Refused {
        /// Its sender.
        from: Name,
        /// What is wrong.
        why: String,
    },
}

/// What the elected member is doing.
#[derive(Debug)]
enum Role {
    Follower,
    /// Collects promises; the base is being fetched once a majority gave theirs.
    Preparing(Ballot),
    /// Proposes. `wanted` waits for the proposal under way.
    Leading {
        ballot: Ballot,
        /// What the allocator went on from.
        base: Version,
        /// Number of the last proposal, 0 before the first.
        number: u64,
        wanted: Option<Assignments>,
    },
}

/// One member.
#[derive(Debug)]
pub struct Machine {
    me: Name,
    boot: u64,
    view: View,
    saved: Saved,
    /// What is on disk: all that others are told of promises and tables.
    durable: Status,
    writing: Option<Status>,
    write_after: Option<Instant>,
    role: Role,
    fetch: Option<Fetch>,
    peers: BTreeMap<Name, Status>,
    highest_round: u64,
    last_told: Option<Instant>,
    /// Encoded tables of which parts were asked for.
    encoded: BTreeMap<Version, Arc<[u8]>>,
    out: Vec<Action>,
}

impl Machine {
    /// A member that wakes up with what its disk has. `boot` differs at every start: a random number, or the time.
    /// What was agreed before, [`Machine::agreed`], is in force from the beginning.
    pub fn new(me: Name, boot: u64, saved: Saved) -> Self {
        let durable = Status {
            promised: saved.promised.clone(),
            held: saved.held.version.clone(),
            agreed: saved.agreed.version.clone(),
        };
        Self {
            me,
            boot,
            view: View::default(),
            highest_round: saved.promised.round,
            saved,
            durable,
            writing: None,
            write_after: None,
            role: Role::Follower,
            fetch: None,
            peers: BTreeMap::new(),
            last_told: None,
            encoded: BTreeMap::new(),
            out: Vec::new(),
        }
    }

    /// The table in force.
    pub fn agreed(&self) -> &Arc<Table> {
        &self.saved.agreed
    }

    /// Whether more than half of the known nodes are alive: without that nothing new is agreed on
    /// ([`ferrolb_api::reason::Reason::NoMajority`]).
    pub fn has_majority(&self) -> bool {
        self.majority(1 + self.others().count())
    }

    /// Whether this node allocates.
    pub fn is_leading(&self) -> bool {
        matches!(self.role, Role::Leading { .. })
    }

    /// Takes in one event. Never fails: what makes no sense is reported and ignored.
    pub fn step(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::View(view) => self.see(view, now),
            Event::Received { from, bytes } => self.receive(&from, &bytes, now),
            Event::Wanted {
                ballot: wanted_under,
                assignments,
            } => {
                if let Role::Leading { ballot, wanted, .. } = &mut self.role
                    && *ballot == wanted_under
                {
                    *wanted = Some(assignments);
                    self.propose();
                }
            }
            Event::Persisted => {
                if let Some(written) = self.writing.take() {
                    self.durable = written;
                    self.tell_all(now);
                }
            }
            Event::PersistFailed => {
                self.writing = None;
                self.write_after = Some(now + DISK_RETRY);
            }
            Event::Tick => self.tick(now),
        }
        self.advance(now);
        self.write(now);
        std::mem::take(&mut self.out)
    }

    fn own(&self, version: &Version) -> Option<Arc<Table>> {
        let tables = [&self.saved.held, &self.saved.agreed];
        tables.into_iter().find(|t| t.version == *version).cloned()
    }

    fn others(&self) -> impl Iterator<Item = &Name> {
        self.view.live.iter().filter(|n| **n != self.me)
    }

    fn majority(&self, count: usize) -> bool {
        2 * count > self.view.known.max(1)
    }

    fn elected(&self) -> bool {
        self.view.placer.as_ref() == Some(&self.me)
    }

    fn see(&mut self, view: View, now: Instant) {
        let news = self.view != view;
        self.view = view;
        self.peers.retain(|name, _| self.view.live.contains(name));
        if self
            .fetch
            .as_ref()
            .is_some_and(|f| !self.view.live.contains(&f.from))
        {
            self.fetch = None;
        }
        match (self.elected(), &self.role) {
            (true, Role::Follower) => self.prepare(),
            (false, Role::Preparing(_) | Role::Leading { .. }) => {
                self.role = Role::Follower;
                self.out.push(Action::Follow);
            }
            _ => {}
        }
        if news {
            self.tell_all(now);
        }
    }

    /// Asks for promises under a ballot above all that it heard of.
    fn prepare(&mut self) {
        if self.is_leading() {
            self.out.push(Action::Follow);
        }
        self.highest_round = self.highest_round.saturating_add(1);
        let ballot = Ballot {
            round: self.highest_round,
            proposer: self.me.clone(),
            boot: self.boot,
        };
        // Its own promise; others see it, and that it is ours, in our status.
        self.saved.promised = ballot.clone();
        self.role = Role::Preparing(ballot);
    }

    fn receive(&mut self, from: &Name, bytes: &[u8], now: Instant) {
        if *from == self.me || !self.view.live.contains(from) {
            return;
        }
        match Message::decode(bytes) {
            Ok(Message::Status(status)) => self.hear(from, status, now),
            Ok(Message::Fetch {
                version,
                first,
                count,
            }) => self.serve(from, version, first, count),
            Ok(Message::Part {
                version,
                total,
                index,
                bytes,
            }) => {
                self.part(from, &version, (total, index, bytes), now);
            }
            Err(why @ (Malformed::Content | Malformed::Format(_))) => {
                self.out.push(Action::Refused {
                    from: from.clone(),
                    why: why.to_string(),
                })
            }
        }
    }

    fn hear(&mut self, from: &Name, status: Status, now: Instant) {
        self.highest_round = self.highest_round.max(status.promised.round);
        let promise = &status.promised;
        if self.view.placer.as_ref() == Some(from)
            && promise.proposer == *from
            && *promise > self.saved.promised
        {
            self.saved.promised = promise.clone();
        }
        let behind = status.agreed < self.saved.agreed.version || status.held != self.durable.held;
        let news = self.peers.insert(from.clone(), status.clone()) != Some(status);
        // Whoever says something new and lacks what is known here hears of it at once.
        if news && behind {
            self.tell(&from.clone());
        }
        self.learn(now);
    }

    /// What the peers say may show that what is held here is agreed, or that something newer can be fetched.
    fn learn(&mut self, now: Instant) {
        let newest = self.peers.values().map(|s| &s.agreed).max().cloned();
        if let Some(version) = newest.filter(|v| *v > self.saved.agreed.version) {
            if self.saved.held.version == version {
                self.agree(self.saved.held.clone());
            } else if self.base().is_none() {
                let source = self.peers.iter().find(|(_, s)| s.agreed == version);
                if let Some(from) = source.map(|(n, _)| n.clone()) {
                    self.get(from, version, now);
                    return;
                }
            }
        }
        let Some(placer) = self.view.placer.clone().filter(|p| *p != self.me) else {
            return;
        };
        if let Some(offer) = self.peers.get(&placer).map(|s| s.held.clone())
            && self.acceptable(&placer, &offer)
        {
            self.get(placer, offer, now);
        }
    }

    fn acceptable(&self, from: &Name, offer: &Version) -> bool {
        self.view.placer.as_ref() == Some(from)
            && offer.ballot.proposer == *from
            && offer.ballot >= self.saved.promised
            && *offer > self.saved.held.version
    }

    fn get(&mut self, from: Name, version: Version, now: Instant) {
        if self.fetch.as_ref().is_some_and(|f| f.version == version) {
            return;
        }
        let (fetch, ask) = Fetch::new(from.clone(), version, now);
        self.fetch = Some(fetch);
        self.send(from, &ask);
    }

    fn serve(&mut self, to: &Name, version: Version, first: u32, count: u32) {
        let Some(table) = self.own(&version) else {
            return;
        };
        let bytes = self
            .encoded
            .entry(version.clone())
            .or_insert_with(|| table.encode().into())
            .clone();
        let Ok(total) = u32::try_from(bytes.len()) else {
            return;
        };
        let end = parts(bytes.len()).min(first.saturating_add(count.min(WINDOW)));
        for index in first..end {
            let at = usize::try_from(index)
                .unwrap_or(usize::MAX)
                .saturating_mul(PART);
            let piece = bytes.get(at..bytes.len().min(at.saturating_add(PART)));
            let part = Message::Part {
                version: version.clone(),
                total,
                index,
                bytes: piece.unwrap_or_default().to_vec(),
            };
            self.send(to.clone(), &part);
        }
    }

    fn part(
        &mut self,
        from: &Name,
        version: &Version,
        (total, index, bytes): (u32, u32, Vec<u8>),
        now: Instant,
    ) {
        let Some(fetch) = self
            .fetch
            .as_mut()
            .filter(|f| f.from == *from && f.version == *version)
        else {
            return;
        };
        match fetch.part(total, index, bytes, now) {
            Progress::Going(Some(ask)) => self.send(from.clone(), &ask),
            Progress::Going(None) => {}
            Progress::Done(Err(why)) => {
                self.fetch = None;
                self.out.push(Action::Refused {
                    from: from.clone(),
                    why,
                });
            }
            Progress::Done(Ok(table)) => {
                self.fetch = None;
                self.got(from, Arc::new(table), now);
            }
        }
    }

    /// A table came: because it is agreed, because it is proposed here, or as the base of what will be.
    fn got(&mut self, from: &Name, table: Arc<Table>, now: Instant) {
        let known_agreed = self.peers.values().any(|s| s.agreed == table.version);
        if known_agreed && table.version > self.saved.agreed.version {
            if table.version > self.saved.held.version {
                self.saved.held = table.clone();
            }
            self.agree(table.clone());
        } else if self.acceptable(from, &table.version) {
            self.saved.promised = self
                .saved
                .promised
                .clone()
                .max(table.version.ballot.clone());
            self.saved.held = table.clone();
        }
        if matches!(self.role, Role::Preparing(_)) && self.base() == Some(table.version.clone()) {
            self.lead(table);
        }
        self.learn(now);
    }

    fn agree(&mut self, table: Arc<Table>) {
        self.saved.agreed = table.clone();
        let (held, agreed) = (&self.saved.held.version, &self.saved.agreed.version);
        self.encoded.retain(|v, _| v == held || v == agreed);
        self.out.push(Action::Agreed(table));
    }

    /// With the promises of a majority: the version of the newest table among them.
    fn base(&self) -> Option<Version> {
        let Role::Preparing(ballot) = &self.role else {
            return None;
        };
        if self.durable.promised != *ballot {
            return None;
        }
        let promised: Vec<&Status> = self
            .peers
            .values()
            .filter(|s| s.promised == *ballot)
            .collect();
        if !self.majority(1 + promised.len()) {
            return None;
        }
        let theirs = promised.iter().map(|s| &s.held).max().cloned();
        Some(theirs.map_or(self.saved.held.version.clone(), |v| {
            v.max(self.saved.held.version.clone())
        }))
    }

    fn lead(&mut self, base: Arc<Table>) {
        let Role::Preparing(ballot) = &self.role else {
            return;
        };
        let ballot = ballot.clone();
        self.role = Role::Leading {
            ballot: ballot.clone(),
            base: base.version.clone(),
            number: 0,
            wanted: None,
        };
        self.out.push(Action::Lead { ballot, base });
    }

    /// Proposes what the allocator wants, once the proposal before it is agreed.
    fn propose(&mut self) {
        let Role::Leading {
            ballot,
            base,
            number,
            wanted,
        } = &mut self.role
        else {
            return;
        };
        if *number > 0 && self.saved.agreed.version != self.saved.held.version {
            return;
        }
        let Some(assignments) = wanted.take() else {
            return;
        };
        // A base that is not known to be agreed is proposed again even if nothing is to change: it may be in force somewhere.
        let settled = *number > 0 || *base == self.saved.agreed.version;
        if settled && self.saved.agreed.assignments == assignments {
            return;
        }
        *number += 1;
        let version = Version {
            ballot: ballot.clone(),
            number: *number,
        };
        let table = Table {
            version,
            assignments,
        };
        if table.encode().len() > MAX_TABLE {
            self.out.push(Action::Refused {
                from: self.me.clone(),
                why: "the table of assignments is too large to be agreed on".to_owned(),
            });
            return;
        }
        self.saved.held = Arc::new(table);
    }

    /// Moves on where what is known now allows it.
    fn advance(&mut self, now: Instant) {
        if let Some(version) = self.base() {
            if let Some(table) = self.own(&version) {
                self.lead(table);
            } else {
                let source = self.peers.iter().find(|(_, s)| s.held == version);
                if let Some(from) = source.map(|(n, _)| n.clone()) {
                    self.get(from, version, now);
                }
            }
        }
        let Role::Leading { ballot, .. } = &self.role else {
            return;
        };
        let held = &self.saved.held.version;
        let proposed = held.ballot == *ballot && *held > self.saved.agreed.version;
        if proposed && self.durable.held == *held {
            let holders = self.peers.values().filter(|s| s.held == *held).count();
            if self.majority(1 + holders) {
                self.agree(self.saved.held.clone());
                self.propose();
                self.tell_all(now);
            }
        }
    }

    fn write(&mut self, now: Instant) {
        let status = Status {
            promised: self.saved.promised.clone(),
            held: self.saved.held.version.clone(),
            agreed: self.saved.agreed.version.clone(),
        };
        if self.writing.is_some()
            || status == self.durable
            || self.write_after.is_some_and(|t| now < t)
        {
            return;
        }
        self.write_after = None;
        self.writing = Some(status);
        self.out.push(Action::Persist(Arc::new(self.saved.clone())));
    }

    fn tick(&mut self, now: Instant) {
        if let Some(fetch) = &mut self.fetch {
            if fetch.is_stuck(now) {
                // The next digest names somebody who has it.
                self.fetch = None;
            } else if let Some(ask) = fetch.tick(now) {
                let from = fetch.from.clone();
                self.send(from, &ask);
            }
        }
        let asking = match &self.role {
            Role::Follower => false,
            Role::Preparing(ballot) | Role::Leading { ballot, .. } => {
                // Another one was promised more: start over above it.
                if self.peers.values().any(|s| s.promised > *ballot) && self.elected() {
                    self.prepare();
                    true
                } else {
                    !self.is_leading() || self.saved.held.version != self.saved.agreed.version
                }
            }
        };
        let every = if asking { RESEND } else { DIGEST };
        if self
            .last_told
            .is_none_or(|t| now.saturating_duration_since(t) >= every)
        {
            self.tell_all(now);
        }
    }

    /// The elected member tells everybody where it stands, the others tell the elected one.
    fn tell_all(&mut self, now: Instant) {
        self.last_told = Some(now);
        let to: Vec<Name> = match &self.view.placer {
            Some(placer) if *placer != self.me => vec![placer.clone()],
            _ => self.others().cloned().collect(),
        };
        for name in to {
            self.tell(&name);
        }
    }

    fn tell(&mut self, to: &Name) {
        let status = Status {
            agreed: self.saved.agreed.version.clone(),
            ..self.durable.clone()
        };
        self.send(to.clone(), &Message::Status(status));
    }

    fn send(&mut self, to: Name, message: &Message) {
        self.out.push(Action::Send {
            to,
            bytes: message.encode(),
        });
    }
}
