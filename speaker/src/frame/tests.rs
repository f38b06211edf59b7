#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::arp::{Arp, FRAME, Mac, Operation};

const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
const ASKER: Mac = Mac([2, 0, 0, 0, 0, 9]);
const VIP: Ipv4Addr = Ipv4Addr::new(172, 17, 255, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 100);

fn request() -> Arp {
    Arp {
        source: ASKER,
        destination: Mac::BROADCAST,
        operation: Operation::Request,
        sender_mac: ASKER,
        sender: CLIENT,
        target_mac: Mac::default(),
        target: VIP,
    }
}

#[test]
fn a_request_has_the_octets_of_rfc_826() {
    let expected: [u8; FRAME] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x08, 0x06, // Ethernet
        0, 1, 0x08, 0, 6, 4, 0, 1, // Ethernet, IPv4, lengths, request
        2, 0, 0, 0, 0, 9, 172, 17, 0, 100, // sender
        0, 0, 0, 0, 0, 0, 172, 17, 255, 1, // target
    ];
    assert_eq!(request().build(), expected);
    assert_eq!(Arp::parse(&expected), Some(request()));
}

#[test]
fn an_answer_goes_to_the_asker_alone() {
    let answer = request().answer(OURS).unwrap();
    assert_eq!((answer.source, answer.destination), (OURS, ASKER));
    assert_eq!((answer.sender_mac, answer.sender), (OURS, VIP));
    assert_eq!((answer.target_mac, answer.target), (ASKER, CLIENT));
    assert_eq!(answer.operation, Operation::Reply);
}

#[test]
fn a_probe_is_answered_and_an_announcement_is_not() {
    let probe = Arp {
        sender: Ipv4Addr::UNSPECIFIED,
        ..request()
    };
    assert!(probe.answer(OURS).is_some());
    for operation in [Operation::Request, Operation::Reply] {
        assert_eq!(Arp::gratuitous(operation, VIP, ASKER).answer(OURS), None);
    }
    let group = Arp {
        sender_mac: Mac([1, 0, 0, 0, 0, 9]),
        ..request()
    };
    assert_eq!(group.answer(OURS), None);
}

#[test]
fn frames_of_other_kinds_are_no_arp() {
    let good = request().build();
    for (what, at, value) in [
        ("ethertype IPv4", 13, 0x00),
        ("VLAN tag", 12, 0x81),
        ("hardware type", 15, 6),
        ("protocol type", 16, 0x86),
        ("hardware length", 18, 8),
        ("protocol length", 19, 16),
        ("operation", 21, 3),
    ] {
        let mut frame = good;
        frame[at] = value;
        assert_eq!(Arp::parse(&frame), None, "{what}");
    }
    for length in 0..FRAME {
        assert_eq!(Arp::parse(&good[..length]), None, "{length} octets");
    }
}

#[test]
fn padding_is_tolerated() {
    let mut frame = request().build().to_vec();
    frame.resize(60, 0xaa);
    assert_eq!(Arp::parse(&frame), Some(request()));
}

proptest! {
    #[test]
    fn any_bytes_parse_without_panic_and_what_parses_builds_the_same(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Some(arp) = Arp::parse(&bytes) {
            prop_assert_eq!(&arp.build()[..], &bytes[..FRAME]);
        }
    }

    #[test]
    fn any_arp_body_survives_the_round_trip(mut frame in prop::collection::vec(any::<u8>(), FRAME), reply in any::<bool>()) {
        frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, if reply { 2 } else { 1 }]);
        let arp = Arp::parse(&frame).unwrap();
        prop_assert_eq!(&arp.build()[..], &frame[..]);
        let _ = arp.answer(OURS);
    }
}
