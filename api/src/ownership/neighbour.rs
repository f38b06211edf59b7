//! Hosts on the links of a machine, as its neighbour tables (ARP, NDP) show them, and which of them are strangers.
//!
//! A neighbour table holds more than other people's hosts: members of the cluster, and addresses that a member answers for because
//! somebody announces them there (a load balancer, keepalived). So a link-layer address that belongs to a member says nothing about a
//! stranger, whichever address is behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// A link-layer address, on Ethernet six bytes.
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

/// The entries of the neighbour tables that name a link-layer address, by address.
pub type Neighbours = BTreeMap<IpAddr, LinkAddress>;

/// The link-layer addresses of the members.
pub fn members(
    neighbours: &Neighbours,
    is_member: impl Fn(IpAddr) -> bool,
) -> BTreeSet<&LinkAddress> {
    let members = neighbours.iter().filter(|(addr, _)| is_member(**addr));
    members.map(|(_, link)| link).collect()
}

/// The host that has an address and is no member. `members`: see [`members`].
pub fn stranger<'n>(
    neighbours: &'n Neighbours,
    members: &BTreeSet<&LinkAddress>,
    addr: IpAddr,
) -> Option<&'n LinkAddress> {
    neighbours.get(&addr).filter(|link| !members.contains(link))
}
