//! The node as a [`Snapshot`].

use std::net::IpAddr;
use std::time::Duration;

use ferrolb_api::reason::Reason;

use super::node::Node;
use crate::message;
use crate::problem::Problem;
use crate::snapshot::{Address, Conflict, Member, Snapshot, Status};

impl From<message::Status> for Status {
    fn from(status: message::Status) -> Self {
        match status {
            message::Status::Unknown => Self::Unknown,
            message::Status::Alive => Self::Alive,
            message::Status::Held => Self::Held,
            message::Status::Dead => Self::Dead,
        }
    }
}

/// A complaint about datagrams, made once a minute at most, stands in the status for so long.
const STANDS: Duration = Duration::from_secs(120);

impl Node {
    /// Everything as it is now; the next one is due when something changes again.
    pub(super) fn snapshot(&mut self) -> Snapshot {
        self.changed = false;
        let members = self.machine.members().into_iter().map(|m| Member {
            name: m.node.to_string(),
            address: self.members.get(&m.node).copied().flatten(),
            status: m.status.into(),
            settled: m.settled,
            multiplier: m.multiplier,
            incarnation: m.incarnation,
            eligible: m.eligible,
        });
        let now = super::clock().now;
        let lately = |at: &Duration| now.saturating_sub(*at) < STANDS;
        let deaf_to = self
            .deaf_to
            .iter()
            .filter(|(_, at)| lately(at))
            .map(|(problem, _)| problem);
        let leaps = self.machine.leaps().map(|leap| Problem::Leap {
            member: leap.by.to_string(),
            field: leap.what.to_string(),
            said: leap.said,
            bound: leap.bound,
        });
        let problems = self.problems.iter().chain(deaf_to).cloned();
        let problems = problems.chain(self.slow()).chain(leaps).collect();
        Snapshot {
            node: self.me.to_string(),
            settled: self.machine.is_settled(),
            majority: self.machine.live_majority(),
            placer: self.machine.placer().map(ToString::to_string),
            members: members.collect(),
            addresses: self.state.addresses().map(|a| self.address(a)).collect(),
            problems,
            counters: self.counters,
        }
    }

    fn address(&self, address: IpAddr) -> Address {
        let claim = self.machine.announcer(&address);
        let ineligible = self
            .desired
            .get(&address)
            .and_then(|e| e.as_ref().err())
            .copied();
        let on = self.announced.get(&address);
        let names = on
            .into_iter()
            .flatten()
            .filter_map(|i| self.links.get(*i))
            .map(|l| l.name.clone());
        let reason = match (claim, ineligible) {
            (Some(_), _) => Reason::Announced,
            _ if !self.machine.is_settled() => Reason::NotSettled,
            (None, Some(reason)) => reason,
            (None, None) => Reason::NoOwner,
        };
        Address {
            address,
            pool: self.state.pool(address).map(|(p, _)| p.key.name.clone()),
            services: self
                .state
                .services(address)
                .map(|s| s.key.to_string())
                .collect(),
            owner: claim.map(|c| c.node.to_string()),
            epoch: claim.map_or(0, |c| c.epoch),
            announcing: on.is_some(),
            interfaces: names.collect(),
            eligible: ineligible.is_none(),
            reason,
            ineligible,
            conflict: self
                .conflicts
                .iter()
                .find(|((a, _), _)| IpAddr::V4(*a) == address)
                .map(|(_, c)| Conflict {
                    mac: c.mac.to_string(),
                    member: self.neighbours.member(c.mac).map(ToString::to_string),
                }),
        }
    }
}
