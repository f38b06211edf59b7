//! What the kernel reports about the interfaces, updated change by change. No sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::frame::arp::Mac;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index, unique in the network namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Ethernet address; `None` on links that have none.
    pub mac: Option<Mac>,
    /// Administratively up, and the carrier is there (`IFF_UP` and `IFF_LOWER_UP`).
    pub up: bool,
    /// `IFF_LOOPBACK`.
    pub loopback: bool,
    /// `IFF_BROADCAST` without `IFF_NOARP`: ARP works on it.
    pub arp: bool,
    /// Index of the bridge, bond or VRF that it belongs to.
    pub master: Option<u32>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAddress {
    /// Address and length of its on-link prefix.
    pub net: IpNet,
    /// It has a finite valid lifetime.
    pub expires: bool,
}

/// A change that the kernel reports. Repeated changes do no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// New or changed.
    Link(Link),
    /// Removed, with its addresses.
    LinkGone(u32),
    /// New or changed.
    Address(u32, LinkAddress),
    /// Removed.
    AddressGone(u32, IpNet),
    /// A next hop of a route.
    Gateway(IpAddr),
    /// The full state, from an audit that makes up for lost reports.
    All(Links),
}

/// All interfaces and their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    links: BTreeMap<u32, Link>,
    addresses: BTreeMap<u32, BTreeMap<IpNet, LinkAddress>>,
    gateways: BTreeSet<IpAddr>,
}

impl Links {
    /// Applies a change. Returns true if it made a difference.
    pub fn apply(&mut self, change: LinkChange) -> bool {
        match change {
            LinkChange::Link(link) => {
                self.links.insert(link.index, link.clone()).as_ref() != Some(&link)
            }
            LinkChange::LinkGone(index) => {
                let addresses = self.addresses.remove(&index).is_some();
                self.links.remove(&index).is_some() || addresses
            }
            LinkChange::Address(index, address) => {
                let old = self
                    .addresses
                    .entry(index)
                    .or_default()
                    .insert(address.net, address);
                old != Some(address)
            }
            LinkChange::AddressGone(index, net) => {
                let Some(addresses) = self.addresses.get_mut(&index) else {
                    return false;
                };
                let gone = addresses.remove(&net).is_some();
                if addresses.is_empty() {
                    self.addresses.remove(&index);
                }
                gone
            }
            LinkChange::Gateway(address) => self.gateways.insert(address),
            LinkChange::All(links) => {
                let news = *self != links;
                *self = links;
                news
            }
        }
    }

    /// An interface.
    pub fn get(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// All interfaces, by index.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// The addresses of an interface.
    pub fn addresses(&self, index: u32) -> impl Iterator<Item = &LinkAddress> {
        self.addresses
            .get(&index)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// The next hops of this machine's routes, as of the last full state.
    pub fn gateways(&self) -> &BTreeSet<IpAddr> {
        &self.gateways
    }

    /// Whether this Ethernet address is one of ours.
    pub fn owns(&self, mac: Mac) -> bool {
        self.links.values().any(|l| l.mac == Some(mac))
    }

    /// Addresses that are alone in their prefix and have a finite lifetime, with their interface: what an agent leaves behind
    /// when it stops.
    pub fn leftovers(&self) -> impl Iterator<Item = (IpAddr, u32)> + '_ {
        self.addresses
            .iter()
            .flat_map(|(index, all)| all.values().map(move |a| (a, *index)))
            .filter(|(a, _)| a.expires && a.net.prefix_len() == a.net.max_prefix_len())
            .map(|(a, index)| (a.net.addr(), index))
    }
}
