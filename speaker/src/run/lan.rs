//! What the node sends and answers on the LAN. ARP only: neighbour discovery (RFC 4861) is not implemented, so IPv6 addresses are
//! not announced. `link::choose` finds no interface for them.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::digest::Few;
use super::node::Node;
use crate::apply::probe::Verdict;
use crate::apply::real::HeardArp;
use crate::apply::{announce, answer, probe};
use crate::diff::{Announced, diff};
use crate::frame::arp::Arp;
use crate::state::Dirty;

impl Node {
    /// Handles an ARP frame: answers a request if the machine allows it, and records a foreign claim to our address.
    pub(super) fn arp(&mut self, heard: HeardArp) {
        let (interface, arp) = match heard {
            HeardArp::Frame(interface, arp) => (interface, arp),
            HeardArp::Closed(interface) => {
                self.sockets.closed(interface);
                self.dirty = Dirty::All;
                return;
            }
        };
        let now = super::clock().now;
        if self.neighbours.heard(arp.sender, arp.sender_mac) {
            self.dirty.add(self.probes.excuse(arp.sender_mac));
        }
        if self.probes.asks(arp.sender.into())
            && !self.links.owns(arp.sender_mac)
            && self.neighbours.member(arp.sender_mac).is_none()
        {
            self.probes.heard(arp.sender, arp.sender_mac);
        }
        let ours = |a: Ipv4Addr| {
            self.announced
                .get(&IpAddr::V4(a))
                .is_some_and(|i| i.contains(&interface))
        };
        if ours(arp.sender) && !self.links.owns(arp.sender_mac) {
            self.conflicts
                .foreign((arp.sender, interface), arp.sender_mac, now);
        }
        if ours(arp.target) {
            self.answer(interface, &arp, now);
        }
    }

    fn answer(&mut self, interface: u32, arp: &Arp, now: Duration) {
        if !self.machine.may_answer(&IpAddr::V4(arp.target), now) {
            self.counters.withheld += 1;
            return;
        }
        match answer(&mut self.sockets, interface, arp) {
            Ok(true) => self.counters.answered += 1,
            Ok(false) => {}
            Err(e) => self.failed(interface, &e),
        }
    }

    fn failed(&mut self, interface: u32, e: &io::Error) {
        self.counters.failed += 1;
        tracing::debug!(interface, "an ARP frame was not sent: {e}");
    }

    /// Adjusts which of these addresses are announced, and where, to the machine and the interfaces.
    pub(super) fn announce(&mut self, addresses: &BTreeSet<IpAddr>) {
        if addresses.is_empty() {
            return;
        }
        let at = super::clock().now;
        let (mut then, mut now) = (Announced::new(), Announced::new());
        for address in addresses {
            let before = self.announced.remove(address);
            let place = match self.desired.get(address) {
                _ if !self.machine.announces(address) => None,
                Some(Ok(interfaces)) => Some(interfaces.clone()),
                // No longer eligible, but it answers where it did before, until the successor speaks.
                _ => before.clone(),
            };
            then.extend(before.map(|on| (*address, on)));
            now.extend(place.map(|on| (*address, on)));
        }
        let change = diff(&then, &now);
        let moved = change.start.keys().chain(change.stop.keys());
        self.touched.extend(moved.copied());
        for place in places(&change.stop) {
            self.schedule.stop(place);
        }
        for place in places(&change.start) {
            self.schedule.start(place, at);
        }
        self.announced.extend(now);
    }

    /// Announces everything on these interfaces as if it were new: their Ethernet addresses changed, and neighbours still send to
    /// the old ones.
    pub(super) fn announce_again(&mut self, interfaces: &BTreeSet<u32>) {
        if interfaces.is_empty() {
            return;
        }
        let now = super::clock().now;
        for place in self.places() {
            if interfaces.contains(&place.1) {
                self.schedule.start(place, now);
            }
        }
    }

    /// Begins to ask whether hosts have these addresses, each on its interfaces. The answers of members whose Ethernet addresses
    /// are not known would look like those of hosts, so they are asked for as well.
    pub(super) fn ask(&mut self, addresses: Vec<(IpAddr, BTreeSet<u32>)>) {
        let now = super::clock().now;
        let mut interfaces = BTreeSet::new();
        for (address, on) in addresses {
            interfaces.extend(&on);
            self.probes.begin(address, on, now);
        }
        let own = self.members.get(&self.me).copied().flatten();
        let unheard: Vec<Ipv4Addr> = self.neighbours.unheard().collect();
        for member in unheard.into_iter().filter(|m| Some(IpAddr::V4(*m)) != own) {
            for interface in &interfaces {
                if let Err(e) = probe(&mut self.sockets, *interface, member) {
                    self.failed(*interface, &e);
                }
            }
        }
    }

    /// Sends the questions that are due, and takes in what was found out.
    pub(super) fn probe(&mut self) {
        let due = self.probes.due(super::clock().now);
        for (address, interface) in due.ask {
            if let Err(e) = probe(&mut self.sockets, interface, address) {
                self.failed(interface, &e);
            }
        }
        for address in &due.decided {
            if let Verdict::Taken(mac) = self.probes.verdict(*address) {
                self.taken.add(mac, *address);
            }
        }
        for (mac, all) in self.taken.due(super::clock().now) {
            tracing::warn!(addresses = %Few(&all), %mac, "a host on the network already has an address of a Service, so this node does not announce it");
        }
        self.dirty.add(due.decided);
    }

    /// Sends the gratuitous ARP that is due.
    pub(super) fn say(&mut self, now: Duration) {
        let announced = &self.announced;
        let ours = |(a, i): (Ipv4Addr, u32)| {
            announced
                .get(&IpAddr::V4(a))
                .is_some_and(|on| on.contains(&i))
        };
        let mut due = self.schedule.due(now);
        let shown = self.conflicts.addresses();
        let defences = self.conflicts.due(now, ours);
        self.touched
            .extend(shown.symmetric_difference(&self.conflicts.addresses()));
        for defence in defences {
            if defence.report {
                self.contested.add(defence.mac, defence.place.0.into());
            }
            self.changed = true;
            self.touched.insert(IpAddr::V4(defence.place.0));
            due.push(defence.place);
        }
        for (mac, all) in self.contested.due(now) {
            let conflict = self.conflict(mac);
            tracing::warn!(addresses = %Few(&all), "{conflict}");
        }
        for (address, interface) in due {
            // A loop that was paused announces nothing until it has synchronised again.
            if !self.machine.may_answer(&IpAddr::V4(address), now) {
                continue;
            }
            match announce(&mut self.sockets, interface, address) {
                Ok(()) => self.counters.gratuitous += 2,
                Err(e) => self.failed(interface, &e),
            }
        }
    }

    /// What is announced, by address and interface.
    pub(super) fn places(&self) -> Vec<(Ipv4Addr, u32)> {
        places(&self.announced)
    }

    /// Addresses that were left to the kernel and that another node announces now, each with its interface. They are searched for
    /// when an owner, an address of an interface or a Service changed.
    pub(super) fn leftovers(&self) -> Vec<(Ipv4Addr, u32)> {
        if !(self.changed && self.config.leave_addresses && self.machine.is_settled()) {
            return Vec::new();
        }
        let elsewhere = |a: &IpAddr| self.machine.owner(a).is_some_and(|c| c.node != self.me);
        let all = self.links.leftovers();
        all.filter(|(a, _)| self.state.has(*a) && elsewhere(a))
            .filter_map(|(a, interface)| Some((v4(a)?, interface)))
            .collect()
    }
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    }
}

fn places(announced: &Announced) -> Vec<(Ipv4Addr, u32)> {
    announced
        .iter()
        .filter_map(|(a, on)| Some((v4(*a)?, on)))
        .flat_map(|(a, on)| on.iter().map(move |i| (a, *i)))
        .collect()
}
