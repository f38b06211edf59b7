//! The node's surroundings, as they affect external addresses.
//!
//! The rule for hosts on the networks of this node: the neighbour table decides when a Service first names an address. The
//! decision stands until no Service names the address any more.
//!
//! - If a host that is not a member has the address, the address is refused. It stays refused when the host leaves the table,
//!   because a host that restarts must find its address free.
//! - If no host has it, this node takes it. From then on the kernel does not resolve the address any more. An entry in the table
//!   is then old or comes from this node's own announcement, and is ignored.
//! - A link-layer address that turns out to be a member's is not a stranger's, no matter when that is found out.
//!
//! So nothing that happens after this node has taken or refused an address makes the decision flap.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::ownership::neighbour::{members, stranger};
use ferrolb_api::ownership::{Owner, Place};
use ferrolb_api::proxy_config::InterfaceName;
use ferrolb_api::view::Service;

use super::State;
use crate::surroundings::{Link, Listeners, Surroundings};

/// What was observed.
#[derive(Debug, Clone, Default)]
pub(super) struct Outside {
    /// `None` before the first reading.
    listeners: Option<Listeners>,
    links: BTreeMap<InterfaceName, Link>,
    /// Addresses that were looked up in the neighbour table.
    checked: BTreeSet<IpAddr>,
    /// Whether a Service changed in a way that depends on the surroundings.
    stale: bool,
}

impl Outside {
    /// Handles a new or changed Service: checks whether it names external addresses or ports that must be looked up.
    pub(super) fn named(&mut self, old: Option<&Service>, new: &Service) {
        let same = old.is_some_and(|old| {
            old.external_ips == new.external_ips
                && old.ports == new.ports
                && old.is_proxied() == new.is_proxied()
        });
        self.stale |= !same && new.is_proxied() && !new.external_ips.is_empty();
    }

    /// Requests a new reading at the next opportunity.
    pub(super) fn look_again(&mut self) {
        self.stale = true;
    }
}

impl State {
    /// Whether the surroundings must be read before the next decision.
    pub fn must_look(&self) -> bool {
        self.outside.stale && self.looks()
    }

    /// Whether the surroundings matter at all, because a Service names external addresses or has node ports.
    pub fn looks(&self) -> bool {
        self.ownership.names_external() || self.node_ports > 0
    }

    /// Applies a reading of the surroundings. `taken` holds the addresses on `kube-ipvs0`. Affected Services become dirty.
    pub fn see(&mut self, around: &Surroundings, taken: &BTreeSet<IpAddr>) {
        self.outside.stale = false;
        if self.outside.links != around.links {
            self.outside.links.clone_from(&around.links);
            self.dirty.globals = true;
        }
        let before: Vec<IpAddr> = self.node_port_addresses().collect();
        let mut places = self.ownership.set_interfaces(around.interfaces.clone());
        if !self.node_port_addresses().eq(before) {
            let on_nodes = self.services.values().filter(|s| s.has_node_ports());
            let on_nodes = on_nodes.map(|s| s.key.clone());
            self.dirty.services.extend(on_nodes);
        }
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

    /// Whether an address was looked up in the neighbour table.
    pub fn is_checked(&self, addr: IpAddr) -> bool {
        self.outside.checked.contains(&addr)
    }

    /// Interfaces of this node.
    pub fn links(&self) -> impl Iterator<Item = (&InterfaceName, &Link)> {
        self.outside.links.iter()
    }

    /// Sockets that listen on this node. `None`: unknown.
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

    /// Forgets the findings about addresses that a Service named and that no Service names any more.
    pub(super) fn forget_hosts(&mut self, old: Option<&Service>) {
        for addr in old.into_iter().flat_map(|s| s.external_ips.clone()) {
            if self.ownership.external(addr).next().is_none() {
                self.outside.checked.remove(&addr);
                self.ownership.set_host(addr, None);
            }
        }
    }
}
