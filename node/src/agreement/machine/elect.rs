//! Determines the leader: the elected member, or the next one that can lead.

use std::time::Instant;

use super::{Action, Doubt, Machine, Role};
use crate::agreement::table::Name;

impl Machine {
    /// Whether more than half of the known nodes are alive. Otherwise nothing new is agreed on
    /// ([`ferrolb_api::reason::Reason::NoMajority`]).
    pub fn has_majority(&self) -> bool {
        self.majority(1 + self.others().count())
    }

    /// Whether more than half of the known nodes are alive and can write. Otherwise nothing new is agreed on either.
    pub fn can_store(&self) -> bool {
        let others = self.others();
        let able = others.filter(|n| !self.doubts.has(Doubt::Disk, n)).count();
        self.majority(usize::from(!self.disk.yields()) + able)
    }

    /// The other members that reported recently that they cannot write.
    pub fn yielding(&self) -> impl Iterator<Item = &Name> {
        self.doubts.of(Doubt::Disk)
    }

    /// The other live members that can promise and hold, as far as is known.
    pub(super) fn able(&self) -> impl Iterator<Item = &Name> {
        self.others().filter(|name| !self.doubts.bars(name))
    }

    pub(super) fn majority(&self, count: usize) -> bool {
        2 * count > self.view.known.max(1)
    }

    pub(super) fn leads(&self, name: &Name) -> bool {
        self.leader.as_ref() == Some(name)
    }

    pub(super) fn elected(&self) -> bool {
        self.leads(&self.me)
    }

    /// Determines the leader: the elected member, or the next one that can lead; if none can, still the elected one.
    pub(super) fn elect(&mut self, news: bool, now: Instant) {
        let leader = self
            .view
            .placer
            .as_ref()
            .map(|placer| self.leader_after(placer).clone());
        let changed = leader != self.leader;
        self.leader = leader;
        match (self.elected(), &self.role) {
            (true, Role::Follower) => self.prepare(now),
            (false, Role::Preparing(_) | Role::Leading { .. }) => {
                self.role = Role::Follower;
                self.out.push(Action::Follow);
            }
            _ => {}
        }
        if news || changed {
            self.tell_all(now);
        }
        if changed {
            self.learn(now);
        }
    }

    fn leader_after<'a>(&'a self, placer: &'a Name) -> &'a Name {
        let fit = |name: &Name| match *name == self.me {
            true => !self.disk.yields(),
            false => !self.doubts.bars(name),
        };
        if fit(placer) {
            return placer;
        }
        let all = self.view.live.iter().chain([&self.me]);
        let next = all.filter(|name| *name > placer && fit(name)).min();
        next.unwrap_or(placer)
    }
}
