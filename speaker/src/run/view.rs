//! The node as a [`Snapshot`], and the addresses one by one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ferrolb_api::delta::Delta;
use ferrolb_api::ownership::Owner;
use ferrolb_api::ownership::neighbour::LinkAddress;
use ferrolb_api::reason::Reason;

use super::node::Node;
use crate::apply::probe::Verdict;
use crate::desired::advertised;
use crate::frame::arp::Mac;
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

/// The most problems of one kind with single addresses.
const MOST: usize = 8;

/// How long a complaint about datagrams stays in the status. It is made at most once a minute.
const STANDS: Duration = Duration::from_secs(120);

impl Node {
    /// Everything but the addresses as it is now; the next one is due when something changes again.
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
        let problems = problems.chain(self.slow()).chain(leaps);
        let problems = problems.chain(self.alone()).chain(self.carried()).collect();
        Snapshot {
            node: self.me.to_string(),
            settled: self.machine.is_settled(),
            majority: self.machine.live_majority(),
            placer: self.machine.placer().map(ToString::to_string),
            members: members.collect(),
            problems,
            announced: self.announced.len(),
            counters: self.counters,
        }
    }

    /// That no other member is heard, once this node has waited for them.
    fn alone(&self) -> Option<Problem> {
        let others = self.machine.members().into_iter();
        let others: Vec<_> = others.filter(|m| m.node != self.me).collect();
        let silent = |status| matches!(status, message::Status::Unknown | message::Status::Dead);
        let alone = !others.is_empty() && others.iter().all(|m| silent(m.status));
        (alone && self.machine.is_settled() && self.transport.is_some()).then(|| Problem::Alone {
            node: self.me.to_string(),
            members: others.iter().map(|m| m.node.to_string()).collect(),
            port: self.config.port,
        })
    }

    /// The addresses of Services that an interface of this node has.
    fn carried(&self) -> impl Iterator<Item = Problem> {
        let carried = self.carried.iter();
        let carried =
            carried.filter(|(a, _)| self.state.has(**a) && self.state.owner(**a).is_none());
        carried
            .take(MOST)
            .map(|(address, (interface, prefix))| Problem::Carried {
                address: *address,
                prefix: *prefix,
                interface: interface.clone(),
                announcer: self.machine.owner(address).map(|c| c.node.to_string()),
            })
    }

    /// The addresses that may be other ones than at the last call of this.
    pub(super) fn addresses(&mut self) -> Delta<IpAddr, Arc<Address>> {
        let touched = std::mem::take(&mut self.touched).into_iter();
        let now = |a: IpAddr| self.state.has(a).then(|| Arc::new(self.address(a)));
        touched.map(|a| (a, now(a))).collect()
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
            owner: claim.map(|c| c.node.to_string()),
            interfaces: names.collect(),
            reason,
            owned: match (reason, self.probes.verdict(address)) {
                (Reason::AddressOwned, Verdict::Taken(mac)) => {
                    Some(Owner::Host(LinkAddress(mac.0.to_vec())))
                }
                (Reason::AddressOwned, _) => self.state.owner(address),
                _ => None,
            },
            advertised: advertised(&self.state, address, reason),
            conflict: self
                .conflicts
                .iter()
                .find(|((a, _), _)| IpAddr::V4(*a) == address)
                .map(|(_, c)| self.conflict(c.mac)),
        }
    }

    /// A station that claims an address of ours.
    pub(super) fn conflict(&self, mac: Mac) -> Conflict {
        Conflict {
            mac: mac.to_string(),
            member: self.neighbours.member(mac).map(ToString::to_string),
            port: self.config.port,
        }
    }
}
