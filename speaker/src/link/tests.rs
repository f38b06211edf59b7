#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::choose::choose;
use super::{Link, LinkAddress, LinkChange, Links, Patterns};
use crate::frame::arp::Mac;

pub(crate) fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mac: Some(Mac([2, 0, 0, 0, 0, index as u8])),
        up: true,
        loopback: false,
        arp: true,
        master: None,
    }
}

pub(crate) fn links(of: &[(Link, &[&str])]) -> Links {
    let mut links = Links::default();
    for (link, addresses) in of {
        for a in *addresses {
            let net = a.parse().unwrap();
            links.apply(LinkChange::Address(
                link.index,
                LinkAddress {
                    net,
                    expires: false,
                },
            ));
        }
        links.apply(LinkChange::Link(link.clone()));
    }
    links
}

fn chosen(links: &Links, addr: &str, allowed: Option<&[&str]>) -> Vec<u32> {
    let allowed = allowed.map(|a| a.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>());
    choose(
        links,
        &Patterns::default(),
        addr.parse().unwrap(),
        allowed.as_ref(),
    )
    .into_iter()
    .collect()
}

#[test]
fn the_interface_on_the_subnet_announces() {
    let links = links(&[
        (link(2, "eth0"), &["172.17.0.1/16"]),
        (link(3, "eth1"), &["10.0.0.1/24"]),
    ]);
    assert_eq!(chosen(&links, "172.17.255.1", None), [2]);
    assert_eq!(chosen(&links, "10.0.0.77", None), [3]);
}

#[test]
fn without_a_subnet_all_candidates_announce() {
    let links = links(&[
        (link(2, "eth0"), &["172.17.0.1/16"]),
        (link(3, "eth1"), &["10.0.0.1/24"]),
    ]);
    assert_eq!(chosen(&links, "192.0.2.1", None), [2, 3]);
}

#[test]
fn the_address_itself_as_a_leftover_is_no_subnet() {
    let links = links(&[
        (link(2, "eth0"), &["10.0.0.1/24"]),
        (link(3, "eth1"), &["192.0.2.1/32"]),
    ]);
    assert_eq!(chosen(&links, "192.0.2.1", None), [2, 3]);
}

#[test]
fn advertised_interfaces_restrict() {
    let links = links(&[
        (link(2, "eth0"), &["172.17.0.1/16"]),
        (link(3, "eth1"), &["10.0.0.1/24"]),
    ]);
    assert_eq!(chosen(&links, "172.17.255.1", Some(&["eth1"])), [3]);
    assert!(chosen(&links, "172.17.255.1", Some(&["eth7"])).is_empty());
}

#[test]
fn interfaces_that_cannot_speak_arp_are_left_out() {
    let cases = [
        Link {
            up: false,
            ..link(2, "eth0")
        },
        Link {
            arp: false,
            ..link(2, "eth0")
        },
        Link {
            mac: None,
            ..link(2, "eth0")
        },
        Link {
            loopback: true,
            ..link(2, "lo")
        },
        Link {
            master: Some(9),
            ..link(2, "eth0")
        },
        link(2, "veth1234"),
        link(2, "cali0"),
        link(2, "kube-ipvs0"),
        link(2, "docker0"),
    ];
    for case in cases {
        let what = format!("{case:?}");
        assert!(
            chosen(&links(&[(case, &["172.17.0.1/16"])]), "172.17.255.1", None).is_empty(),
            "{what}"
        );
    }
}

#[test]
fn names_that_only_contain_a_pattern_stay() {
    let links = links(&[
        (link(2, "enp-veth0"), &["172.17.0.1/16"]),
        (link(3, "lom1"), &["172.17.0.2/16"]),
    ]);
    assert_eq!(chosen(&links, "172.17.255.1", None), [2, 3]);
}

#[test]
fn an_address_of_version_6_is_not_announced() {
    let links = links(&[(link(2, "eth0"), &["2001:db8::1/64"])]);
    assert!(chosen(&links, "2001:db8::5", None).is_empty());
}

#[test]
fn only_what_differs_counts_as_a_change() {
    let mut all = links(&[(link(2, "eth0"), &["172.17.0.1/16"])]);
    let net = "172.17.0.1/16".parse().unwrap();
    assert!(!all.apply(LinkChange::Link(link(2, "eth0"))));
    assert!(!all.apply(LinkChange::Address(
        2,
        LinkAddress {
            net,
            expires: false
        }
    )));
    assert!(all.apply(LinkChange::Link(Link {
        up: false,
        ..link(2, "eth0")
    })));
    assert!(all.apply(LinkChange::AddressGone(2, net)));
    assert!(!all.apply(LinkChange::AddressGone(2, net)));
    assert!(all.apply(LinkChange::LinkGone(2)));
    assert_eq!(all.iter().count(), 0);
}

#[test]
fn only_lone_expiring_addresses_are_leftovers() {
    let mut all = links(&[(link(2, "eth0"), &["172.17.255.1/32", "172.17.0.1/16"])]);
    let addr: IpAddr = "172.17.255.1".parse().unwrap();
    assert_eq!(all.leftovers().count(), 0);
    all.apply(LinkChange::Address(
        2,
        LinkAddress {
            net: addr.into(),
            expires: true,
        },
    ));
    assert_eq!(all.leftovers().collect::<Vec<_>>(), [(addr, 2)]);
}

#[test]
fn an_audit_replaces_what_is_known_and_says_whether_anything_was_missed() {
    let mut known = Links::default();
    known.apply(LinkChange::Link(link(2, "eth0")));
    let same = known.clone();
    assert!(!known.apply(LinkChange::All(same)));
    let mut now = Links::default();
    now.apply(LinkChange::Link(link(3, "eth1")));
    assert!(known.apply(LinkChange::All(now)));
    assert!(known.get(2).is_none() && known.get(3).is_some());
}

#[test]
fn an_address_that_came_and_went_leaves_no_difference_behind() {
    let mut known = Links::default();
    known.apply(LinkChange::Link(link(2, "eth0")));
    let before = known.clone();
    let net = "192.0.2.1/24".parse().unwrap();
    known.apply(LinkChange::Address(
        2,
        LinkAddress {
            net,
            expires: false,
        },
    ));
    known.apply(LinkChange::AddressGone(2, net));
    assert_eq!(known, before);
}
