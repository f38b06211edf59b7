//! The inputs from this node itself: what it may announce, which addresses and nodes exist, and what other nodes' kernels
//! answered.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Action, Machine, Moved};
use crate::claim::rules;
use crate::message::{ELIGIBLE_PART, EligibleChange, NodeName, Status};

impl Machine {
    /// The node is alive but its agent is not: an implied goodbye. If the agent was heard a moment ago, the refusal may be older
    /// than that, so the machine waits for the next refusal.
    pub(super) fn refused(&mut self, node: &NodeName) {
        let Some(m) = self.members.get(node) else {
            return;
        };
        let fresh = m
            .heard
            .is_some_and(|h| self.now().saturating_sub(h) < self.config.heartbeat / 2);
        if m.status != Status::Alive || *node == self.me || fresh {
            return;
        }
        let hold_ms = u32::try_from(self.config.crash_hold.as_millis()).unwrap_or(u32::MAX);
        self.hold(node, m.incarnation, hold_ms);
        if let Some(entry) = self.members.entry(node, self.now()) {
            self.outbox.notices.insert(node.clone(), entry);
        }
    }

    pub(super) fn kernel_answered(&mut self, node: &NodeName, out: &mut Vec<Action>) {
        let now = self.now();
        let Some(m) = self
            .members
            .touch(node)
            .filter(|m| m.status == Status::Held)
        else {
            return;
        };
        m.silent_from = now;
        m.suspicion = None;
        self.heard_for_others(node, out);
    }

    /// What this node may announce.
    pub(super) fn eligible(&mut self, set: &BTreeSet<IpAddr>) {
        if !std::mem::replace(&mut self.eligible_given, true) {
            self.dirty.extend(self.claims.of(&self.me).copied());
            self.urgent = true;
        }
        let Some(mine) = self.members.get(&self.me).map(|m| &m.eligible) else {
            return;
        };
        let moved = Moved::between(mine.addresses(), set);
        if mine.version() == 0 || !moved.is_empty() {
            self.change_eligible(moved);
        }
    }

    /// The same, given what changed.
    pub(super) fn eligible_moved(&mut self, mut moved: Moved) {
        let Some(mine) = self.members.get(&self.me).map(|m| &m.eligible) else {
            return;
        };
        moved.added.retain(|a| !mine.contains(a));
        moved.removed.retain(|a| mine.contains(a));
        if !moved.is_empty() {
            self.change_eligible(moved);
        }
    }

    fn change_eligible(&mut self, moved: Moved) {
        let me = self.me.clone();
        let wall = self.clock.wall;
        let change = |from| EligibleChange {
            node: me.clone(),
            from,
            to: rules::next_epoch(from, wall),
            added: moved.added.iter().copied().collect(),
            removed: moved.removed.iter().copied().collect(),
        };
        let done = self.members.update(&me, |m| {
            let change = change(m.eligible.version());
            let changed = m.eligible.set(&change);
            (change, changed)
        });
        let Some((change, changed)) = done else {
            return;
        };
        self.eligibility_changed(&me, changed);
        let small = change.from > 0 && change.added.len() + change.removed.len() <= ELIGIBLE_PART;
        if small && self.outbox.change.is_none() && !self.outbox.eligible {
            self.outbox.change = Some(change);
        } else {
            self.outbox.change = None;
            self.outbox.eligible = true;
        }
        self.urgent = true;
        self.changed = true;
    }

    /// Addresses that came and went.
    pub(super) fn addresses(&mut self, moved: Moved, out: &mut Vec<Action>) {
        let me = self.me.clone();
        for addr in moved.removed {
            if self.claims.get(&addr).is_none() {
                continue;
            }
            self.cease(addr, out);
            self.claims.remove(addr);
            self.placer.orphans.remove(&addr);
            self.changed = true;
        }
        for addr in moved.added {
            if self.claims.get(&addr).is_some() {
                continue;
            }
            let early = self.claims.add(addr);
            self.dirty.insert(addr);
            if let Some(entry) = early {
                self.merge_claim(&me, &entry, out);
            }
            self.changed = true;
        }
        self.urgent = true;
    }

    /// All nodes that exist.
    pub(super) fn known(&mut self, set: &BTreeSet<NodeName>) {
        let gone: Vec<NodeName> = self
            .members
            .iter()
            .map(|(n, _)| n.clone())
            .filter(|n| *n != self.me && !set.contains(n))
            .collect();
        for node in gone {
            self.dirty.extend(self.claims.of(&node).copied());
            self.claims.touch_those_of(&node);
            self.members.remove(&node);
        }
        for node in set {
            self.members.add(node);
        }
        self.peers_changed = true;
        self.candidates_changed = true;
        self.urgent = true;
        self.changed = true;
    }
}
