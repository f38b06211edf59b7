//! What is around this node, as far as it concerns external addresses.
//!
//! The rule for hosts on the networks of this node: the neighbour table decides when a Service first names an address, and the answer
//! stands until no Service names it any more.
//!
//! - Where a host that is no member has the address, the address is refused. It stays refused when the host leaves the table, because
//!   a host that restarts must find its address free.
//! - Where nobody has it, this node takes it. From then on the kernel looks for nobody there, so that an entry in the table is an old
//!   one, or comes of this node's own announcement, and says nothing.
//! - A link-layer address that turns out to be a member's is no stranger's, whenever that is seen.
//!
//! So nothing that happens after this node has taken an address, or has left it alone, makes it change its mind back and forth.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ferrolb_api::ownership::neighbour::{members, stranger};
use ferrolb_api::ownership::{Owner, Place};
use ferrolb_api::view::Service;

use super::State;
use crate::surroundings::{Listeners, Surroundings};

/// What was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Outside {
    /// `None` before the first look.
    listeners: Option<Listeners>,
    /// Addresses that the neighbour table was asked about.
    checked: BTreeSet<IpAddr>,
    /// A Service changed in what depends on it.
    stale: bool,
}

impl Outside {
    /// A Service is new or another one: whether it names external addresses or ports that have to be looked at.
    pub(super) fn named(&mut self, old: Option<&Service>, new: &Service) {
        let same = old.is_some_and(|old| {
            old.external_ips == new.external_ips
                && old.ports == new.ports
                && old.is_proxied() == new.is_proxied()
        });
        self.stale |= !same && new.is_proxied() && !new.external_ips.is_empty();
    }

    /// The next chance to look has to be taken.
    pub(super) fn look_again(&mut self) {
        self.stale = true;
    }
}

impl State {
    /// Whether the surroundings have to be looked at before the next decision.
    pub fn must_look(&self) -> bool {
        self.outside.stale && self.looks()
    }

    /// Whether the surroundings matter at all: a Service names external addresses.
    pub fn looks(&self) -> bool {
        self.ownership.names_external()
    }

    /// Takes in what is around this node. `taken`: the addresses on `kube-ipvs0`. Services that this concerns become dirty.
    pub fn see(&mut self, around: &Surroundings, taken: &BTreeSet<IpAddr>) {
        self.outside.stale = false;
        let mut places = self.ownership.set_interfaces(around.interfaces.clone());
        places.extend(self.ownership.set_gateways(around.gateways.clone()));
        places.extend(self.judge(around, taken));
        if self.outside.listeners != around.listeners {
            self.outside.listeners.clone_from(&around.listeners);
            let own: Vec<IpAddr> = self.own_addresses().collect();
            places.extend(own.into_iter().map(Place::Address));
            places.extend(around.interfaces.iter().copied().map(Place::Address));
        }
        self.owners_changed(&places);
    }

    /// Whether the neighbour table was asked about an address.
    pub fn is_checked(&self, addr: IpAddr) -> bool {
        self.outside.checked.contains(&addr)
    }

    /// Sockets that listen on this node; `None` where nobody knows.
    pub fn listeners(&self) -> Option<&Listeners> {
        self.outside.listeners.as_ref()
    }

    /// Whether an interface of this node has an address that no stronger owner claims.
    pub fn is_interface_address(&self, addr: IpAddr) -> bool {
        self.ownership.owners(addr).any(|o| o == Owner::Interface)
    }

    fn judge(&mut self, around: &Surroundings, taken: &BTreeSet<IpAddr>) -> Vec<Place> {
        let members = members(&around.neighbours, |addr| {
            self.is_own_address(addr) || self.ownership.is_of_a_node(addr)
        });
        let named: Vec<IpAddr> = self.ownership.externals().collect();
        let mut places = Vec::new();
        for addr in named {
            let known = self.ownership.host(addr);
            let host = match known {
                Some(link) if !members.contains(link) => Some(link.clone()),
                _ if taken.contains(&addr) => None,
                _ => stranger(&around.neighbours, &members, addr).cloned(),
            };
            places.extend(self.ownership.set_host(addr, host));
            if self.outside.checked.insert(addr) {
                places.push(Place::Address(addr));
            }
        }
        places
    }

    /// Forgets what was found out about the addresses that a Service named and that nobody names any more.
    pub(super) fn forget_hosts(&mut self, old: Option<&Service>) {
        for addr in old.into_iter().flat_map(|s| s.external_ips.clone()) {
            if self.ownership.external(addr).next().is_none() {
                self.outside.checked.remove(&addr);
                self.ownership.set_host(addr, None);
            }
        }
    }
}
