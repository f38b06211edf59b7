//! On which interfaces an address is announced.
//!
//! An interface qualifies when its carrier is up, ARP works on it (broadcast, not NOARP, an Ethernet address), it is no
//! loopback, no port of a bridge or bond (its master speaks for it), no software interface by name, and the advertisements
//! allow it. Of those, the ones on the address's subnet; where none is, all: pools outside every node's subnet are usual
//! with routed LANs and are announced as MetalLB does it. IPv6 addresses qualify nowhere: neighbour discovery is not spoken.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::state::{Link, Links};

/// The start of the names of interfaces that lead to containers and not to the LAN: the list that MetalLB installs with.
const SOFTWARE: [&str; 13] = [
    "docker",
    "cbr",
    "dummy",
    "virbr",
    "lxcbr",
    "veth",
    "cali",
    "tunl",
    "flannel",
    "kube-ipvs",
    "cni",
    "nodelocaldns",
    "lxc",
];

/// Which interfaces are never announced on, by the start of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns(Vec<String>);

impl Default for Patterns {
    fn default() -> Self {
        Self(SOFTWARE.map(str::to_owned).to_vec())
    }
}

impl Patterns {
    /// Patterns of one's own instead of the default list.
    pub fn new(prefixes: impl IntoIterator<Item = String>) -> Self {
        Self(prefixes.into_iter().filter(|p| !p.is_empty()).collect())
    }

    /// Whether an interface of this name is left out.
    pub fn excludes(&self, name: &str) -> bool {
        self.0.iter().any(|p| name.starts_with(p.as_str()))
    }
}

/// Whether ARP is listened and spoken on an interface at all.
pub fn is_candidate(link: &Link, patterns: &Patterns) -> bool {
    link.up
        && link.arp
        && link.mac.is_some()
        && !link.loopback
        && link.master.is_none()
        && !patterns.excludes(&link.name)
}

/// The interfaces of which that is true, by index.
pub fn candidates<'a>(links: &'a Links, patterns: &'a Patterns) -> impl Iterator<Item = &'a Link> {
    links.iter().filter(|l| is_candidate(l, patterns))
}

/// The interfaces that announce `addr`, by index; empty: none can. `allowed` are interface names, `None` allows all.
pub fn choose(
    links: &Links,
    patterns: &Patterns,
    addr: IpAddr,
    allowed: Option<&BTreeSet<String>>,
) -> BTreeSet<u32> {
    if addr.is_ipv6() {
        return BTreeSet::new();
    }
    let usable: Vec<&Link> = candidates(links, patterns)
        .filter(|l| allowed.is_none_or(|names| names.contains(&l.name)))
        .collect();
    let on_subnet = |link: &&&Link| {
        links
            .addresses(link.index)
            .any(|a| a.net.prefix_len() < a.net.max_prefix_len() && a.net.contains(&addr))
    };
    let near: BTreeSet<u32> = usable.iter().filter(on_subnet).map(|l| l.index).collect();
    if near.is_empty() {
        usable.iter().map(|l| l.index).collect()
    } else {
        near
    }
}
