//! Maps Ethernet addresses to members, learned from the ARP frames that the members' kernels send. Pure.
//!
//! When a station claims one of our addresses and that station is a member, the message names it: a member that this node cannot
//! talk to is a different fault from a stranger on the LAN. A member is also no host that an address has to be left to.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::frame::arp::Mac;
use crate::message::NodeName;

/// The members' Ethernet addresses, one for each, so there are never more than members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Neighbours {
    members: BTreeMap<Ipv4Addr, NodeName>,
    macs: BTreeMap<Ipv4Addr, Mac>,
}

impl Neighbours {
    /// Who the members are now, and at which addresses.
    pub(crate) fn set_members(&mut self, members: &BTreeMap<NodeName, Option<IpAddr>>) {
        let v4 = |(name, ip): (&NodeName, &Option<IpAddr>)| match ip {
            Some(IpAddr::V4(v4)) => Some((*v4, name.clone())),
            _ => None,
        };
        self.members = members.iter().filter_map(v4).collect();
        self.macs.retain(|ip, _| self.members.contains_key(ip));
    }

    /// A frame says that `mac` has this address. Returns whether that is news of a member.
    pub(crate) fn heard(&mut self, ip: Ipv4Addr, mac: Mac) -> bool {
        self.members.contains_key(&ip) && self.macs.insert(ip, mac) != Some(mac)
    }

    /// The addresses of members whose Ethernet address is not known.
    pub(crate) fn unheard(&self) -> impl Iterator<Item = Ipv4Addr> {
        let all = self.members.keys().copied();
        all.filter(|ip| !self.macs.contains_key(ip))
    }

    /// The member with this Ethernet address, if a frame of it was heard.
    pub(crate) fn member(&self, mac: Mac) -> Option<&NodeName> {
        let (ip, _) = self.macs.iter().find(|(_, m)| **m == mac)?;
        self.members.get(ip)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_member_is_known_by_the_ethernet_address_of_its_frames_as_long_as_it_is_one() {
        let (a, b): (Ipv4Addr, Ipv4Addr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let (one, two) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let mut neighbours = Neighbours::default();
        let list = |ip: Ipv4Addr| {
            BTreeMap::from([("n1".into(), Some(IpAddr::V4(ip))), ("n2".into(), None)])
        };
        neighbours.heard(a, one);
        assert_eq!(neighbours.member(one), None, "no member yet");
        neighbours.set_members(&list(a));
        neighbours.heard(a, one);
        neighbours.heard(b, two);
        assert_eq!(neighbours.member(one), Some(&"n1".into()));
        assert_eq!(neighbours.member(two), None, "a stranger");
        neighbours.heard(a, two);
        assert_eq!(neighbours.member(one), None, "its interface was replaced");
        assert_eq!(neighbours.member(two), Some(&"n1".into()));
        neighbours.set_members(&list(b));
        assert_eq!(neighbours.member(two), None, "it has another address");
    }
}
