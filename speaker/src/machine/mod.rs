//! The ownership protocol as one pure state machine: events and the time go in, actions come out.
//!
//! The machine decides which node announces an address. It holds no socket, no clock and no source of randomness except its seed,
//! so the daemon drives it with the real network and the tests drive it with a virtual one.
//!
//! The rules have the numbers of the protocol's description. This module implements 1 (order), 2 (sticky), 3 (one placer), 5
//! (planned moves), 6 (epochs), 7 (watching), 8 (death notices), 9 (mass silence), 10 (probing the dead), 11 (start), 12 (pauses)
//! and 15 (agent restart). Not implemented: votes (4), deafness (13) and muteness (14). Without votes every claim is provisional,
//! and after a partition the higher epoch wins, not the majority.
//!
//! How the caller drives it:
//! - Call [`Machine::step`] for every event, and carry out the actions in the order in which it pushes them.
//! - When [`Machine::next_wakeup`] is reached, pass in everything from the receive queue, then `Event::Tick`.
//! - Answer an ARP request only if [`Machine::may_answer`] allows it *at that moment*. A process that was stopped must not answer
//!   for addresses that others took meanwhile, even if the request is the first thing it sees when it wakes.
//!
//! Departures from the protocol as simulated:
//! - A closed port (`Event::Refused`) is an implied goodbye with the shorter [`Timers::crash_hold`]. An agent that was killed and
//!   returns within that time loses nothing. Meanwhile its watchers ping its kernel to see that the node is alive.
//! - A pause does not count as a restart if the other members agreed to be patient (`slow`).
//! - A pause that counts as a restart begins a new incarnation. So "settled" only grows within one, and views merge in any order.
//! - An address that was never claimed waits up to [`Timers::gather`] for members that can't take it yet. All members learn of a
//!   new address within moments of each other, and otherwise the first one would get every address.
//! - When a node dies, the others forget its eligibility. It announces it again when it returns.
//! - A node that was cut off alone starts over when it hears from one that was not, so its placements from that time are dropped.
//! - A node that sees no majority does not take its epochs from the clock: they would look newer than those of the majority.
//! - Numbers that nobody could exceed are refused (`leap`).
//! - Full transfers to a peer that keeps differing get less and less frequent, because nodes with different lists never agree.

mod event;
mod health;
mod inputs;
pub(crate) mod leap;
mod merge;
mod place;
mod receive;
mod send;
mod settle;
mod slow;
mod tick;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

pub use event::{Action, Clock, Event, Moved};
pub use leap::{Leap, Leaper};

use crate::claim::own::Own;
use crate::claim::placer::Placer;
use crate::claim::table::Claims;
use crate::claim::{Claim, rules};
use crate::member::MemberView;
use crate::member::hash::{self, Rng};
use crate::member::table::{Member, Members};
use crate::member::watch::Duty;
use crate::message::{ClaimEntry, EligibleChange, MemberEntry, NodeName, Status};
use crate::timers::Timers;
use leap::Leaps;
use settle::Start;
use slow::Slow;

/// One node's view and its decisions.
#[derive(Clone, Debug)]
pub struct Machine {
    config: Timers,
    me: NodeName,
    clock: Clock,
    rng: Rng,
    members: Members,
    claims: Claims,
    placer: Placer,
    own: Own,
    /// `Some` while unsettled.
    start: Option<Start>,
    /// Claims from before a pause.
    old: Vec<ClaimEntry>,
    last_run: Option<Duration>,
    /// After a pause that counts as a restart, messages received before the next tick are as old as the pause and are dropped.
    dropping: bool,
    slow: Slow,
    leaps: Leaps,
    stopped: bool,
    /// This node knows what it may announce.
    eligible_given: bool,
    begun: Duration,
    targets: Vec<NodeName>,
    next_heartbeat: Duration,
    /// The absent node that was last probed.
    probed: Option<NodeName>,
    next_sweep: Duration,
    seq: u64,
    duties: Vec<Duty>,
    /// Addresses whose claim, claimant or eligibility changed.
    dirty: BTreeSet<IpAddr>,
    /// The set of speaking members changed, so the watchers must be chosen again.
    peers_changed: bool,
    /// The set of nodes that could take an address changed.
    candidates_changed: bool,
    /// Something must be decided or sent at the next tick, at once.
    urgent: bool,
    changed: bool,
    outbox: Outbox,
}

/// What the next tick sends. It is collected so that many changes share a datagram.
#[derive(Clone, Debug, Default)]
struct Outbox {
    /// Members whose change must be sent to everyone.
    notices: BTreeMap<NodeName, MemberEntry>,
    /// Addresses whose claim must be sent to everyone.
    statements: BTreeSet<IpAddr>,
    /// My own claims to reissue above a higher epoch.
    bump: BTreeSet<IpAddr>,
    /// A better claim that somebody lacks.
    corrections: BTreeMap<NodeName, BTreeSet<IpAddr>>,
    /// A higher epoch that the winner must learn.
    forwards: BTreeMap<NodeName, BTreeMap<IpAddr, ClaimEntry>>,
    /// Nodes that must learn who I am, what I claim and what I am eligible for.
    introduce: BTreeSet<NodeName>,
    /// My own change of eligibility.
    change: Option<EligibleChange>,
    /// The change is too large for one message, so the whole list is sent.
    eligible: bool,
}

impl Machine {
    /// A machine that has just started. `known` holds all nodes that exist; `seed` feeds its randomness. The incarnation is the
    /// wall clock. If the clock went back since the last life, the others say so and the machine picks a higher one.
    pub fn new(
        config: Timers,
        me: NodeName,
        known: &BTreeSet<NodeName>,
        seed: u64,
        clock: Clock,
    ) -> Self {
        let clock = Clock {
            wall: leap::sane(clock.wall),
            ..clock
        };
        let mut members = Members::new(known);
        members.add(&me);
        members.update(&me, |m| {
            m.incarnation = clock.wall;
            m.status = Status::Alive;
        });
        let rng = Rng::new(seed ^ hash::bytes(me.as_str().as_bytes()));
        Self {
            start: Some(Start::new(clock.now, false)),
            config,
            me,
            clock,
            rng,
            members,
            claims: Claims::default(),
            placer: Placer::default(),
            own: Own::default(),
            old: Vec::new(),
            last_run: None,
            dropping: false,
            slow: Slow::default(),
            leaps: Leaps::default(),
            stopped: false,
            eligible_given: false,
            begun: clock.now,
            targets: Vec::new(),
            next_heartbeat: clock.now,
            probed: None,
            next_sweep: clock.now,
            seq: 0,
            duties: Vec::new(),
            dirty: BTreeSet::new(),
            peers_changed: true,
            candidates_changed: true,
            urgent: true,
            changed: false,
            outbox: Outbox::default(),
        }
    }

    /// Handles one event and pushes the resulting actions onto `out`.
    pub fn step(&mut self, event: Event, clock: Clock, out: &mut Vec<Action>) {
        if self.stopped {
            return;
        }
        let stall = clock.now.saturating_sub(self.last_run.unwrap_or(clock.now));
        // A wrong clock is harmless as long as the others accept the numbers that follow from it.
        self.clock = Clock {
            wall: leap::sane(clock.wall),
            ..clock
        };
        self.last_run = Some(clock.now);
        let late = self.stalled(stall, out);
        match event {
            Event::Tick => {
                // The tick that noticed the pause came before the queue was emptied.
                self.dropping = self.dropping && late;
                self.slow.reading = self.slow.reading && late;
                self.tick(out);
            }
            Event::Received { from, message } if self.dropping => {
                self.hear_late(&from, message, out);
            }
            Event::Received { from, message } => {
                let (message, leap) = leap::screen(&from, message, self.clock.wall);
                if let Some(leap) = leap.filter(|_| self.members.get(&from).is_some()) {
                    self.changed |= self.leaps.note(leap, self.now());
                }
                if let Some(message) = message {
                    self.receive(&from, message, out);
                }
            }
            Event::Refused(node) => self.refused(&node),
            Event::KernelAnswered(node) => self.kernel_answered(&node, out),
            Event::Eligible(set) => self.eligible(&set),
            Event::EligibleMoved(moved) => self.eligible_moved(moved),
            Event::Addresses(moved) => self.addresses(moved, out),
            Event::Known(set) => self.known(&set),
            Event::Stop => self.stop(out),
        }
        if std::mem::take(&mut self.changed) {
            out.push(Action::Changed);
        }
    }

    /// When `Event::Tick` is due, measured from the origin of time. Not later than `now` if a decision is pending.
    pub fn next_wakeup(&self) -> Duration {
        if self.stopped {
            return Duration::MAX;
        }
        if self.urgent {
            self.clock.now
        } else {
            self.earliest()
        }
    }

    /// Whether to answer an ARP request (or a neighbour solicitation) for `addr` that arrives now (rule 12).
    pub fn may_answer(&self, addr: &IpAddr, now: Duration) -> bool {
        self.on_time(now) && self.own.contains(addr)
    }

    /// Whether the loop ran recently and this node takes part. `false` from a pause until everything that arrived meanwhile was
    /// read; if the pause counts as a restart, until the resync is over.
    pub fn on_time(&self, now: Duration) -> bool {
        self.start.is_none()
            && !self.slow.reading
            && self
                .last_run
                .is_some_and(|last| now.saturating_sub(last) <= self.config.late)
    }

    /// Whether this node answers for an address, apart from pauses.
    pub fn announces(&self, addr: &IpAddr) -> bool {
        self.own.contains(addr)
    }

    /// The addresses this node answers for.
    #[cfg(test)]
    fn announced(&self) -> impl Iterator<Item = &IpAddr> {
        self.own.iter()
    }

    /// The best known claim to an address.
    pub fn owner(&self, addr: &IpAddr) -> Option<&Claim> {
        self.claims.claim(addr)
    }

    /// The same, but only if the claimant is known to answer. A claim remains after its claimant died or lost the right to
    /// announce, until another node can take the address.
    pub fn announcer(&self, addr: &IpAddr) -> Option<&Claim> {
        self.claims.claim(addr).filter(|claim| {
            if claim.node == self.me {
                self.own.contains(addr)
            } else {
                self.members.live(&claim.node) && self.eligible_for(&claim.node, addr)
            }
        })
    }

    /// The addresses for which [`Machine::announcer`] may give another answer than at the last call of this, except that
    /// this node itself starts or stops: that is what [`Action::Announce`] and [`Action::Withdraw`] say.
    pub fn take_touched(&mut self) -> BTreeSet<IpAddr> {
        self.claims.take_touched()
    }

    /// All claims, by address.
    pub fn owners(&self) -> impl Iterator<Item = (&IpAddr, &Claim)> {
        self.claims.iter()
    }

    /// All known nodes, this one included, by name.
    pub fn members(&self) -> Vec<MemberView> {
        self.members.views()
    }

    /// Numbers from others that were refused recently because nobody could ever exceed them.
    pub fn leaps(&self) -> impl Iterator<Item = &Leap> {
        self.leaps.iter()
    }

    /// This node's name.
    pub fn me(&self) -> &NodeName {
        &self.me
    }

    /// Whether this node knows the other nodes' claims (rule 11). An unsettled node announces nothing and places nothing.
    pub fn is_settled(&self) -> bool {
        self.start.is_none()
    }

    /// The settled live member with the lowest name. It places addresses and may serve as the elected member for other work.
    pub fn placer(&self) -> Option<&NodeName> {
        self.members.candidates().next().map(|(n, _)| n)
    }

    /// How many members are alive in this node's view, including itself, but without those that are silent or came back a moment
    /// ago. This is what one side of a partition can count on its own.
    fn company(&self) -> u16 {
        let all_along = |m: &Member| {
            m.rejoined
                .is_none_or(|at| self.now().saturating_sub(at) >= self.config.rumour)
        };
        let live = self
            .members
            .iter()
            .filter(|(_, m)| m.live() && m.suspicion.is_none() && all_along(m));
        u16::try_from(live.count()).unwrap_or(u16::MAX)
    }

    /// Rule 6: the epoch of a new claim. The clock keeps epochs rising when all nodes lost their memory. On the smaller side of a
    /// partition it is not used, because it would only make claims look newer than those of the majority.
    fn next_epoch(&self, highest: u64) -> u64 {
        let wall = if self.live_majority() {
            self.clock.wall
        } else {
            0
        };
        rules::next_epoch(highest, wall)
    }

    /// Whether more than half of the known nodes are alive (including held ones), in this node's view.
    pub fn live_majority(&self) -> bool {
        let live = self.members.iter().filter(|(_, m)| m.live()).count();
        live * 2 > self.members.known()
    }

    fn now(&self) -> Duration {
        self.clock.now
    }

    fn incarnation(&self) -> u64 {
        self.members.get(&self.me).map_or(0, |m| m.incarnation)
    }

    /// Changes a member and records the effect on claims and watchers.
    fn change_member<R>(&mut self, node: &NodeName, f: impl FnOnce(&mut Member) -> R) -> Option<R> {
        let key = |m: &Member| (m.status, m.settled, m.incarnation);
        let before = self
            .members
            .get(node)
            .map(|m| (key(m), m.live(), m.candidate()))?;
        let result = self.members.update(node, f);
        let after = self
            .members
            .get(node)
            .map(|m| (key(m), m.live(), m.candidate()))?;
        if before != after {
            self.changed = true;
            self.urgent = true;
        }
        if before.0.0 != after.0.0 {
            self.peers_changed = true;
            if after.0.0 == Status::Alive {
                self.must_ask(node);
            }
        }
        if before.1 != after.1 {
            self.dirty.extend(self.claims.of(node).copied());
            self.claims.touch_those_of(node);
        }
        if before.2 != after.2 {
            self.candidates_changed = true;
        }
        result
    }

    /// Marks addresses whose eligibility changed on some node.
    fn eligibility_changed(&mut self, node: &NodeName, addrs: impl IntoIterator<Item = IpAddr>) {
        for addr in addrs {
            let mine =
                *node == self.me || self.claims.claim(&addr).is_some_and(|c| c.node == *node);
            if mine {
                self.dirty.insert(addr);
                self.claims.touch([addr]);
                self.changed = true;
            }
            self.candidates_changed = true;
            self.urgent = true;
        }
    }
}
