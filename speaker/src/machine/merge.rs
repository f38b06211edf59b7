//! Merges what others report about members, eligibility and claims into this node's view.
//!
//! Merging is commutative if the views of live members are equal. It answers only with what the sender provably lacks.

use std::net::IpAddr;

use super::receive::send;
use super::{Action, Machine};
use crate::claim::rules::{self, Claim};
use crate::message::{
    ClaimEntry, ELIGIBLE_NODES, ELIGIBLE_PART, Eligible, EligibleChange, MAX_MULTIPLIER,
    MemberEntry, Message, NodeName, State, Status,
};

impl Machine {
    pub(super) fn merge_member(&mut self, from: &NodeName, e: &MemberEntry, out: &mut Vec<Action>) {
        if e.node == self.me {
            if e.incarnation > self.incarnation() || e.status > Status::Alive {
                self.told(from, e.status, e.incarnation, out);
            }
            return;
        }
        let Some(m) = self.members.get(&e.node) else {
            return;
        };
        let newer = e.incarnation > m.incarnation;
        let same = e.incarnation == m.incarnation;
        let multiplier = e.multiplier.clamp(1, MAX_MULTIPLIER);
        let grows = e.status > m.status || (e.settled && !m.settled) || multiplier > m.multiplier;
        if e.status == Status::Unknown || !(newer || (same && grows)) {
            return;
        }
        let (was, now) = (m.status, self.now());
        if e.status == Status::Dead && m.live() && self.just_back(from) {
            // First-hand knowledge beats rumour. What a node believed on its side of a partition is for the node concerned to
            // refute.
            let you = Some((Status::Dead, e.incarnation));
            out.push(send(
                &e.node,
                Message::State(State {
                    you,
                    ..self.blank()
                }),
            ));
            return;
        }
        match e.status {
            Status::Dead => self.bury(&e.node, e.incarnation),
            Status::Held if newer || was < Status::Held => {
                self.hold(&e.node, e.incarnation, e.hold_ms)
            }
            _ => {
                let status = if newer { e.status } else { was.max(e.status) };
                self.change_member(&e.node, |m| {
                    m.status = status;
                    m.settled = e.settled || (same && m.settled);
                    m.multiplier = if same {
                        m.multiplier.max(multiplier)
                    } else {
                        multiplier
                    };
                    m.incarnation = e.incarnation;
                    if was != Status::Alive {
                        m.silent_from = now;
                    }
                    if was == Status::Dead && status < was {
                        m.rejoined = Some(now);
                    }
                });
            }
        }
        if e.settled {
            self.change_member(&e.node, |m| m.settled = true);
        }
    }

    fn just_back(&self, node: &NodeName) -> bool {
        let rejoined = self.members.get(node).and_then(|m| m.rejoined);
        rejoined.is_some_and(|at| self.now().saturating_sub(at) < self.config.rumour)
    }

    /// Marks a member as dead and forgets its eligibility list.
    pub(super) fn bury(&mut self, node: &NodeName, incarnation: u64) {
        let could = self.change_member(node, |m| {
            m.incarnation = incarnation;
            m.status = Status::Dead;
            m.suspicion = None;
            m.watching = false;
            m.eligible.clear()
        });
        self.eligibility_changed(node, could.unwrap_or_default());
    }

    pub(super) fn merge_eligible(&mut self, entry: &Eligible) {
        for (node, version) in entry.nodes.iter().take(ELIGIBLE_NODES) {
            if *node == self.me && self.eligible_given {
                self.outdo(*version);
                continue;
            }
            let alive = self
                .members
                .get(node)
                .is_some_and(|m| m.status != Status::Dead);
            if !alive {
                continue;
            }
            let changed = self
                .members
                .update(node, |m| m.eligible.receive(*version, entry))
                .flatten();
            if changed.is_some() {
                // Before its first list it was taken to be eligible for whatever it claims.
                self.claims.touch_those_of(node);
            }
            self.eligibility_changed(node, changed.unwrap_or_default());
        }
    }

    pub(super) fn merge_change(&mut self, change: &EligibleChange) {
        if change.added.len() + change.removed.len() > ELIGIBLE_PART || change.node == self.me {
            return;
        }
        let changed = self
            .members
            .update(&change.node, |m| m.eligible.change(change))
            .flatten();
        self.eligibility_changed(&change.node, changed.unwrap_or_default());
    }

    /// Another node holds a list of mine that is newer than mine. It comes from an earlier life, so my version must exceed it.
    fn outdo(&mut self, version: u64) {
        let me = self.me.clone();
        let outdone = self.members.update(&me, |m| {
            if version <= m.eligible.version() {
                return false;
            }
            let list = m.eligible.addresses().clone();
            m.eligible.replace(version.saturating_add(1), list);
            true
        });
        if outdone == Some(true) {
            self.outbox.eligible = true;
            self.urgent = true;
        }
    }

    /// Rules 1 and 6 for one claim that `from` holds.
    pub(super) fn merge_claim(
        &mut self,
        from: &NodeName,
        entry: &ClaimEntry,
        out: &mut Vec<Action>,
    ) {
        let addr = entry.addr;
        let Some(slot) = self.claims.get(&addr) else {
            self.claims.keep_early(entry, self.clock.now);
            return;
        };
        let new = Claim::from(entry);
        let old = slot.claim.clone();
        self.claims.saw(&addr, entry.epoch);
        if old.as_ref() == Some(&new) {
            if *from == new.node && new.node != self.me {
                self.cease(addr, out);
            }
            return;
        }
        let better = old
            .as_ref()
            .is_none_or(|old| rules::order(&addr, &new, old, |n| self.members.live(n)).is_gt());
        if better {
            self.adopt(from, addr, &new, old.as_ref(), out);
        }
        let Some(old) = old.filter(|_| self.start.is_none()) else {
            return;
        };
        let (winner, loser) = if better { (&new, &old) } else { (&old, &new) };
        if loser.epoch > winner.epoch {
            if winner.node == self.me {
                self.outbox.bump.insert(addr);
            } else if winner.node != *from {
                self.outbox
                    .forwards
                    .entry(winner.node.clone())
                    .or_default()
                    .insert(addr, loser.entry(addr));
            }
            self.urgent = true;
        }
        if !better && entry.node == *from && *from != self.me {
            self.outbox
                .corrections
                .entry(from.clone())
                .or_default()
                .insert(addr);
            self.urgent = true;
        }
    }

    /// Puts a better claim into the slot.
    fn adopt(
        &mut self,
        from: &NodeName,
        addr: IpAddr,
        new: &Claim,
        old: Option<&Claim>,
        out: &mut Vec<Action>,
    ) {
        self.claims.set(addr, Some(new.clone()));
        self.dirty.insert(addr);
        self.changed = true;
        self.urgent = true;
        if new.node == self.me {
            if *from != self.me && self.start.is_none() {
                self.outbox.statements.insert(addr);
            }
            return;
        }
        if old.is_some_and(|c| c.node == self.me) {
            if self.own.limited(&addr) && *from != new.node && self.members.live(&new.node) {
                self.own.limit(addr, self.now() + self.config.tail);
            } else {
                self.cease(addr, out);
            }
        } else if *from == new.node {
            self.cease(addr, out);
        }
    }

    /// Stops answering for an address.
    pub(super) fn cease(&mut self, addr: IpAddr, out: &mut Vec<Action>) {
        if self.own.stop(&addr) {
            out.push(Action::Withdraw(addr));
            self.changed = true;
        }
    }
}
