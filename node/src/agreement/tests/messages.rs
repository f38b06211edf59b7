//! The encoding and its limits.

use std::sync::Arc;

use ferrolb_controller::assignment::Assignment;
use ferrolb_controller::testing::{ip, key};
use proptest::prelude::*;

use crate::agreement::message::{MAX_MESSAGE, Malformed, Message, PART, Status, parts};
use crate::agreement::table::{Ballot, MAX_ROUND, Table, Version};

fn version(round: u64, name: &str) -> Version {
    Version {
        ballot: Ballot {
            round,
            proposer: Arc::from(name),
            boot: 9,
        },
        number: 4,
    }
}

fn samples(name: &str) -> Vec<Message> {
    let v = version(7, name);
    vec![
        Message::Status(Status {
            promised: v.ballot.clone(),
            held: v.clone(),
            agreed: Version::default(),
            yields: true,
        }),
        Message::Fetch {
            version: v.clone(),
            first: 3,
            count: 32,
        },
        Message::Part {
            version: v,
            total: u32::try_from(PART).unwrap() + 5,
            index: 0,
            bytes: vec![1; PART],
        },
    ]
}

#[test]
fn the_longest_names_fit_into_a_message() {
    for message in samples(&"n".repeat(253)) {
        let bytes = message.encode();
        assert!(bytes.len() <= MAX_MESSAGE, "{}", bytes.len());
        assert_eq!(Message::decode(&bytes), Ok(message));
    }
}

#[test]
fn a_cut_or_prolonged_message_is_refused() {
    for message in samples("node-1") {
        let mut bytes = message.encode();
        for end in 0..bytes.len() {
            assert!(Message::decode(&bytes[..end]).is_err());
        }
        bytes.push(0);
        assert!(Message::decode(&bytes).is_err());
    }
}

#[test]
fn another_format_is_named() {
    assert_eq!(Message::decode(&[1, 1]), Err(Malformed::Format(1)));
}

#[test]
fn a_round_or_number_without_a_successor_is_refused_wherever_it_stands() {
    for bad in [MAX_ROUND, (1 << 63) - 1, u64::MAX] {
        let round = Version {
            ballot: Ballot {
                round: bad,
                ..Ballot::default()
            },
            number: 1,
        };
        let number = Version {
            number: bad,
            ..Version::default()
        };
        for version in [round, number] {
            let status = |held: &Version, agreed: &Version| {
                Message::Status(Status {
                    promised: held.ballot.clone(),
                    held: held.clone(),
                    agreed: agreed.clone(),
                    yields: false,
                })
            };
            let none = Version::default();
            let fetch = Message::Fetch {
                version: version.clone(),
                first: 0,
                count: 1,
            };
            let part = Message::Part {
                version: version.clone(),
                total: 0,
                index: 0,
                bytes: vec![],
            };
            for message in [
                status(&version, &none),
                status(&none, &version),
                fetch,
                part,
            ] {
                assert_eq!(
                    Message::decode(&message.encode()),
                    Err(Malformed::TooHigh(bad)),
                    "{message:?}"
                );
            }
        }
    }
}

#[test]
fn a_part_beside_its_table_or_a_table_beyond_the_bound_is_refused() {
    let part = |total: u32, index: u32, length: usize| {
        let bytes = vec![0; length];
        Message::decode(
            &Message::Part {
                version: version(1, "a"),
                total,
                index,
                bytes,
            }
            .encode(),
        )
    };
    assert!(part(10, 0, 10).is_ok() && part(0, 0, 0).is_ok());
    assert!(part(10, 1, 0).is_err() && part(10, 0, 9).is_err() && part(10, 9, 10).is_err());
    assert!(part(u32::MAX, 0, PART).is_err());
    assert_eq!((parts(0), parts(PART), parts(PART + 1)), (1, 1, 2));
}

#[test]
fn a_table_reads_back_as_written_and_an_impossible_one_is_refused() {
    let mut table = Table {
        version: version(2, "a"),
        ..Table::default()
    };
    let mut given = Assignment {
        addresses: vec![ip("10.0.0.1"), ip("1::1")],
        ..Assignment::default()
    };
    table.assignments.insert(key("a/b"), given.clone());
    assert_eq!(
        Table::decode(table.version.clone(), &table.encode()).unwrap(),
        table
    );
    given.addresses.push(ip("10.0.0.2"));
    table.assignments.insert(key("a/b"), given);
    assert!(
        Table::decode(table.version.clone(), &table.encode())
            .unwrap_err()
            .contains("a/b")
    );
    assert!(Table::decode(table.version, b"[[").is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..1200), kind in 1u8..4, raw: bool) {
        if !raw && bytes.len() >= 2 { bytes[0] = 2; bytes[1] = kind; }
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(&message.encode(), &bytes);
        }
        let _ = Table::decode(Version::default(), &bytes);
    }

    #[test]
    fn a_changed_byte_never_makes_the_reader_panic(which in 0usize..3, at in 0usize..1100, to: u8) {
        let mut bytes = samples("node")[which].encode();
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = Message::decode(&bytes);
    }
}
