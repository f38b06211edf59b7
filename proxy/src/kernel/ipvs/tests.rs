#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ferrolb_api::Family;
use ferrolb_api::view::Protocol;
use netlink_packet_core::Emitable;
use proptest::prelude::*;

use super::super::Forwarding;
use super::super::netlink::tests::{captured, damaged};
use super::attr::{dest, dest_from, service, service_from, traffic_from};
use super::*;

fn bytes(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

fn ids() -> Vec<VirtualServerId> {
    let address = |addr: &str, protocol| VirtualServerId::Address {
        addr: addr.parse().unwrap(),
        port: 8080,
        protocol,
    };
    vec![
        address("10.96.0.1", Protocol::Tcp),
        address("10.96.0.1", Protocol::Udp),
        address("fd00::1", Protocol::Sctp),
        VirtualServerId::Fwmark {
            mark: 0x4000_0001,
            family: Family::V4,
        },
        VirtualServerId::Fwmark {
            mark: 0x4000_0001,
            family: Family::V6,
        },
    ]
}

#[test]
fn a_service_is_read_as_it_was_written() {
    for id in ids() {
        for persistence in [None, Some(10800)] {
            let server = VirtualServer {
                id,
                scheduler: "mh".to_owned(),
                sched_flags: 0x8,
                persistence,
            };
            let read = service_from(&bytes(&service(&server))).unwrap();
            assert_eq!(read, Some(server));
        }
    }
}

#[test]
fn a_destination_is_read_as_it_was_written() {
    for (id, addr) in ids().into_iter().zip([
        "10.244.0.7:80",
        "10.244.0.7:53",
        "[fd00:1::7]:80",
        "10.244.0.7:80",
        "[fd00:1::7]:80",
    ]) {
        for forwarding in [Forwarding::Masq, Forwarding::Tunnel, Forwarding::Route] {
            let server = RealServer {
                addr: addr.parse().unwrap(),
                weight: 3,
                forwarding,
            };
            let read = dest_from(id, &bytes(&dest(&server))).unwrap();
            assert_eq!(read, Some(server));
        }
    }
}

#[test]
fn what_a_service_has_carried_is_read_and_a_kernel_that_does_not_say_it_is_no_error() {
    let number = |kind: u16, value: u64| DefaultNla::new(kind, value.to_ne_bytes().to_vec());
    // IPVS_SVC_ATTR_STATS64: connections, packets in and out, bytes in and out, and the rate of connections.
    let stats = [1, 2, 3, 4, 5, 6].map(|kind| number(kind, u64::from(kind) << 40));
    let read = traffic_from(&bytes(&[nested(12, &stats)])).unwrap();
    let expected = Traffic {
        connections: 1 << 40,
        packets_in: 2 << 40,
        packets_out: 3 << 40,
        bytes_in: 4 << 40,
        bytes_out: 5 << 40,
    };
    assert_eq!(read, expected);
    assert!(traffic_from(&[]).unwrap().is_empty());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = service_from(&bytes);
        let _ = dest_from(ids()[0], &bytes);
        let _ = traffic_from(&bytes);
    }
}

/// The values of the attributes of one kind in a message.
fn inside(message: &[u8], kind: u16) -> Vec<Vec<u8>> {
    of_kind(message, kind)
        .map(|value| value.unwrap().to_vec())
        .collect()
}

#[test]
fn services_and_destinations_are_read_from_messages_of_a_real_kernel() {
    let server = |id, scheduler: &str, sched_flags, persistence| VirtualServer {
        id,
        scheduler: scheduler.to_owned(),
        sched_flags,
        persistence,
    };
    let address = |addr: &str, port, protocol| VirtualServerId::Address {
        addr: addr.parse().unwrap(),
        port,
        protocol,
    };
    let mark = VirtualServerId::Fwmark {
        mark: 7,
        family: Family::V4,
    };
    let (v4, v6) = (
        address("10.96.0.1", 80, Protocol::Tcp),
        address("fd00::1", 53, Protocol::Udp),
    );
    let services = captured("ipvs-svc")
        .into_iter()
        .flat_map(|m| inside(&m, CMD_SERVICE));
    let services: Vec<_> = services
        .map(|s| service_from(&s).unwrap().unwrap())
        .collect();
    let expected = [
        server(v6, "sh", 8, Some(300)),
        server(v4, "rr", 0, None),
        server(mark, "wrr", 0, None),
    ];
    assert_eq!(services, expected);
    let dests = captured("ipvs-dest")
        .into_iter()
        .flat_map(|m| inside(&m, CMD_DEST));
    let dests: Vec<_> = dests
        .zip([v6, v4])
        .map(|(d, id)| dest_from(id, &d).unwrap().unwrap())
        .collect();
    let real = |addr: &str, weight| RealServer {
        addr: addr.parse().unwrap(),
        weight,
        forwarding: Forwarding::Masq,
    };
    assert_eq!(
        dests,
        [real("[fd00:1::1]:53", 1), real("10.244.0.1:8080", 3)]
    );
}

/// Services and destinations as in a dump, without the header.
fn objects() -> Vec<Vec<u8>> {
    let service = |id| VirtualServer {
        id,
        scheduler: "mh".to_owned(),
        sched_flags: 8,
        persistence: Some(300),
    };
    let real = RealServer {
        addr: "10.244.0.7:80".parse().unwrap(),
        weight: 3,
        forwarding: Forwarding::Masq,
    };
    let mut out: Vec<_> = ids()
        .into_iter()
        .map(|id| bytes(&super::attr::service(&service(id))))
        .collect();
    out.push(bytes(&dest(&real)));
    for (name, kind) in [("ipvs-svc", CMD_SERVICE), ("ipvs-dest", CMD_DEST)] {
        let real = captured(name).into_iter();
        out.extend(real.flat_map(|m| inside(&m, kind)));
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn damaged_services_and_destinations_are_read_without_a_panic(bytes in damaged(objects())) {
        let _ = service_from(&bytes);
        for id in ids() {
            let _ = dest_from(id, &bytes);
        }
        let message = [vec![0; HEADER], bytes].concat();
        prop_assert!(of_kind(&message, CMD_SERVICE).count() <= message.len());
        prop_assert!(of_kind(message.get(..3).unwrap_or_default(), CMD_SERVICE).count() <= 1);
    }
}
