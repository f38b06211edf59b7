//! One member's side of the agreement: events in, actions out. The rules are in the module above.
//!
//! Here is what every member does: it looks at the others, writes to disk before it speaks, and says where it stands. `hear` is
//! what the others say, `lead` is what an elected member does besides.

mod event;
mod hear;
mod lead;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use event::{Action, Event, View};

use super::fetch::{Fetch, RESEND};
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
