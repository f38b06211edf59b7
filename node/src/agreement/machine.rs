//! One member's side of the agreement: events in, actions out. The rules are in the module above.
//!
//! Here is what every member does: it looks at the others, writes to disk before it speaks, and says where it stands. `hear` is
//! what the others say, `lead` is what an elected member does besides.

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

/// How often every member says where it stands when nothing changes.
const DIGEST: Duration = Duration::from_millis(500);
/// How long after a failed write the next try is made.
const DISK_RETRY: Duration = Duration::from_secs(1);

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
    /// Who is to lead: the elected one, or the next that can.
    leader: Option<Name>,
    saved: Saved,
    /// What is on disk: all that others are told of promises and tables.
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
    /// Encoded tables of which parts were asked for.
    encoded: BTreeMap<Version, Arc<[u8]>>,
    out: Vec<Action>,
}

impl Machine {
    /// A member that wakes up with what its disk has. `boot` differs at every start: a random number, or the time.
    /// What was agreed before, [`Machine::agreed`], is in force from the beginning.
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

    /// Takes in one event. Never fails: what makes no sense is reported and ignored.
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

    /// Takes in a view; true if it is another one.
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
                // A member that went on to another table has this one no more. If it still says that it has it, others are asked.
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
                // Those who promised more to another one take nothing from here. Start over above them if they are needed; if
                // not, they hear what the others agree on.
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

    /// Whoever leads tells everybody where it stands, and so does whoever cannot write; the others tell the one that leads.
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

/// Where a member with that on its disk stands.
fn standing(saved: &Saved) -> Status {
    Status {
        promised: saved.promised.clone(),
        held: saved.held.version.clone(),
        agreed: saved.agreed.version.clone(),
        yields: false,
    }
}
