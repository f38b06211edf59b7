#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use proptest::prelude::*;

use super::super::rule::{Key, Value, Verdict};
use super::super::table::table;
use super::element::{RawList, element, elements};
use super::rules::{fingerprint, fingerprint_in, new_rule};
use super::*;
use ferrolb_api::view::Protocol;
use netlink_packet_netfilter::NetfilterMessageInner;
use netlink_packet_netfilter::nftables::{NfTablesMessage, RuleAttribute};
use std::net::IpAddr;

fn set(name: &str) -> SetDef {
    let found = table().sets.into_iter().find(|s| s.name == name);
    found.expect("a set of the table")
}

/// Writes elements as messages and reads them as if the kernel had sent them.
fn round_trip(set: &SetDef, all: &BTreeSet<Element>) -> BTreeSet<Element> {
    let chains: Vec<_> = table().chains.iter().map(|c| c.name).collect();
    let mut raws = Vec::new();
    for e in all {
        let message = element("ferrolb", set, e, true)
            .expect("an element that fits")
            .message;
        let mut bytes = vec![0; NetlinkSerializable::buffer_len(&message)];
        message.serialize(&mut bytes);
        let list = RawList::deserialize(&NetlinkHeader::default(), &bytes).expect("valid bytes");
        raws.extend(list.0.into_iter().map(|r| r.known(&chains)));
    }
    elements(set, raws)
}

proptest! {
    #[test]
    fn disjoint_ranges_are_read_as_they_were_written(bounds in prop::collection::btree_set(any::<u32>(), 2..40)) {
        let set = set("svccidr4");
        let bounds: Vec<u32> = bounds.into_iter().collect();
        let all: BTreeSet<_> = bounds
            .chunks_exact(2)
            .map(|b| Element { key: vec![Key::range(IpAddr::V4(b[0].into()), IpAddr::V4(b[1].into()))], value: None })
            .collect();
        prop_assert_eq!(round_trip(&set, &all), all);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = RawList::deserialize(&NetlinkHeader::default(), &bytes);
        let _ = fingerprint_in(&bytes);
    }
}

#[test]
fn the_range_of_all_addresses_and_neighbouring_ranges_keep_their_bounds() {
    let set = set("clusrc4");
    let range = |a: &str, b: &str| Element {
        key: vec![Key::range(a.parse().unwrap(), b.parse().unwrap())],
        value: None,
    };
    for all in [
        BTreeSet::from([range("0.0.0.0", "255.255.255.255")]),
        BTreeSet::from([
            range("10.0.0.0", "10.0.0.255"),
            range("10.0.1.0", "10.0.1.255"),
            range("10.0.2.0", "10.0.2.0"),
            range("255.255.255.255", "255.255.255.255"),
        ]),
    ] {
        assert_eq!(round_trip(&set, &all), all);
    }
}

#[test]
fn verdicts_marks_and_concatenated_ranges_are_read_as_they_were_written() {
    let addr = Key::Addr("10.96.0.1".parse().unwrap());
    let key = vec![addr, Key::Proto(Protocol::Udp), Key::Port(53)];
    let mut allowed = key.clone();
    allowed.push(Key::Range(
        "192.0.2.0".parse().unwrap(),
        "192.0.2.255".parse().unwrap(),
    ));
    for (name, key, value) in [
        ("svc4", key.clone(), Some(Value::Verdict(Verdict::Accept))),
        (
            "svc4",
            key.clone(),
            Some(Value::Verdict(Verdict::Goto("svc_reject"))),
        ),
        ("mark4", key.clone(), Some(Value::Mark(0x4000_0001))),
        ("lballow4", allowed, None),
        ("vip6", vec![Key::Addr("fd00::1".parse().unwrap())], None),
    ] {
        let all = BTreeSet::from([Element { key, value }]);
        assert_eq!(round_trip(&set(name), &all), all, "{name}");
    }
}

#[test]
fn an_element_that_does_not_fit_its_set_is_refused() {
    let v6 = Key::Addr("fd00::1".parse().unwrap());
    let range = Key::Range("10.0.0.0".parse().unwrap(), "10.0.0.9".parse().unwrap());
    let misfits = [
        ("vip4", vec![v6], None),
        ("vip4", vec![range], None),
        ("vip4", vec![], None),
        ("vip6", vec![v6], Some(Value::Mark(1))),
        (
            "svc6",
            vec![v6, Key::Proto(Protocol::Tcp), Key::Port(1)],
            None,
        ),
    ];
    for (name, key, value) in misfits {
        let misfit = Element { key, value };
        assert!(
            element("ferrolb", &set(name), &misfit, true).is_none(),
            "{name} {misfit:?}"
        );
    }
}

#[test]
fn a_rule_carries_the_fingerprint_that_a_restart_looks_for() {
    let table = table();
    let mut seen = BTreeSet::new();
    for chain in &table.chains {
        for (at, rule) in chain.rules.iter().enumerate() {
            let mut messages = Vec::new();
            new_rule(table.name, chain.name, rule, 7, &mut messages);
            let message = messages.pop().unwrap().message;
            let NetfilterMessageInner::NfTables(NfTablesMessage::NewRule(message)) = message.inner
            else {
                panic!("no rule");
            };
            let data = message.attributes.iter().find_map(|a| match a {
                RuleAttribute::UserData(data) => Some(data.clone()),
                _ => None,
            });
            let expected = fingerprint(chain.name, rule);
            assert_eq!(fingerprint_in(&data.unwrap()), Some(expected));
            assert!(seen.insert(expected), "{} rule {at}", chain.name);
        }
    }
}
