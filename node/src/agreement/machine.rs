//! One member's side of the agreement: events in, actions out. The parent module explains the rules.
//!
//! This file has what every member does: it keeps a view of the others, writes to disk before it speaks, and reports its state.
//! `hear` processes messages from the others; `lead` is what an elected member does in addition.

mod disk;
mod doubt;
mod elect;
mod event;
mod hear;
mod lead;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use event::{Action, Event, View};

use self::disk::Disk;
use self::doubt::{Doubt, Doubts};
use super::fetch::{Fetch, RESEND};
use super::leap::Allowance;
use super::message::{Message, Status};
use super::table::{Ballot, Name, Saved, Table, Version};
use ferrolb_controller::assignment::Assignments;

/// How often every member reports its state when nothing changes.
const DIGEST: Duration = Duration::from_millis(500);
/// The pause before a failed write is retried.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// The state of the elected member.
#[derive(Debug)]
enum Role {
    Follower,
    /// Collects promises. Once it has those of a majority, it fetches the base.
    Preparing(Ballot),
    /// Proposes. `wanted` waits until the current proposal is agreed.
    Leading {
        ballot: Ballot,
        /// The table that the allocator continued from.
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
    /// The member that is to lead: the elected one, or the next one that can.
    leader: Option<Name>,
    saved: Saved,
    /// What is on disk: only this is reported to others about promises and tables.
    durable: Status,
    /// What is being written, and since when.
    writing: Option<(Status, Instant)>,
    disk: Disk,
    write_after: Option<Instant>,
    role: Role,
    fetch: Option<Fetch>,
    peers: BTreeMap<Name, Status>,
    doubts: Doubts,
    allowance: Allowance,
    last_told: Option<Instant>,
    /// Encoded tables that other members are fetching.
    encoded: BTreeMap<Version, Arc<[u8]>>,
    out: Vec<Action>,
}

impl Machine {
    /// Starts a member with the state from its disk. `boot` must differ at every start: a random number, or the time. The table
    /// that was agreed before, [`Machine::agreed`], is in force from the start.
    pub fn new(me: Name, boot: u64, saved: Saved) -> Self {
        let durable = standing(&saved);
        Self {
            me,
            boot,
            view: View::default(),
            leader: None,
            allowance: Allowance::default(),
            saved,
            durable,
            writing: None,
            disk: Disk::default(),
            write_after: None,
            role: Role::Follower,
            fetch: None,
            peers: BTreeMap::new(),
            doubts: Doubts::default(),
            last_told: None,
            encoded: BTreeMap::new(),
            out: Vec::new(),
        }
    }

    /// The table in force.
    pub fn agreed(&self) -> &Arc<Table> {
        &self.saved.agreed
    }

    /// Whether this node allocates.
    pub fn is_leading(&self) -> bool {
        matches!(self.role, Role::Leading { .. })
    }

    /// Processes one event. It never fails: invalid input is reported and ignored.
    pub fn step(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::View(view) => {
                let news = self.see(view);
                self.elect(news, now);
            }
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
                if let Some((written, _)) = self.writing.take() {
                    self.durable = written;
                    self.disk.wrote(now);
                    self.tell_all(now);
                }
            }
            Event::PersistFailed => {
                self.writing = None;
                self.write_after = Some(now + DISK_RETRY);
                let news = !self.disk.yields();
                self.disk.failed();
                self.elect(news, now);
            }
            Event::Tick => self.tick(now),
        }
        self.elect(false, now);
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

    /// Applies a view; returns whether it differs.
    fn see(&mut self, view: View) -> bool {
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
        news
    }

    fn write(&mut self, now: Instant) {
        let status = standing(&self.saved);
        if self.writing.is_some()
            || status == self.durable
            || self.write_after.is_some_and(|t| now < t)
        {
            return;
        }
        self.write_after = None;
        self.writing = Some((status, now));
        self.out.push(Action::Persist(Arc::new(self.saved.clone())));
    }

    fn tick(&mut self, now: Instant) {
        let live = &self.view.live;
        self.doubts.expire(now, |name| live.contains(name));
        let yielded = self.disk.yields();
        if self.disk.tick(self.writing.as_ref().map(|(_, t)| *t), now) {
            self.out.push(Action::Stalled);
        }
        if self.disk.yields() != yielded {
            self.elect(true, now);
        }
        if let Some(fetch) = &mut self.fetch {
            if fetch.is_stuck(now) {
                // A member that moved on to another table no longer has this one. If it still claims to have it, other members
                // are asked.
                let (from, version) = (fetch.from.clone(), fetch.version.clone());
                let claims = |s: &Status| s.held == version || s.agreed == version;
                if self.peers.get(&from).is_some_and(claims) {
                    self.doubts.raise(Doubt::Silent, &from, now);
                }
                self.fetch = None;
                self.learn(now);
            } else if let Some(ask) = fetch.tick(now) {
                let from = fetch.from.clone();
                self.send(from, &ask);
            }
        }
        let asking = match &self.role {
            Role::Follower => false,
            Role::Preparing(ballot) | Role::Leading { ballot, .. } => {
                // Members that promised a higher ballot accept nothing from this one. If they are needed, start again above their
                // ballots; if not, they learn what the others agree on.
                let above =
                    |name: &Name| self.peers.get(name).is_some_and(|s| s.promised > *ballot);
                let lost = self.others().any(above);
                let left = self.able().filter(|name| !above(name)).count();
                if lost && self.elected() && !self.majority(1 + left) {
                    self.prepare(now);
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

    /// The leader reports its state to all members, and so does a member that cannot write. The others report to the leader.
    fn tell_all(&mut self, now: Instant) {
        self.last_told = Some(now);
        let to: Vec<Name> = match &self.leader {
            Some(leader) if *leader != self.me && !self.disk.yields() => vec![leader.clone()],
            _ => self.others().cloned().collect(),
        };
        for name in to {
            self.tell(&name);
        }
    }

    fn tell(&mut self, to: &Name) {
        let status = Status {
            agreed: self.saved.agreed.version.clone(),
            yields: self.disk.yields(),
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

/// The state that a member with this on its disk reports.
fn standing(saved: &Saved) -> Status {
    Status {
        promised: saved.promised.clone(),
        held: saved.held.version.clone(),
        agreed: saved.agreed.version.clone(),
        yields: false,
    }
}
