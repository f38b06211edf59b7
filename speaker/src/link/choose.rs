//! On which interfaces an address is announced.
//!
//! An interface qualifies if all of this is true:
//! - its carrier is up and ARP works on it (broadcast, not NOARP, an Ethernet address);
//! - it is not a loopback interface and not a port of a bridge or bond (the master announces instead);
//! - its name is not that of a software interface;
//! - the advertisements allow it.
//!
//! If some of these are on the address's subnet, only those announce it. If none is, all do: pools outside every node's subnet
//! are common in routed LANs, and MetalLB announces them the same way. No interface qualifies for IPv6 addresses, because
//! neighbour discovery is not implemented.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::state::{Link, Links};

/// Name prefixes of interfaces that lead to containers and not to the LAN. MetalLB installs with the same list.
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

/// Name prefixes of the interfaces that are never used for announcements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns(Vec<String>);

impl Default for Patterns {
    fn default() -> Self {
        Self(SOFTWARE.map(str::to_owned).to_vec())
    }
}

impl Patterns {
    /// Custom patterns that replace the default list.
    pub fn new(prefixes: impl IntoIterator<Item = String>) -> Self {
        Self(prefixes.into_iter().filter(|p| !p.is_empty()).collect())
    }

    /// Whether an interface with this name is excluded.
    pub fn excludes(&self, name: &str) -> bool {
        self.0.iter().any(|p| name.starts_with(p.as_str()))
    }
}

/// Whether the speaker listens and sends ARP on an interface at all.
pub fn is_candidate(link: &Link, patterns: &Patterns) -> bool {
    link.up
        && link.arp
        && link.mac.is_some()
        && !link.loopback
        && link.master.is_none()
        && !patterns.excludes(&link.name)
}

/// The candidate interfaces, by index.
pub fn candidates<'a>(links: &'a Links, patterns: &'a Patterns) -> impl Iterator<Item = &'a Link> {
    links.iter().filter(|l| is_candidate(l, patterns))
}

/// The interfaces that announce `addr`, by index; empty if none can. `allowed` holds interface names; `None` allows all.
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
