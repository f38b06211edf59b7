//! What a late loop means: rule 12 with Lifeguard's patience.
//!
//! A node that was late must not answer for an address that another took meanwhile. Two things tell it:
//!
//! - *What it was granted.* Others may take its addresses once it was silent for [`Config::declare`](super::Config) times its
//!   multiplier. A multiplier counts from the moment at which every member that speaks has acknowledged it. While a stall is
//!   shorter than [`Config::late`](super::Config) times that, nobody can have taken anything.
//! - *What it was told.* A node that is declared dead is told so, and told again with every probe. So what waits in the receive
//!   queue is read before anything is answered or decided.
//!
//! If both say that nothing was taken, the node goes on at once. Else the pause is a restart (`settle`).
//!
//! A multiplier is raised within an incarnation and lowered with a new one, so views of it merge in any order. After a pause
//! that was a restart this node does not know who asked for patience meanwhile, and is as patient as possible with everyone
//! whom it has not heard since.

use std::collections::BTreeSet;
use std::time::Duration;

use super::health::Health;
use super::receive::send;
use super::{Action, Machine};
use crate::member::table::Member;
use crate::message::{MAX_MULTIPLIER, Message, NodeName, State, Status};

/// How slow this node is, and who knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Slow {
    health: Health,
    /// The loop was late and has not read its queue yet.
    pub(super) reading: bool,
    /// Until when a notice of this node's death may still be on its way from a queue of its own kernel.
    doubt: Duration,
    /// The multiplier that counts for this node itself, where it is more than 1.
    confirmed: u8,
    /// The message that the others must acknowledge.
    seq: u64,
    /// Who has not acknowledged this node's multiplier.
    unconfirmed: BTreeSet<NodeName>,
    ask_next: Duration,
}

impl Machine {
    /// The multiplier by which the others are asked to stretch their timers towards this node: 1 unless it is often late.
    pub fn multiplier(&self) -> u8 {
        self.members.get(&self.me).map_or(1, |m| m.multiplier)
    }

    /// The loop did not run for `stall`; true where that was too long to go on as if nothing had happened.
    pub(super) fn stalled(&mut self, stall: Duration, out: &mut Vec<Action>) -> bool {
        let late = self.config.late;
        if stall > late / 2 {
            self.slow.health.stalled(&self.config, stall, self.now());
        }
        if stall <= late {
            return false;
        }
        let granted = if self.start.is_some() {
            // An unsettled node answers for nothing: it needs no grant, only time to listen.
            MAX_MULTIPLIER
        } else {
            self.slow.confirmed.max(1)
        };
        if stall <= late * u32::from(granted) {
            self.doze(stall);
        } else {
            self.wake(out);
        }
        true
    }

    /// Slept for a time in which nobody can have taken anything: reads its queue and goes on. What others did not do while
    /// this node slept is not held against them.
    fn doze(&mut self, stall: Duration) {
        let now = self.now();
        self.slow.reading = true;
        self.slow.doubt = now + self.config.late;
        let (moment, patience) = (self.config.heartbeat, self.config.suspect);
        for (_, m) in self.members.touch_all() {
            m.spared = now + moment;
            m.hold_until = m.hold_until.max(now + patience);
        }
        for duty in &mut self.duties {
            duty.until = duty.until.max(now + moment);
        }
        self.placer.slept(stall, now);
        if let Some(start) = &mut self.start {
            start.slept(stall, now);
        }
        self.next_heartbeat = now;
        self.urgent = true;
    }

    /// Whether a notice of this node's death may tell of what happened while it slept.
    pub(super) fn in_doubt(&self) -> bool {
        self.start.is_none() && (self.slow.reading || self.now() < self.slow.doubt)
    }

    /// Asks the others for the patience that this node needs, until all who speak have acknowledged it.
    pub(super) fn ask_patience(&mut self, out: &mut Vec<Action>) {
        let now = self.now();
        let (has, needs) = (
            self.multiplier(),
            self.slow.health.multiplier(&self.config, now),
        );
        let me = self.me.clone();
        if needs < has {
            self.slow.confirmed = needs;
            self.change_member(&me, |m| {
                m.incarnation = m.incarnation.saturating_add(1);
                m.multiplier = needs;
            });
            let all = self.members.iter().map(|(n, _)| n.clone());
            self.outbox.introduce.extend(all.filter(|n| *n != me));
        } else if needs > has {
            self.change_member(&me, |m| m.multiplier = needs);
            self.slow.unconfirmed.extend(self.members.peers(&me));
            self.seq += 1;
            (self.slow.seq, self.slow.ask_next) = (self.seq, now);
        }
        if self.multiplier() <= 1 {
            self.slow.unconfirmed.clear();
            return;
        }
        let speaks = |n: &NodeName| {
            self.members
                .get(n)
                .is_some_and(|m| m.status == Status::Alive)
        };
        self.slow.unconfirmed.retain(speaks);
        if self.slow.unconfirmed.is_empty() {
            self.slow.confirmed = self.multiplier();
        } else if self.slow.ask_next <= now {
            self.slow.ask_next = now + self.config.heartbeat;
            let state = State {
                ack: true,
                seq: self.slow.seq,
                members: self.members.entry(&me, now).into_iter().collect(),
                ..self.blank()
            };
            out.push(Action::Send {
                to: self.slow.unconfirmed.iter().cloned().collect(),
                message: Message::State(state),
            });
        }
    }

    /// A message from before this node woke to a restart. Only what is said about multipliers never grows old; without it two
    /// nodes that sleep by turns would never agree on patience.
    pub(super) fn hear_late(&mut self, from: &NodeName, message: Message, out: &mut Vec<Action>) {
        match message {
            Message::Ack { seq } => self.acknowledged(from, seq),
            Message::State(s) if s.ack && s.claims.is_empty() => {
                let alive =
                    |m: &&Member| m.status == Status::Alive && m.incarnation == s.incarnation;
                if self.members.get(from).filter(alive).is_some() {
                    let multiplier = s.multiplier.clamp(1, MAX_MULTIPLIER);
                    self.change_member(from, |m| m.multiplier = m.multiplier.max(multiplier));
                    out.push(send(from, Message::Ack { seq: s.seq }));
                }
            }
            _ => {}
        }
    }

    /// A member knows of this node's multiplier.
    pub(super) fn acknowledged(&mut self, by: &NodeName, seq: u64) {
        if seq == self.slow.seq {
            self.slow.unconfirmed.remove(by);
            self.urgent = true;
        }
    }

    /// A member speaks (again): it may not know of this node's multiplier, so that counts no more until it does.
    pub(super) fn must_ask(&mut self, node: &NodeName) {
        if self.multiplier() > 1 && self.slow.unconfirmed.insert(node.clone()) {
            self.slow.confirmed = 1;
            self.slow.ask_next = self.now();
        }
    }

    /// When this node asks again.
    pub(super) fn ask_at(&self) -> Option<Duration> {
        (!self.slow.unconfirmed.is_empty()).then_some(self.slow.ask_next)
    }
}
