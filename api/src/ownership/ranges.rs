//! A set of address ranges. It finds the range that contains an address in time that grows with the number of distinct prefix
//! lengths, not with the number of ranges.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

/// The ranges, with the number of times that each was added.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranges {
    /// By family and prefix length.
    lengths: BTreeMap<(bool, u8), BTreeMap<IpNet, usize>>,
}

impl Ranges {
    /// Adds a range; bits beyond its prefix are cleared.
    pub fn add(&mut self, net: IpNet) {
        let net = net.trunc();
        let nets = self.lengths.entry(class(&net)).or_default();
        *nets.entry(net).or_default() += 1;
    }

    /// Undoes one [`Ranges::add`].
    pub fn remove(&mut self, net: IpNet) {
        let net = net.trunc();
        let Some(nets) = self.lengths.get_mut(&class(&net)) else {
            return;
        };
        if let Some(count) = nets.get_mut(&net) {
            *count -= 1;
            if *count == 0 {
                nets.remove(&net);
            }
        }
        if nets.is_empty() {
            self.lengths.remove(&class(&net));
        }
    }

    /// The widest range that contains the address.
    pub fn containing(&self, addr: IpAddr) -> Option<IpNet> {
        let six = addr.is_ipv6();
        let lengths = self.lengths.range((six, 0)..=(six, u8::MAX));
        lengths.into_iter().find_map(|((_, length), nets)| {
            let net = IpNet::new(addr, *length).ok()?.trunc();
            nets.contains_key(&net).then_some(net)
        })
    }

    /// All ranges.
    pub fn nets(&self) -> BTreeSet<IpNet> {
        self.lengths
            .values()
            .flat_map(|nets| nets.keys().copied())
            .collect()
    }
}

fn class(net: &IpNet) -> (bool, u8) {
    (net.addr().is_ipv6(), net.prefix_len())
}
