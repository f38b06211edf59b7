//! The node's sockets: those on the LAN and the one between the members. Also handles what the members send.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::node::Node;
use crate::kernel_ping::{KernelPing, PingError};
use crate::machine::Event;
use crate::message::{Message, NodeName};
use crate::problem::{Cause, Problem, Unheard};
use crate::state::Dirty;
use crate::wire::key::random;
use crate::wire::session::Sessions;
use crate::wire::transport::{Heard, Transport};

impl Node {
    /// Opens the sockets that are not open. Failures become problems that `status` shows.
    pub(super) fn open_sockets(&mut self) {
        let before = self.sockets.macs();
        let mut problems = self.sockets.sync(&self.links, &self.config.exclude);
        let after = self.sockets.macs();
        if !before.keys().eq(after.keys()) {
            self.dirty = Dirty::All;
        }
        let another = |i: &u32| before.get(i).is_some_and(|mac| after.get(i) != Some(mac));
        let renamed: BTreeSet<u32> = after.keys().copied().filter(another).collect();
        self.announce_again(&renamed);
        self.open_transport();
        if let Some(at) = self.bound
            && self.ping.is_none()
            && self.members.len() > 1
        {
            match random()
                .map_err(Into::into)
                .and_then(|cookie| KernelPing::open(at.ip(), cookie))
            {
                Ok(ping) => self.ping = Some(ping),
                Err(PingError::NoRight) => problems.push(Problem::NoPing(Cause::NoRight)),
                Err(PingError::Io(e)) => {
                    problems.push(Problem::NoPing(Cause::Kernel(e.to_string())));
                }
            }
        }
        if self.transport.is_none() && self.members.len() > 1 {
            problems.push(match self.members.get(&self.me).copied().flatten() {
                None => Problem::NoMemberAddress {
                    node: self.me.to_string(),
                },
                Some(address) => Problem::NoMemberPort {
                    address,
                    port: self.config.port,
                    cause: self.unheard.clone().unwrap_or(Unheard::NoAddress),
                },
            });
        }
        problems.extend(self.one_address());
        if problems != self.problems {
            problems
                .iter()
                .filter(|p| !self.problems.contains(p))
                .for_each(|p| tracing::error!("{}: {p}", p.object()));
            self.problems = problems;
            self.changed = true;
        }
    }

    /// Binds the member socket, again if this node's address changed, and gives it the list of members.
    pub(super) fn open_transport(&mut self) {
        let at = self
            .members
            .get(&self.me)
            .copied()
            .flatten()
            .map(|ip| SocketAddr::new(ip, self.config.port));
        if at != self.bound || self.transport.is_none() {
            self.transport = None;
            self.ping = None;
            self.bound = at;
            if let Some(at) = at
                && self.members.len() > 1
                && let Ok(seed) = random()
            {
                let sessions = Sessions::new(self.me.clone(), &self.config.key, seed);
                match Transport::bind(at, sessions) {
                    Ok(transport) => self.transport = Some(transport),
                    Err(e) => self.unheard = Some((&e.error).into()),
                }
            }
        }
        if let Some(transport) = &mut self.transport {
            transport.set_members(&self.members, self.config.port);
        }
    }

    /// The addresses that several members are said to have.
    fn one_address(&self) -> impl Iterator<Item = Problem> {
        let mut at: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
        for (name, address) in &self.members {
            if let Some(address) = address {
                at.entry(*address).or_default().push(name.to_string());
            }
        }
        let shared = at.into_iter().filter(|(_, names)| names.len() > 1);
        shared.map(|(address, members)| Problem::OneAddress { address, members })
    }

    /// Handles what arrived on the members' socket. A payload is returned to the caller.
    pub(super) fn heard(&mut self, heard: Heard) -> Option<(NodeName, Vec<u8>)> {
        match heard {
            Heard::Message(from, message) => {
                self.counters.received += 1;
                if let Message::Opaque(payload) = message {
                    return Some((from, payload));
                }
                self.event(Event::Received { from, message });
            }
            Heard::Refused(name) => self.event(Event::Refused(name)),
            Heard::Dropped(from, why) => {
                self.counters.dropped += 1;
                if self.complaints.due(why, super::clock().now) {
                    let problem = Problem::Dropped { from, why };
                    tracing::warn!("{}: {problem}", problem.object());
                    self.deaf_to = Some((problem, super::clock().now));
                    self.changed = true;
                }
            }
        }
        None
    }

    /// Sends a payload to another member.
    pub(super) fn opaque(&mut self, to: NodeName, payload: Vec<u8>) {
        if let Some(transport) = &mut self.transport {
            transport.send(&to, &Message::Opaque(payload));
        }
    }

    /// Handles an answer of a node's kernel.
    pub(super) fn pinged(&mut self, ip: IpAddr) {
        let of = |(name, at): (&NodeName, &Option<IpAddr>)| (*at == Some(ip)).then(|| name.clone());
        if let Some(name) = self.members.iter().find_map(of) {
            self.event(Event::KernelAnswered(name));
        }
    }
}
