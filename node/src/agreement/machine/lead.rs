//! The elected member's side: it asks for promises, goes on from the newest table among them, and proposes.

use std::sync::Arc;
use std::time::Instant;

use super::{Action, Machine, Role};
use crate::agreement::message::Status;
use crate::agreement::table::{Ballot, MAX_TABLE, Table, Version};

impl Machine {
    /// Asks for promises under a ballot above all that it heard of.
    pub(super) fn prepare(&mut self) {
        if self.is_leading() {
            self.out.push(Action::Follow);
        }
        self.highest_round = self.highest_round.saturating_add(1);
        let ballot = Ballot {
            round: self.highest_round,
            proposer: self.me.clone(),
            boot: self.boot,
        };
        // Its own promise; others see it, and that it is ours, in our status.
        self.saved.promised = ballot.clone();
        self.role = Role::Preparing(ballot);
    }

    /// With the promises of a majority: the version of the newest table among them.
    pub(super) fn base(&self) -> Option<Version> {
        let Role::Preparing(ballot) = &self.role else {
            return None;
        };
        if self.durable.promised != *ballot {
            return None;
        }
        let promised: Vec<&Status> = self
            .peers
            .values()
            .filter(|s| s.promised == *ballot)
            .collect();
        if !self.majority(1 + promised.len()) {
            return None;
        }
        let theirs = promised.iter().map(|s| &s.held).max().cloned();
        Some(theirs.map_or(self.saved.held.version.clone(), |v| {
            v.max(self.saved.held.version.clone())
        }))
    }

    pub(super) fn lead(&mut self, base: Arc<Table>) {
        let Role::Preparing(ballot) = &self.role else {
            return;
        };
        let ballot = ballot.clone();
        self.role = Role::Leading {
            ballot: ballot.clone(),
            base: base.version.clone(),
            number: 0,
            wanted: None,
        };
        self.out.push(Action::Lead { ballot, base });
    }

    /// Proposes what the allocator wants, once the proposal before it is agreed.
    pub(super) fn propose(&mut self) {
        let Role::Leading {
            ballot,
            base,
            number,
            wanted,
        } = &mut self.role
        else {
            return;
        };
        if *number > 0 && self.saved.agreed.version != self.saved.held.version {
            return;
        }
        let Some(assignments) = wanted.take() else {
            return;
        };
        // A base that is not known to be agreed is proposed again even if nothing is to change: it may be in force somewhere.
        let settled = *number > 0 || *base == self.saved.agreed.version;
        if settled && self.saved.agreed.assignments == assignments {
            return;
        }
        *number += 1;
        let version = Version {
            ballot: ballot.clone(),
            number: *number,
        };
        let table = Table {
            version,
            assignments,
        };
        if table.encode().len() > MAX_TABLE {
            self.out.push(Action::Refused {
                from: self.me.clone(),
                why: "the table of assignments is too large to be agreed on".to_owned(),
            });
            return;
        }
        self.saved.held = Arc::new(table);
    }

    /// Moves on where what is known now allows it.
    pub(super) fn advance(&mut self, now: Instant) {
        if let Some(version) = self.base() {
            if let Some(table) = self.own(&version) {
                self.lead(table);
            } else {
                let source = self.peers.iter().find(|(_, s)| s.held == version);
                if let Some(from) = source.map(|(n, _)| n.clone()) {
                    self.get(from, version, now);
                }
            }
        }
        let Role::Leading { ballot, .. } = &self.role else {
            return;
        };
        let held = &self.saved.held.version;
        let proposed = held.ballot == *ballot && *held > self.saved.agreed.version;
        if proposed && self.durable.held == *held {
            let holders = self.peers.values().filter(|s| s.held == *held).count();
            if self.majority(1 + holders) {
                self.agree(self.saved.held.clone());
                self.propose();
                self.tell_all(now);
            }
        }
    }
}
