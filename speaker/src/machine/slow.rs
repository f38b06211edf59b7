//! What a late loop means: rule 12 with Lifeguard's patience.
//!
//! A node that was late must not answer for an address that another node took meanwhile. It has two sources of information:
//!
//! - *Its granted time.* Others may take its addresses only after it was silent for [`Timers::declare`](crate::timers::Timers) times its
//!   multiplier. A multiplier takes effect once every member that speaks has acknowledged it. While a stall is shorter than
//!   [`Timers::late`](crate::timers::Timers) times the multiplier, nobody can have taken anything.
//! - *Its messages.* A node that is declared dead receives a notice of it, and another one with every probe. So the node reads
//!   its receive queue before it answers or decides anything.
//!
//! If both show that nothing was taken, the node continues at once. Otherwise the pause counts as a restart (`settle`).
//!
//! A multiplier rises within an incarnation and falls only with a new one, so views of it merge in any order. After a pause that
//! counted as a restart, this node does not know which members asked for patience meanwhile. Until it hears from a member again,
//! it applies the largest multiplier to it.

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
    /// Until this time, a notice of this node's death may still be in a queue of its own kernel.
    doubt: Duration,
    /// The multiplier in effect for this node, if it is more than 1.
    confirmed: u8,
    /// The message that the others must acknowledge.
    seq: u64,
    /// Members that have not acknowledged this node's multiplier.
    unconfirmed: BTreeSet<NodeName>,
    ask_next: Duration,
}

impl Machine {
    /// The multiplier that this node asks the others to apply to their timers for it: 1 unless it is often late.
    pub fn multiplier(&self) -> u8 {
        self.members.get(&self.me).map_or(1, |m| m.multiplier)
    }

    /// The loop did not run for `stall`. Returns true if that was too long to continue as if nothing had happened.
    pub(super) fn stalled(&mut self, stall: Duration, out: &mut Vec<Action>) -> bool {
        let late = self.config.late;
        if stall > late / 2 {
            self.slow.health.stalled(&self.config, stall, self.now());
        }
        if stall <= late {
            return false;
        }
        let granted = if self.start.is_some() {
            // An unsettled node answers for nothing, so it needs no grant, only time to listen.
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

    /// Handles a sleep in which nobody can have taken anything: this node reads its queue and continues. Nothing that others did
    /// not do while it slept is held against them.
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

    /// Whether a notice of this node's death may concern the time while it slept.
    pub(super) fn in_doubt(&self) -> bool {
        self.start.is_none() && (self.slow.reading || self.now() < self.slow.doubt)
    }

    /// Asks the others for the patience that this node needs, until all members that speak have acknowledged it.
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

    /// A message from before this node woke to a restart. Only its multipliers are still valid. Without them, two nodes that
    /// sleep by turns would never agree on patience.
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

    /// A member knows this node's multiplier.
    pub(super) fn acknowledged(&mut self, by: &NodeName, seq: u64) {
        if seq == self.slow.seq {
            self.slow.unconfirmed.remove(by);
            self.urgent = true;
        }
    }

    /// A member speaks (again) and may not know this node's multiplier. The multiplier is not in effect until it does.
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
