//! The elected member's side: it asks for promises, continues from the newest table among them, and proposes.

use std::sync::Arc;
use std::time::Instant;

use super::{Action, Doubt, Machine, Role};
use crate::agreement::message::Status;
use crate::agreement::table::{Ballot, MAX_ROUND, MAX_TABLE, Name, Table, Version};

/// How far above the rounds that it must exceed a new ballot may go to exceed others as well. This saves honest members a second
/// ballot, and gains a liar little.
const COURTESY: u64 = 1 << 16;

impl Machine {
    /// Asks for promises under a ballot that a majority can promise.
    pub(super) fn prepare(&mut self, now: Instant) {
        if self.is_leading() {
            self.out.push(Action::Follow);
        }
        self.role = Role::Follower;
        let exceed = self.to_exceed();
        // Members would reject any round from here on. The state on disk is checked at start, so this cannot happen.
        if exceed >= MAX_ROUND - 1 {
            return;
        }
        self.allowance.spend(self.saved.promised.round, exceed, now);
        let ballot = Ballot {
            round: exceed + 1,
            proposer: self.me.clone(),
            boot: self.boot,
        };
        // Its own promise. The others see it in our status and recognise it as ours.
        self.saved.promised = ballot.clone();
        self.role = Role::Preparing(ballot);
    }

    /// The round that the next ballot must exceed so that this member and enough others can promise it. A round that only a
    /// minority promised is exceeded if it is close.
    fn to_exceed(&self) -> u64 {
        let promised = |name: &Name| self.peers.get(name).map_or(0, |s| s.promised.round);
        let mut rounds: Vec<u64> = self.able().map(promised).collect();
        rounds.sort_unstable();
        let enough = self.view.known / 2;
        let needed = enough.checked_sub(1).and_then(|last| rounds.get(last));
        let must = self.saved.promised.round.max(*needed.unwrap_or(&0));
        let near = rounds.into_iter().filter(|r| *r <= must + COURTESY);
        near.max().unwrap_or(0).max(must)
    }

    /// Once a majority has promised: the version of the newest table among their states.
    pub(super) fn base(&self) -> Option<Version> {
        let Role::Preparing(ballot) = &self.role else {
            return None;
        };
        if self.durable.promised != *ballot {
            return None;
        }
        let promised = self
            .peers
            .iter()
            .filter(|(name, s)| s.promised == *ballot && !self.doubts.has(Doubt::Silent, name));
        let promised: Vec<&Status> = promised.map(|(_, s)| s).collect();
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

    /// Proposes what the allocator wants, once the previous proposal is agreed.
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
        // A base that is not known to be agreed is proposed again even if nothing is to change: some member may have it in force.
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

    /// Takes the next step if the known states allow it.
    pub(super) fn advance(&mut self, now: Instant) {
        if let Some(version) = self.base() {
            if let Some(table) = self.own(&version) {
                self.lead(table);
            } else {
                let mut peers = self.peers.iter();
                let source = peers
                    .find(|(name, s)| s.held == version && !self.doubts.has(Doubt::Silent, name));
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
