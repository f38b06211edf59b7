//! Hosts on a machine's links, as its neighbour tables (ARP, NDP) show them, and which of them are not members of the cluster.
//!
//! A neighbour table holds more than foreign hosts. It also lists members of the cluster, and addresses that a member answers for
//! because something announces them there (a load balancer, keepalived). So if the link-layer address belongs to a member, the
//! entry is not a foreign host, whatever its IP address is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// A link-layer address; six bytes on Ethernet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkAddress(pub Vec<u8>);

impl fmt::Display for LinkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let colon = if i > 0 { ":" } else { "" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

/// The neighbour table entries that have a link-layer address, by IP address.
pub type Neighbours = BTreeMap<IpAddr, LinkAddress>;

/// The link-layer addresses of the members.
pub fn members(
    neighbours: &Neighbours,
    is_member: impl Fn(IpAddr) -> bool,
) -> BTreeSet<&LinkAddress> {
    let members = neighbours.iter().filter(|(addr, _)| is_member(**addr));
    members.map(|(_, link)| link).collect()
}

/// The host that has the address, if it is not a member. For `members`, see [`members`].
pub fn stranger<'n>(
    neighbours: &'n Neighbours,
    members: &BTreeSet<&LinkAddress>,
    addr: IpAddr,
) -> Option<&'n LinkAddress> {
    neighbours.get(&addr).filter(|link| !members.contains(link))
}
