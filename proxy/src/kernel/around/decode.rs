//! The parts of rtnetlink(7) messages about interfaces, routes and neighbours that are used.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ferrolb_api::ownership::neighbour::LinkAddress;
use ferrolb_api::proxy_config::InterfaceName;

use super::super::netlink::attr::{Malformed, address, attributes, behind, u16_of, u32_of};

/// The type and the payload of a message.
pub(super) type Message<'a> = (u16, &'a [u8]);

/// `RTM_NEWLINK`, `RTM_NEWADDR`, `RTM_NEWROUTE`, `RTM_NEWNEIGH`.
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const NEW_NEIGHBOUR: u16 = 28;
/// Lengths of `struct ifinfomsg`, `ifaddrmsg`, `rtmsg`, `ndmsg` and `rtnexthop`.
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;
const NEIGHBOUR_HEADER: usize = 12;
const HOP_HEADER: usize = 8;
/// `IFLA_IFNAME`, `IFLA_LINKINFO`, `IFLA_INFO_KIND`.
const NAME: u16 = 3;
const INFO: u16 = 18;
const INFO_KIND: u16 = 1;
/// Kinds of links (ip-link(8)) by which the pods of other nodes are reached.
const TUNNELS: [&str; 12] = [
    "vxlan",
    "geneve",
    "ipip",
    "sit",
    "ip6tnl",
    "gre",
    "gretap",
    "ip6gre",
    "ip6gretap",
    "vti",
    "xfrm",
    "wireguard",
];
/// `IFA_ADDRESS`, `IFA_LOCAL`.
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
/// `RTN_UNICAST`: a route that leads somewhere.
const UNICAST: u8 = 1;
/// `RTA_GATEWAY`, `RTA_MULTIPATH`, `RTA_VIA`.
const GATEWAY: u16 = 5;
const MULTIPATH: u16 = 9;
const VIA: u16 = 18;
/// `NDA_DST`, `NDA_LLADDR`.
const DESTINATION: u16 = 1;
const LINK_ADDRESS: u16 = 2;
/// `NUD_REACHABLE`, `NUD_STALE`, `NUD_DELAY`, `NUD_PROBE`, `NUD_PERMANENT`: the neighbour answered once and has not failed since.
const SEEN: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x80;

/// Index and name of a link, and whether it is the end of a tunnel.
pub(super) fn link(
    kind: u16,
    payload: &[u8],
) -> Result<Option<(u32, InterfaceName, bool)>, Malformed> {
    if kind != NEW_LINK {
        return Ok(None);
    }
    let index = payload.get(4..8).and_then(u32_of);
    let index = index.ok_or(Malformed("the header of a link"))?;
    let (mut name, mut tunnel) = (None, false);
    for attribute in attributes(behind(payload, LINK_HEADER)?) {
        match attribute? {
            (NAME, value) => name = InterfaceName::from_bytes(value),
            (INFO, value) => {
                for attribute in attributes(value) {
                    if let (INFO_KIND, value) = attribute? {
                        let end = value.iter().position(|b| *b == 0);
                        let kind = value.get(..end.unwrap_or(value.len()));
                        tunnel =
                            kind.is_some_and(|kind| TUNNELS.iter().any(|t| t.as_bytes() == kind));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(name.map(|name| (index, name, tunnel)))
}

/// The address of an interface other than our dummy, and the interface's index.
pub(super) fn interface(
    (kind, payload): Message<'_>,
    dummy: Option<u32>,
) -> Result<Option<(u32, IpAddr)>, Malformed> {
    if kind != NEW_ADDRESS {
        return Ok(None);
    }
    let index = payload.get(4..8).and_then(u32_of);
    let index = index.ok_or(Malformed("the header of an address"))?;
    if Some(index) == dummy {
        return Ok(None);
    }
    let (mut local, mut other) = (None, None);
    for attribute in attributes(behind(payload, ADDRESS_HEADER)?) {
        match attribute? {
            (LOCAL, value) => local = address(value),
            // The only one that IPv6 sends.
            (ADDRESS, value) => other = address(value),
            _ => {}
        }
    }
    Ok(local.or(other).map(|address| (index, address)))
}

/// The gateways of a route, for all its next hops.
pub(super) fn gateways(
    (kind, payload): Message<'_>,
    out: &mut BTreeSet<IpAddr>,
) -> Result<(), Malformed> {
    // Most routes are local ones to service addresses.
    if kind != NEW_ROUTE || payload.get(7) != Some(&UNICAST) {
        return Ok(());
    }
    for attribute in attributes(behind(payload, ROUTE_HEADER)?) {
        let (kind, value) = attribute?;
        out.extend(gateway(kind, value));
        if kind != MULTIPATH {
            continue;
        }
        let mut rest = value;
        while let Some(length) = rest.get(..2).and_then(u16_of) {
            let hop = rest.get(HOP_HEADER..usize::from(length));
            let hop = hop.ok_or(Malformed("the length of a hop"))?;
            for attribute in attributes(hop) {
                let (kind, value) = attribute?;
                out.extend(gateway(kind, value));
            }
            let next = usize::from(length).next_multiple_of(4);
            rest = rest.get(next..).unwrap_or_default();
        }
    }
    Ok(())
}

fn gateway(kind: u16, value: &[u8]) -> Option<IpAddr> {
    match kind {
        GATEWAY => address(value),
        // The family precedes the address.
        VIA => address(value.get(2..)?),
        _ => None,
    }
}

/// A neighbour that was seen, with its link-layer address. `None` for neighbours on our own interface.
pub(super) fn neighbour(
    (kind, payload): Message<'_>,
    dummy: Option<u32>,
) -> Result<Option<(IpAddr, LinkAddress)>, Malformed> {
    if kind != NEW_NEIGHBOUR {
        return Ok(None);
    }
    let index = payload.get(4..8).and_then(u32_of);
    let state = payload.get(8..10).and_then(u16_of);
    let (Some(index), Some(state)) = (index, state) else {
        return Err(Malformed("the header of a neighbour"));
    };
    if state & SEEN == 0 || Some(index) == dummy {
        return Ok(None);
    }
    let (mut addr, mut link) = (None, None);
    for attribute in attributes(behind(payload, NEIGHBOUR_HEADER)?) {
        match attribute? {
            (DESTINATION, value) => addr = address(value),
            (LINK_ADDRESS, value) => link = Some(LinkAddress(value.to_vec())),
            _ => {}
        }
    }
    Ok(addr.zip(link))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn all_hops_of_a_route_are_gateways_and_local_routes_have_none() {
        let hop = |last: u8| {
            let mut bytes = vec![16, 0, 0, 0, 2, 0, 0, 0];
            bytes.extend(attribute(GATEWAY, &[192, 0, 2, last]));
            bytes
        };
        let mut route = vec![2, 0, 0, 0, 254, 0, 0, UNICAST, 0, 0, 0, 0];
        route.extend(attribute(GATEWAY, &[192, 0, 2, 1]));
        route.extend(attribute(
            VIA,
            &[10, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        ));
        route.extend(attribute(MULTIPATH, &[hop(2), hop(3)].concat()));
        let mut found = BTreeSet::new();
        gateways((NEW_ROUTE, &route), &mut found).unwrap();
        let names: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["192.0.2.1", "192.0.2.2", "192.0.2.3", "fe80::1"]);
        // A hop with a wrong length is refused.
        let length = route.len();
        route[length - 16] = 200;
        assert!(gateways((NEW_ROUTE, &route), &mut found).is_err());
        route[7] = 2;
        let mut local = BTreeSet::new();
        gateways((NEW_ROUTE, &route), &mut local).unwrap();
        assert!(local.is_empty());
    }

    #[test]
    fn only_neighbours_that_answered_count_and_none_on_our_own_interface() {
        let entry = |state: u16, index: u32| {
            let mut bytes = vec![2, 0, 0, 0];
            bytes.extend(index.to_ne_bytes());
            bytes.extend(state.to_ne_bytes());
            bytes.extend([0, 1]);
            bytes.extend(attribute(DESTINATION, &[192, 0, 2, 9]));
            bytes.extend(attribute(LINK_ADDRESS, &[2, 0, 0, 0, 0, 9]));
            neighbour((NEW_NEIGHBOUR, &bytes), Some(7)).unwrap()
        };
        for state in [0x02, 0x04, 0x08, 0x10, 0x80] {
            let (addr, link) = entry(state, 2).unwrap();
            assert_eq!(
                (addr.to_string(), link.to_string()),
                ("192.0.2.9".to_owned(), "02:00:00:00:00:09".to_owned())
            );
            assert_eq!(entry(state, 7), None, "{state:#x}");
        }
        // Incomplete, failed, without ARP.
        for state in [0, 0x01, 0x20, 0x40] {
            assert_eq!(entry(state, 2), None, "{state:#x}");
        }
        assert!(neighbour((NEW_NEIGHBOUR, &[2, 0, 0, 0]), None).is_err());
    }

    #[test]
    fn the_address_of_an_interface_is_its_own_end() {
        let mut bytes = vec![2, 32, 0, 0];
        bytes.extend(3_u32.to_ne_bytes());
        bytes.extend(attribute(ADDRESS, &[192, 0, 2, 1]));
        bytes.extend(attribute(LOCAL, &[192, 0, 2, 2]));
        let found = interface((NEW_ADDRESS, &bytes), Some(7)).unwrap();
        assert_eq!(found, Some((3, [192, 0, 2, 2].into())));
        assert_eq!(interface((NEW_ADDRESS, &bytes), Some(3)).unwrap(), None);
    }

    #[test]
    fn tunnels_are_told_from_other_links() {
        for (kind, tunnel) in [("vxlan", true), ("wireguard", true), ("veth", false)] {
            let mut bytes = vec![0; LINK_HEADER];
            bytes[4..8].copy_from_slice(&7u32.to_ne_bytes());
            bytes.extend(attribute(NAME, b"flannel.1\0"));
            let kind = [kind.as_bytes(), &[0]].concat();
            bytes.extend(attribute(INFO, &attribute(INFO_KIND, &kind)));
            let name = InterfaceName::new("flannel.1").unwrap();
            assert_eq!(link(NEW_LINK, &bytes).unwrap(), Some((7, name, tunnel)));
        }
        assert!(link(NEW_LINK, &[0; 3]).is_err());
    }
}
