//! Keeps what this node may announce up to date, and gives it to the machine.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ferrolb_api::reason::Reason;

use super::node::Node;
use crate::apply::probe::Verdict;
use crate::desired::leaving::Leaving;
use crate::desired::{Surroundings, permitted, refresh};
use crate::machine::Event;

/// How long a node that starts asks the LAN for addresses before it takes part with those that it knows of.
const ASKING: Duration = Duration::from_secs(2);
/// The most addresses that are decided in one step of the loop: a heartbeat must not wait for ten thousand.
const MOST: usize = 1024;

impl Node {
    /// Gives up what this node announces, so that others take it over while it still answers. Returns whether there is anything
    /// to wait for: not if the kernel answers in its place, and not if no other member lives.
    pub(super) fn hand_over(&mut self) -> bool {
        let others = self.machine.members().into_iter();
        let mut others = others.filter(|m| m.node != self.me);
        if self.config.leave_addresses
            || self.announced.is_empty()
            || !others.any(|m| m.status == crate::message::Status::Alive)
        {
            return false;
        }
        self.hands_over = true;
        self.leaving = Leaving::default();
        self.event(Event::Eligible(BTreeSet::new()));
        true
    }

    /// Recomputes the answers for what changed, a part in each step, and gives the machine what this node may announce.
    pub(super) fn renew_eligibility(&mut self) {
        let left = self.leaving.due(super::clock().now);
        self.dirty.add(left);
        if self.dirty.is_empty() || self.hands_over {
            return;
        }
        let (answers, state) = (&self.desired, &self.state);
        let all = || answers.keys().copied().chain(state.addresses()).collect();
        let dirty = self.dirty.take(MOST, all);
        for address in &dirty {
            // What a member announces was asked for by that member.
            let asked = || !self.config.probes || self.machine.owner(address).is_some();
            if self.probes.verdict(*address) == Verdict::Unknown && asked() {
                self.probes.settle(*address);
            }
        }
        self.touched.extend(&dirty);
        let (none, open) = (BTreeSet::new(), self.sockets.interfaces());
        let around = Surroundings {
            me: self.me.as_str(),
            programmed: self
                .programmed
                .as_ref()
                .map(|p| p.as_ref().unwrap_or(&none)),
            links: &self.links,
            patterns: &self.config.exclude,
            probes: &self.probes,
            open: &open,
        };
        let mut changed = refresh(&mut self.desired, &self.state, around, &dirty);
        let now = super::clock().now;
        self.leaving.forget(&self.state);
        let (answers, on) = (&mut self.desired, &self.announced);
        self.leaving
            .keep(&mut changed, answers, &self.state, on, now);
        let unchecked = |a: &&IpAddr| self.desired.get(*a) == Some(&Err(Reason::AddressUnchecked));
        let unchecked = changed.answers.iter().filter(unchecked);
        let ask = unchecked.filter_map(|a| Some((*a, permitted(&self.state, around, *a).ok()?)));
        let ask = ask.collect();
        self.ask(ask);
        self.changed = true;
        self.announce(&changed.answers);
        // The machine gets no eligibility before the proxy's first pass is over and the LAN was asked for every address: a restarted
        // node would seem to have lost the right to announce what it announced.
        let unprogrammed = self.programmed.as_ref().is_some_and(Option::is_none);
        let patient = now < *self.give_by.get_or_insert(now + ASKING);
        let waits = patient && self.probes.is_pending() || !self.dirty.is_empty();
        if unprogrammed || !self.permitted_given && waits {
            self.permitted_given = false;
        } else if std::mem::replace(&mut self.permitted_given, true) {
            if !changed.permitted.is_empty() {
                self.event(Event::EligibleMoved(changed.permitted));
            }
        } else {
            let may = self.desired.iter().filter(|(_, e)| e.is_ok());
            let may = may.map(|(a, _)| *a).collect();
            self.event(Event::Eligible(may));
        }
    }
}
