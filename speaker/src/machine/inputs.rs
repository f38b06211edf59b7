//! The inputs from this node itself: what it may announce, which addresses and nodes exist, and what other nodes' kernels
//! answered.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Action, Machine};
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
    pub(super) fn eligible(&mut self, set: BTreeSet<IpAddr>) {
        let me = self.me.clone();
        let first = !std::mem::replace(&mut self.eligible_given, true);
        let wall = self.clock.wall;
        if first {
            self.dirty.extend(self.claims.of(&me).copied());
            self.urgent = true;
        }
        let Some(mine) = self.members.get(&me).map(|m| &m.eligible) else {
            return;
        };
        if mine.version() > 0 && *mine.addresses() == set {
            return;
        }
        let from = mine.version();
        let change = EligibleChange {
            node: me.clone(),
            from,
            to: rules::next_epoch(from, wall),
            added: set.difference(mine.addresses()).copied().collect(),
            removed: mine.addresses().difference(&set).copied().collect(),
        };
        let changed = self
            .members
            .update(&me, |m| m.eligible.replace(change.to, set));
        self.eligibility_changed(&me, changed.unwrap_or_default());
        let small = from > 0 && change.added.len() + change.removed.len() <= ELIGIBLE_PART;
        if small && self.outbox.change.is_none() && !self.outbox.eligible {
            self.outbox.change = Some(change);
        } else {
            self.outbox.change = None;
            self.outbox.eligible = true;
        }
        self.urgent = true;
        self.changed = true;
    }

    /// All addresses that exist.
    pub(super) fn addresses(&mut self, set: &BTreeSet<IpAddr>, out: &mut Vec<Action>) {
        let me = self.me.clone();
        let gone: Vec<IpAddr> = self
            .claims
            .addresses()
            .filter(|a| !set.contains(*a))
            .copied()
            .collect();
        for addr in gone {
            self.cease(addr, out);
            self.claims.remove(addr);
            self.placer.orphans.remove(&addr);
            self.changed = true;
        }
        let new: Vec<IpAddr> = set
            .iter()
            .filter(|a| self.claims.get(a).is_none())
            .copied()
            .collect();
        for addr in new {
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
