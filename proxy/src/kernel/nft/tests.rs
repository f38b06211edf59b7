#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use netlink_packet_core::NetlinkSerializable;
use proptest::prelude::*;

use super::super::netlink::faulty::nla;
use super::super::netlink::tests::{captured, damaged};
use super::super::rule::{Key, Value, Verdict};
use super::super::table::table;
use super::decode::{chain, element_list, generation, rule, set as set_in};
use super::element::{element, elements};
use super::rules::{fingerprint, fingerprint_in, new_rule};
use super::*;
use ferrolb_api::view::Protocol;
use netlink_packet_netfilter::NetfilterMessageInner;
use netlink_packet_netfilter::nftables::{
    InetHookNumber, NfTablesMessage, RuleAttribute, SetFlags,
};
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
        raws.extend(element_list(&bytes, "ferrolb", &chains).expect("valid bytes"));
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
        let _ = element_list(&bytes, "ferrolb", &["svc_reject"]);
        let _ = (set_in(&bytes, "ferrolb"), chain(&bytes, "ferrolb"), rule(&bytes, "ferrolb"), generation(&bytes));
        let _ = fingerprint_in(&bytes);
    }
}

/// The payloads of messages about every kind of object in the table, as in a dump.
fn objects() -> Vec<Vec<u8>> {
    let table = table();
    let mut messages: Vec<Message> = table
        .sets
        .iter()
        .map(|s| encode::new_set(table.name, s, 1))
        .collect();
    for chain in &table.chains {
        messages.push(encode::new_chain(table.name, chain));
        for rule in chain.rules.iter().take(2) {
            new_rule(table.name, chain.name, rule, 7, &mut messages);
        }
    }
    let addr = Key::Addr("10.96.0.1".parse().unwrap());
    let key = vec![addr, Key::Proto(Protocol::Tcp), Key::Port(80)];
    let value = Some(Value::Verdict(Verdict::Goto("svc_reject")));
    for (name, key, value) in [
        ("vip4", vec![addr], None),
        ("svc4", key.clone(), value),
        ("mark4", key, Some(Value::Mark(9))),
        (
            "svccidr4",
            vec![Key::net(&"10.96.0.0/16".parse().unwrap())],
            None,
        ),
    ] {
        messages.extend(element(
            table.name,
            &set(name),
            &Element { key, value },
            true,
        ));
    }
    messages
        .into_iter()
        .map(|m| {
            let mut bytes = vec![0; NetlinkSerializable::buffer_len(&m.message)];
            m.message.serialize(&mut bytes);
            bytes
        })
        .collect()
}

fn real_objects() -> impl Iterator<Item = Vec<u8>> {
    let names = [
        "sets",
        "chains",
        "rules",
        "elem-svc4",
        "elem-svccidr4",
        "elem-lballow4",
        "gen",
    ];
    names.into_iter().flat_map(captured)
}

fn read_all(bytes: &[u8], chains: &[&'static str]) -> [bool; 5] {
    [
        set_in(bytes, "ferrolb").is_ok(),
        chain(bytes, "ferrolb").is_ok(),
        rule(bytes, "ferrolb").is_ok(),
        generation(bytes).is_ok(),
        element_list(bytes, "ferrolb", chains).is_ok(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn damaged_objects_are_read_without_a_panic(bytes in damaged(real_objects().chain(objects()).collect())) {
        read_all(&bytes, &["svc_reject"]);
    }
}

#[test]
fn a_set_with_an_expression_that_is_longer_than_its_buffer_is_read_as_far_as_it_is_looked_at() {
    // NFTA_SET_EXPR { an attribute of 16 KiB in 8 bytes }: the parser of netlink-packet-netfilter 0.4 panics on it.
    let broken = nla(17, &[0, 0x40, 1, 0, 0, 0, 0, 0]);
    let message = |family: u8, table: &str| {
        let parts = [
            nla(1, &[table.as_bytes(), &[0]].concat()),
            nla(2, b"vip4\0"),
            nla(3, &0u32.to_be_bytes()),
            nla(4, &7u32.to_be_bytes()),
            broken.clone(),
        ];
        [vec![family, 0, 0, 0], parts.concat()].concat()
    };
    let found = set_in(&message(1, "ferrolb"), "ferrolb").unwrap();
    assert_eq!(
        found,
        Some(("vip4".to_owned(), (SetFlags::empty(), 7, None)))
    );
    assert_eq!(set_in(&message(1, "other"), "ferrolb"), Ok(None));
    // A table `ip ferrolb` belongs to somebody else.
    assert_eq!(set_in(&message(2, "ferrolb"), "ferrolb"), Ok(None));
}

#[test]
fn what_is_inside_of_a_foreign_object_is_not_looked_at() {
    let broken = [0xff; 7];
    let foreign = [vec![1, 0, 0, 0], nla(1, b"other\0"), broken.to_vec()].concat();
    assert_eq!(read_all(&foreign, &[]), [true, true, true, false, true]);
    let ours = [vec![1, 0, 0, 0], nla(1, b"ferrolb\0"), broken.to_vec()].concat();
    assert_eq!(read_all(&ours, &[]), [false; 5]);
}

#[test]
fn the_generation_of_the_ruleset_is_read() {
    let [message] = captured("gen").try_into().unwrap();
    assert_eq!(generation(&message), Ok(Some(2)));
}

#[test]
fn objects_are_read_from_messages_of_a_real_kernel() {
    let found: Vec<_> = captured("sets")
        .iter()
        .filter_map(|s| set_in(s, "ferrolb").unwrap())
        .collect();
    let names = ["vip4", "svc4", "svccidr4", "mark4", "lballow4"];
    let expected = names.map(|name| {
        let def = set(name);
        let data = def.data.map(|d| encode::data_type(d).0);
        (
            name.to_owned(),
            (encode::set_flags(&def), encode::key_type(def.key).0, data),
        )
    });
    assert_eq!(found, expected);

    let found: Vec<_> = captured("chains")
        .iter()
        .filter_map(|c| chain(c, "ferrolb").unwrap())
        .collect();
    let [reject, base] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(
        (reject.name.as_str(), &reject.hook, reject.uses),
        ("svc_reject", &None, Some(2))
    );
    let hook = (InetHookNumber::PreRouting, -160, "filter".to_owned());
    assert_eq!(
        (base.name.as_str(), &base.hook, base.uses),
        ("prerouting", &Some(hook), Some(1))
    );
    let [single] = captured("chain1").try_into().unwrap();
    assert_eq!(chain(&single, "ferrolb").unwrap().as_ref(), Some(base));

    let rules: Vec<_> = captured("rules")
        .iter()
        .map(|r| rule(r, "ferrolb").unwrap())
        .collect();
    // Rules that `nft` wrote have no fingerprint.
    let expected = [
        Some(("svc_reject".to_owned(), None)),
        Some(("prerouting".to_owned(), None)),
        None,
    ];
    assert_eq!(rules, expected);
}

#[test]
fn elements_are_read_from_messages_of_a_real_kernel() {
    let addr = |text: &str| Key::Addr(text.parse().unwrap());
    let net = |text: &str| Key::net(&text.parse().unwrap());
    let key = |host: &str, protocol, port| vec![addr(host), Key::Proto(protocol), Key::Port(port)];
    let web = key("10.96.0.1", Protocol::Tcp, 80);
    let reject = Some(Value::Verdict(Verdict::Goto("svc_reject")));
    let accept = Some(Value::Verdict(Verdict::Accept));
    let mut allowed = web.clone();
    allowed.push(net("192.0.2.0/24"));
    for (name, expected) in [
        (
            "vip4",
            vec![
                (vec![addr("10.96.0.1")], None),
                (vec![addr("10.96.0.2")], None),
            ],
        ),
        (
            "svc4",
            vec![
                (web.clone(), reject),
                (key("10.96.0.2", Protocol::Udp, 53), accept),
            ],
        ),
        ("svccidr4", vec![(vec![net("10.96.0.0/16")], None)]),
        ("mark4", vec![(web, Some(Value::Mark(9)))]),
        ("lballow4", vec![(allowed, None)]),
    ] {
        let messages = captured(&format!("elem-{name}")).into_iter();
        let raws = messages.flat_map(|m| element_list(&m, "ferrolb", &["svc_reject"]).unwrap());
        let expected: BTreeSet<_> = expected
            .into_iter()
            .map(|(key, value)| Element { key, value })
            .collect();
        assert_eq!(elements(&set(name), raws.collect()), expected, "{name}");
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
