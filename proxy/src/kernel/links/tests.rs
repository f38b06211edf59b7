#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::IpAddr;

use proptest::prelude::*;

use super::super::netlink::tests::{captured, damaged};
use super::decode::{Address, interface_address, link, route};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn links_addresses_and_routes_are_read_from_messages_of_a_real_kernel() {
    let links = captured("links");
    let found = link(&links[0]).unwrap();
    // One end of a veth pair.
    assert_eq!((found.index, found.up, found.is_dummy), (2, true, false));

    let addresses = captured("addr").into_iter();
    let found: Vec<_> = addresses
        .filter_map(|a| interface_address(&a).unwrap())
        .collect();
    let address = |addr: &str| Address {
        index: 3,
        scope: 0,
        addr: ip(addr),
    };
    // The two link-local ones are left out.
    assert_eq!(found, [address("10.96.0.1"), address("fd00::1")]);

    let [v4] = captured("route").try_into().unwrap();
    let v4 = route(&v4).unwrap().unwrap();
    assert_eq!(v4.host(3), Some((ip("10.96.0.1"), Some(ip("10.96.0.1")))));
    assert_eq!(v4.host(4), None);
    let found: Vec<_> = captured("route6")
        .iter()
        .map(|r| route(r).unwrap().unwrap())
        .collect();
    let hosts: Vec<_> = found.iter().filter_map(|r| r.host(3)).collect();
    // Not the routes of the main table, of link-local addresses or of multicast.
    assert_eq!(hosts, [(ip("fd00::1"), None)]);
}

#[test]
fn a_link_is_a_dummy_by_its_kind() {
    let found = link(&super::fake::link_message(true)).unwrap();
    assert!(found.is_dummy && found.up);
    assert!(!link(&super::fake::link_message(false)).unwrap().up);
}

fn messages() -> Vec<Vec<u8>> {
    ["links", "addr", "route", "route6"]
        .into_iter()
        .flat_map(captured)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn damaged_messages_are_read_without_a_panic(bytes in damaged(messages())) {
        let _ = (link(&bytes), interface_address(&bytes));
        if let Ok(Some(route)) = route(&bytes) {
            let _ = route.host(3);
        }
    }
}
