//! Handles messages from other nodes: who sent them, and the replies that need no decision. Decisions wait for the tick.
//!
//! `merge` merges the content of a `State`.

use std::time::Duration;

use super::{Action, Machine};
use crate::member::watch::Duty;
use crate::message::{Heartbeat, MAX_MULTIPLIER, MAX_WATCHERS, Message, NodeName, State, Status};

/// The most promises to listen for another member.
const MAX_DUTIES: usize = 256;

pub(super) fn send(to: &NodeName, message: Message) -> Action {
    Action::Send {
        to: vec![to.clone()],
        message,
    }
}

impl Machine {
    pub(super) fn receive(&mut self, from: &NodeName, message: Message, out: &mut Vec<Action>) {
        if *from == self.me || self.members.get(from).is_none() {
            return;
        }
        self.heard_for_others(from, out);
        match message {
            Message::Heartbeat(h) => {
                let said = (h.incarnation, h.settled, h.multiplier);
                if self.observe(from, said, out) {
                    self.heartbeat(from, h, out);
                }
            }
            Message::State(s) => self.state(from, s, out),
            Message::Goodbye {
                incarnation,
                hold_ms,
            } => self.goodbye(from, incarnation, hold_ms),
            other => {
                self.sign_of_life(from, out);
                self.small(from, other, out);
            }
        }
    }

    fn small(&mut self, from: &NodeName, message: Message, out: &mut Vec<Action>) {
        match message {
            Message::Ping => {
                out.push(send(from, Message::Pong));
                if !self.targets.contains(from) {
                    out.push(send(from, Message::Unwatch));
                }
            }
            Message::Unwatch => {
                if let Some(m) = self.members.touch(from) {
                    m.watching = false;
                    m.suspicion = None;
                }
            }
            Message::Suspect { member } => self.suspected(from, member, out),
            Message::Answer { member, heard } => self.answered(from, &member, heard),
            Message::Ack { seq } => {
                if self.placer.grants.get(&seq).is_some_and(|g| g.to == *from) {
                    self.placer.grants.remove(&seq);
                }
                self.acknowledged(from, seq);
            }
            _ => {}
        }
    }

    /// A frame that names no incarnation proves only that its sender is alive.
    fn sign_of_life(&mut self, from: &NodeName, out: &mut Vec<Action>) {
        let now = self.now();
        match self.members.touch(from) {
            Some(m) if m.status == Status::Alive => {
                m.heard = Some(now);
                m.silent_from = now;
                m.suspicion = None;
            }
            Some(_) => self.tell(from, out),
            None => {}
        }
    }

    /// Sends a member its status in my view, so that it can refute it.
    fn tell(&mut self, to: &NodeName, out: &mut Vec<Action>) {
        let now = self.now();
        let gap = self.config.heartbeat / 2;
        let Some(m) = self.members.touch(to).filter(|m| m.tell_next <= now) else {
            return;
        };
        m.tell_next = now + gap;
        let you = Some((m.status, m.incarnation));
        out.push(send(
            to,
            Message::State(State {
                you,
                ..self.blank()
            }),
        ));
    }

    /// A frame that names an incarnation. `false` if that incarnation is over in my view.
    fn observe(
        &mut self,
        from: &NodeName,
        (incarnation, settled, multiplier): (u64, bool, u8),
        out: &mut Vec<Action>,
    ) -> bool {
        let now = self.now();
        let Some(m) = self.members.get(from) else {
            return false;
        };
        let (was, same) = (m.status, m.incarnation == incarnation);
        if incarnation < m.incarnation || (same && was > Status::Alive) {
            self.tell(from, out);
            return false;
        }
        let multiplier = multiplier.clamp(1, MAX_MULTIPLIER);
        let news = (settled && !m.settled) || multiplier > m.multiplier;
        if !(same && was == Status::Alive && !news) {
            self.change_member(from, |m| {
                m.settled = settled || (same && m.settled);
                m.multiplier = if same {
                    m.multiplier.max(multiplier)
                } else {
                    multiplier
                };
                m.incarnation = incarnation;
                m.status = Status::Alive;
                if was == Status::Dead {
                    m.rejoined = Some(now);
                }
            });
            if was != Status::Alive {
                self.outbox.introduce.insert(from.clone());
            }
        }
        if let Some(m) = self.members.touch(from) {
            m.heard = Some(now);
            m.unheard = false;
            m.silent_from = now;
            m.suspicion = None;
        }
        true
    }

    fn heartbeat(&mut self, from: &NodeName, mut h: Heartbeat, out: &mut Vec<Action>) {
        let now = self.now();
        h.watchers.truncate(MAX_WATCHERS);
        let same = h.members == self.members.digest() && h.claims == self.claims.digest();
        let compare = h.settled && self.start.is_none();
        let gap = self.config.transfer_gap;
        let Some(m) = self.members.touch(from) else {
            return;
        };
        m.watching = h.watchers.contains(&self.me);
        m.watchers = h.watchers;
        if !compare {
            return;
        }
        if same {
            m.mismatches = 0;
            m.transfer_gap = gap;
            return;
        }
        m.mismatches = m.mismatches.saturating_add(1);
        if m.mismatches >= 2 && m.transfer_next <= now {
            m.transfer_next = now + m.transfer_gap.max(gap);
            m.transfer_gap = (m.transfer_gap.max(gap) * 2).min(gap * 16);
            self.send_full(from, true, out);
        }
    }

    fn suspected(&mut self, from: &NodeName, member: NodeName, out: &mut Vec<Action>) {
        if member == self.me {
            out.push(send(
                from,
                Message::Answer {
                    member,
                    heard: true,
                },
            ));
            return;
        }
        let Some(m) = self.members.get(&member) else {
            return;
        };
        if self.duties.len() >= MAX_DUTIES
            || self
                .duties
                .iter()
                .any(|d| d.asker == *from && d.member == member)
        {
            return;
        }
        out.push(if m.status == Status::Held {
            Action::KernelPing(member.clone())
        } else {
            send(&member, Message::Ping)
        });
        self.duties.push(Duty {
            asker: from.clone(),
            until: self.now() + self.config.verdict * m.patience(),
            member,
        });
    }

    /// Reports to every node that asked about `member` that it spoke.
    pub(super) fn heard_for_others(&mut self, member: &NodeName, out: &mut Vec<Action>) {
        self.duties.retain(|d| {
            if d.member == *member {
                out.push(send(
                    &d.asker,
                    Message::Answer {
                        member: member.clone(),
                        heard: true,
                    },
                ));
            }
            d.member != *member
        });
    }

    fn answered(&mut self, from: &NodeName, member: &NodeName, heard: bool) {
        let now = self.now();
        let Some(m) = self.members.touch(member) else {
            return;
        };
        let Some(s) = &mut m.suspicion else {
            return;
        };
        let Some(i) = s.pending.iter().position(|p| p == from) else {
            return;
        };
        s.pending.swap_remove(i);
        if heard {
            m.suspicion = None;
            m.silent_from = now;
        } else {
            s.silent += 1;
        }
    }

    /// It also counts for a member that is held already: the refusal of a port may be read before the goodbye that was sent before
    /// the port closed.
    fn goodbye(&mut self, from: &NodeName, incarnation: u64, hold_ms: u32) {
        let known = self.members.get(from).map(|m| (m.incarnation, m.status));
        let newer =
            known.is_some_and(|(i, s)| incarnation > i || (incarnation == i && s <= Status::Held));
        if newer {
            self.hold(from, incarnation, hold_ms);
        }
    }

    /// Keeps a member's addresses for it while its kernel answers.
    pub(super) fn hold(&mut self, node: &NodeName, incarnation: u64, hold_ms: u32) {
        let now = self.now();
        let hold = Duration::from_millis(u64::from(hold_ms)).min(self.config.hold);
        self.change_member(node, |m| {
            m.incarnation = incarnation;
            m.status = Status::Held;
            m.hold_until = now + hold;
            m.silent_from = now;
            m.suspicion = None;
            m.kernel_next = now;
        });
    }

    fn state(&mut self, from: &NodeName, s: State, out: &mut Vec<Action>) {
        if self.outnumbered(&s) {
            self.give_in(out);
        }
        let current = self.observe(from, (s.incarnation, s.settled, s.multiplier), out);
        if let Some((status, incarnation)) = s.you {
            self.told(from, status, incarnation, out);
        }
        if !current {
            return;
        }
        for entry in &s.members {
            self.merge_member(from, entry, out);
        }
        for entry in &s.eligible {
            self.merge_eligible(entry);
        }
        for change in &s.changes {
            self.merge_change(change);
        }
        if s.settled {
            for entry in &s.claims {
                self.merge_claim(from, entry, out);
            }
        }
        if s.ack {
            out.push(send(from, Message::Ack { seq: s.seq }));
        }
        if s.full && s.settled {
            self.transfer_part(from, &s, out);
        }
        if s.want {
            self.wanted(from, out);
        }
    }

    /// A member asks for my table. It gets at most one per transfer gap, and none while I have none.
    fn wanted(&mut self, from: &NodeName, out: &mut Vec<Action>) {
        let (now, gap) = (self.now(), self.config.transfer_gap);
        if self.start.is_some() {
            self.outbox.introduce.insert(from.clone());
            self.urgent = true;
            return;
        }
        let Some(m) = self.members.touch(from).filter(|m| m.transfer_next <= now) else {
            return;
        };
        // A little less than the gap. Otherwise network jitter would make the asker miss every second turn.
        m.transfer_next = now + gap / 2;
        self.send_full(from, false, out);
    }

    /// My status in another member's view. If it reports my current life as dead or held, or knows a later life that I can't
    /// remember, I begin a new one (rule 8).
    pub(super) fn told(
        &mut self,
        from: &NodeName,
        status: Status,
        incarnation: u64,
        out: &mut Vec<Action>,
    ) {
        if status == Status::Dead && incarnation >= self.incarnation() && self.in_doubt() {
            self.wake(out);
        }
        let mine = self.incarnation();
        if incarnation > mine || (incarnation == mine && status > Status::Alive) {
            let me = self.me.clone();
            self.change_member(&me, |m| m.incarnation = incarnation.saturating_add(1));
            let until = self.now() + self.config.suspect;
            for (_, m) in self.members.touch_all() {
                // Nodes that took me for dead did not speak to me, so their silence is not held against them.
                m.spared = until;
            }
            let all = self
                .members
                .iter()
                .map(|(n, _)| n.clone())
                .filter(|n| *n != me);
            self.outbox.introduce.extend(all);
            self.urgent = true;
        } else if incarnation < mine || status == Status::Unknown {
            self.outbox.introduce.insert(from.clone());
            self.urgent = true;
        }
    }
}
