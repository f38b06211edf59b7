//! Rules 11 and 12: how a node that knows nothing, or slept, learns who announces what before it takes part.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Action, Machine, Outbox};
use crate::member::table::Member;
use crate::message::{Message, NodeName, State, Status};

/// The most parts that a transfer may have.
const MAX_PARTS: u16 = 4096;

/// How many settled members a node asks for their table at a time.
const ASKED: usize = 3;

/// State while unsettled.
#[derive(Clone, Debug)]
pub(super) struct Start {
    since: Duration,
    paused: bool,
    want_next: Duration,
    /// Incoming tables.
    transfers: BTreeMap<NodeName, Transfer>,
}

/// An incoming full transfer.
#[derive(Clone, Debug, Default)]
struct Transfer {
    seq: u64,
    got: BTreeSet<u16>,
}

impl Start {
    pub(super) fn new(now: Duration, paused: bool) -> Self {
        Self {
            since: now,
            paused,
            want_next: now,
            transfers: BTreeMap::new(),
        }
    }

    /// Time that this node slept does not count as time to listen.
    pub(super) fn slept(&mut self, stall: Duration, now: Duration) {
        self.since = (self.since + stall).min(now);
        self.want_next = now;
    }
}

impl Machine {
    /// The loop was late, so nothing that this node believes can be trusted, least of all that it owns an address.
    pub(super) fn wake(&mut self, out: &mut Vec<Action>) {
        let now = self.now();
        self.dropping = true;
        if self.start.is_none() {
            self.old = self.claims.drain();
        }
        self.start = Some(Start::new(now, true));
        out.extend(self.own.stop_all().into_iter().map(Action::Withdraw));
        self.slow.reading = false;
        self.placer.clear();
        self.duties.clear();
        self.dirty.clear();
        self.outbox = Outbox::default();
        let me = self.me.clone();
        self.change_member(&me, |m| {
            m.incarnation = m.incarnation.saturating_add(1);
            m.settled = false;
        });
        let patience = self.config.suspect;
        for (_, m) in self.members.touch_all() {
            m.heard = None;
            m.unheard = true;
            m.suspicion = None;
            m.silent_from = now;
            m.mismatches = 0;
            m.hold_until = m.hold_until.max(now + patience);
        }
        self.next_heartbeat = now;
        self.urgent = true;
        self.changed = true;
    }

    /// This node was alone, and a node that had company reports it as dead: so this node was the one that was cut off. Its
    /// placements from that time are worthless, and it starts over instead of spreading its newer claims. This is certain only
    /// for a single node; larger sides of a partition would need votes (rule 4).
    pub(super) fn outnumbered(&self, state: &State) -> bool {
        self.start.is_none()
            && state.settled
            && state.you.is_some_and(|(you, _)| you == Status::Dead)
            && state.company > 1
            && self.company() == 1
    }

    /// Starts over, and forgets the deaths that it declared: this node was the one that could not hear.
    pub(super) fn give_in(&mut self, out: &mut Vec<Action>) {
        self.wake(out);
        // The rest of the queue is as new as the message that led here.
        self.dropping = false;
        let dead = |m: &Member| m.status == Status::Dead;
        let all: Vec<NodeName> = self
            .members
            .iter()
            .filter(|(_, m)| dead(m))
            .map(|(n, _)| n.clone())
            .collect();
        for node in all {
            self.change_member(&node, |m| m.status = Status::Unknown);
        }
    }

    /// The other settled nodes, whose table this node can request.
    fn settled_peers(&self) -> Vec<NodeName> {
        self.members
            .candidates()
            .map(|(n, _)| n.clone())
            .filter(|n| *n != self.me)
            .collect()
    }

    /// When an unsettled node stops waiting and continues with what it has.
    pub(super) fn settle_at(&self) -> Option<Duration> {
        let start = self.start.as_ref()?;
        let heard =
            |n: &NodeName| *n == self.me || self.members.get(n).is_some_and(|m| m.heard.is_some());
        let heard = self.members.iter().filter(|(n, _)| heard(n)).count();
        let known = self.members.known();
        let wait = if self.members.candidates().any(|(n, _)| *n != self.me) {
            self.config.settle_alone
        } else if heard == known {
            self.config.settle_all
        } else if heard * 2 > known {
            self.config.settle_majority
        } else {
            self.config.settle_alone
        };
        let more = if start.paused {
            self.config.settle_paused
        } else {
            Duration::ZERO
        };
        Some(start.since + wait + more)
    }

    /// When an unsettled node asks for a table again.
    pub(super) fn want_at(&self) -> Option<Duration> {
        let start = self.start.as_ref()?;
        self.members
            .candidates()
            .any(|(n, _)| *n != self.me)
            .then_some(start.want_next)
    }

    pub(super) fn settle_tick(&mut self, out: &mut Vec<Action>) {
        let now = self.now();
        if self.settle_at().is_some_and(|at| at <= now) {
            self.settle(out);
            return;
        }
        if self.want_at().is_none_or(|at| at > now) {
            return;
        }
        // More than one, because the node that is asked may be asleep.
        let mut peers = self.settled_peers();
        let mut to = Vec::new();
        while to.len() < ASKED && !peers.is_empty() {
            let pick = self.rng.below(peers.len());
            to.push(peers.swap_remove(pick));
        }
        if to.is_empty() {
            return;
        }
        if let Some(start) = &mut self.start {
            start.want_next = now + self.config.transfer_gap;
        }
        let state = State {
            want: true,
            ..self.blank()
        };
        out.push(Action::Send {
            to,
            message: Message::State(state),
        });
    }

    /// Records a part of a settled member's table, whose content is already merged. With the last part this node is settled.
    pub(super) fn transfer_part(&mut self, from: &NodeName, state: &State, out: &mut Vec<Action>) {
        if state.part >= state.parts || state.parts > MAX_PARTS {
            return;
        }
        let Some(start) = &mut self.start else {
            return;
        };
        let transfer = start.transfers.entry(from.clone()).or_default();
        if transfer.seq != state.seq {
            *transfer = Transfer {
                seq: state.seq,
                got: BTreeSet::new(),
            };
        }
        transfer.got.insert(state.part);
        if transfer.got.len() >= usize::from(state.parts) {
            self.old.clear();
            for (_, m) in self.members.touch_all() {
                // The table includes each member's multiplier.
                m.unheard = false;
            }
            self.settle(out);
        }
    }

    /// Takes part from now on, and announces that to all.
    fn settle(&mut self, out: &mut Vec<Action>) {
        self.start = None;
        let me = self.me.clone();
        self.change_member(&me, |m| m.settled = true);
        for entry in std::mem::take(&mut self.old) {
            self.merge_claim(&me, &entry, out);
        }
        self.dirty.extend(self.claims.addresses().copied());
        self.candidates_changed = true;
        let speaking = self
            .members
            .iter()
            .filter(|(n, m)| **n != me && m.status == Status::Alive);
        self.outbox
            .introduce
            .extend(speaking.map(|(n, _)| n.clone()));
        self.urgent = true;
    }
}
