#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;

use super::key::{Key, KeyError};
use super::message::{decode, encode};
use super::seal::{HEADER, LARGEST};
use super::session::{Opened, PENDING, Rejected, Sessions};
use super::transport::{Heard, Transport};
use crate::message::{
    ClaimEntry, ELIGIBLE_PART, Eligible, EligibleChange, Heartbeat, MAX_NAME, MAX_OPAQUE,
    MemberEntry, Message, NodeName, STATE_BUDGET, State, Status,
};

fn name() -> impl Strategy<Value = NodeName> {
    prop_oneof!["[a-z]{1,12}", "[a-z0-9.-]{1,253}"].prop_map(NodeName::from)
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|a| IpAddr::V4(a.into())),
        any::<u128>().prop_map(|a| IpAddr::V6(a.into()))
    ]
}

fn status() -> impl Strategy<Value = Status> {
    prop_oneof![
        Just(Status::Unknown),
        Just(Status::Alive),
        Just(Status::Held),
        Just(Status::Dead)
    ]
}

fn state() -> impl Strategy<Value = State> {
    let member = (
        name(),
        any::<u64>(),
        status(),
        any::<bool>(),
        any::<u8>(),
        any::<u32>(),
    )
        .prop_map(
            |(node, incarnation, status, settled, multiplier, hold_ms)| MemberEntry {
                node,
                incarnation,
                status,
                settled,
                multiplier,
                hold_ms,
            },
        );
    let claim =
        (ip(), name(), any::<u64>(), any::<bool>()).prop_map(|(addr, node, epoch, provisional)| {
            ClaimEntry {
                addr,
                node,
                epoch,
                provisional,
            }
        });
    let eligible = (
        prop::collection::vec((name(), any::<u64>()), 0..4),
        any::<u16>(),
        any::<u16>(),
        ips(ELIGIBLE_PART),
    )
        .prop_map(|(nodes, part, parts, addresses)| Eligible {
            nodes,
            part,
            parts,
            addresses,
        });
    let change = (
        name(),
        any::<u64>(),
        any::<u64>(),
        ips(ELIGIBLE_PART / 2),
        ips(ELIGIBLE_PART / 2),
    )
        .prop_map(|(node, from, to, added, removed)| EligibleChange {
            node,
            from,
            to,
            added,
            removed,
        });
    let lists = (
        prop::collection::vec(member, 0..4),
        prop::collection::vec(claim, 0..4),
        prop::collection::vec(eligible, 0..2),
        prop::collection::vec(change, 0..2),
    );
    let head = (
        any::<u64>(),
        any::<[bool; 5]>(),
        any::<(u8, u16)>(),
        prop::option::of((status(), any::<u64>())),
        any::<u64>(),
        any::<[u16; 2]>(),
    );
    (head, lists)
        .prop_map(
            |(
                (
                    incarnation,
                    [settled, full, want, ack, vote],
                    (multiplier, company),
                    you,
                    seq,
                    [part, parts],
                ),
                l,
            )| State {
                incarnation,
                settled,
                multiplier,
                company,
                you,
                full,
                want,
                ack,
                vote,
                seq,
                part,
                parts,
                members: l.0,
                claims: l.1,
                eligible: l.2,
                changes: l.3,
            },
        )
        .prop_filter("fits a datagram", |s| s.size() <= STATE_BUDGET)
}

fn ips(most: usize) -> impl Strategy<Value = Vec<IpAddr>> {
    prop::collection::vec(ip(), 0..=most)
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (
            any::<u64>(),
            any::<bool>(),
            any::<u8>(),
            prop::collection::vec(name(), 0..=3),
            any::<u64>(),
            any::<u64>()
        )
            .prop_map(
                |(incarnation, settled, multiplier, watchers, members, claims)| {
                    Message::Heartbeat(Heartbeat {
                        incarnation,
                        settled,
                        multiplier,
                        watchers,
                        members,
                        claims,
                    })
                }
            ),
        Just(Message::Ping),
        Just(Message::Pong),
        Just(Message::Unwatch),
        name().prop_map(|member| Message::Suspect { member }),
        (name(), any::<bool>()).prop_map(|(member, heard)| Message::Answer { member, heard }),
        any::<u64>().prop_map(|seq| Message::Ack { seq }),
        state().prop_map(Message::State),
        (any::<u64>(), any::<u32>()).prop_map(|(incarnation, hold_ms)| Message::Goodbye {
            incarnation,
            hold_ms
        }),
        prop::collection::vec(any::<u8>(), 0..=MAX_OPAQUE).prop_map(Message::Opaque),
    ]
}

proptest! {
    #[test]
    fn every_message_survives_the_round_trip_and_fits_a_datagram(message in message()) {
        let bytes = encode(&message).unwrap();
        if let Message::State(state) = &message {
            prop_assert!(bytes.len() - 1 <= state.size());
        }
        prop_assert_eq!(&decode(&bytes).unwrap(), &message);
        let [mut a, mut b] = pair();
        acquaint(&mut a, &mut b);
        let datagram = a.seal(&"b".into(), &message).unwrap();
        prop_assert!(datagram.len() <= LARGEST);
        prop_assert_eq!(b.open(&datagram).message, Some(Ok(("a".into(), message))));
    }

    #[test]
    fn any_bytes_decode_without_panic_and_what_decodes_encodes(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..12) {
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        if let Ok(message) = decode(&bytes) {
            prop_assert_eq!(decode(&encode(&message).unwrap()).unwrap(), message);
        }
    }

    #[test]
    fn a_damaged_message_never_panics(message in message(), at in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = encode(&message).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = value;
        let _ = decode(&bytes);
        let _ = decode(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn any_datagram_is_dropped_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..1500), ours in any::<bool>()) {
        let [mut a, mut b] = pair();
        let mut datagram = a.seal(&"b".into(), &Message::Ping).unwrap();
        if ours {
            datagram.truncate(HEADER);
            datagram.extend_from_slice(&bytes);
        } else {
            datagram = bytes;
        }
        prop_assert!(matches!(b.open(&datagram).message, Some(Err(_))));
    }
}

#[test]
fn what_exceeds_the_protocol_is_not_encoded() {
    let long = NodeName::from("n".repeat(MAX_NAME + 1));
    assert!(encode(&Message::Suspect { member: long }).is_err());
    assert!(encode(&Message::Opaque(vec![0; MAX_OPAQUE + 1])).is_err());
    let watchers = (0..4).map(|i| NodeName::from(format!("n{i}"))).collect();
    let heartbeat = Heartbeat {
        incarnation: 1,
        settled: true,
        multiplier: 1,
        watchers,
        members: 0,
        claims: 0,
    };
    assert!(encode(&Message::Heartbeat(heartbeat)).is_err());
}

fn sessions(me: &str, secret: &[u8], seed: u8) -> Sessions {
    let mut s = Sessions::new(me.into(), &Key::derive(secret), [seed; 32]);
    s.set_members(&BTreeSet::from(["a".into(), "b".into(), "c".into()]));
    s
}

fn pair() -> [Sessions; 2] {
    [sessions("a", b"secret", 1), sessions("b", b"secret", 2)]
}

/// Lets `a` answer the challenge from `b`.
fn acquaint(a: &mut Sessions, b: &mut Sessions) {
    let first = a.seal(&"b".into(), &Message::Ping).unwrap();
    let (_, challenge) = b.open(&first).replies.unwrap();
    let (_, waiting) = a.open(&challenge[0]).replies.unwrap();
    assert_eq!(
        b.open(&waiting[0]).message,
        Some(Ok(("a".into(), Message::Ping)))
    );
}

fn why(opened: &Opened) -> Option<Rejected> {
    opened
        .message
        .as_ref()
        .and_then(|m| m.as_ref().err())
        .copied()
}

#[test]
fn messages_wait_for_the_challenge_and_the_oldest_give_way() {
    let [mut a, mut b] = pair();
    let mut first = None;
    for seq in 0..PENDING as u64 + 2 {
        first = a.seal(&"b".into(), &Message::Ack { seq });
    }
    let (_, challenge) = b.open(&first.unwrap()).replies.unwrap();
    let (to, waiting) = a.open(&challenge[0]).replies.unwrap();
    assert_eq!((to.as_str(), waiting.len()), ("b", PENDING));
    for (datagram, seq) in waiting.iter().zip(2..) {
        assert_eq!(
            b.open(datagram).message,
            Some(Ok(("a".into(), Message::Ack { seq })))
        );
    }
}

#[test]
fn a_repeated_datagram_is_replayed_and_a_late_one_is_not() {
    let [mut a, mut b] = pair();
    acquaint(&mut a, &mut b);
    let sent: Vec<_> = (0..70)
        .map(|seq| a.seal(&"b".into(), &Message::Ack { seq }).unwrap())
        .collect();
    assert!(b.open(&sent[68]).message.unwrap().is_ok());
    assert!(b.open(&sent[66]).message.unwrap().is_ok());
    assert_eq!(why(&b.open(&sent[68])), Some(Rejected::Replayed));
    assert_eq!(why(&b.open(&sent[66])), Some(Rejected::Replayed));
    assert_eq!(
        why(&b.open(&sent[1])),
        Some(Rejected::Replayed),
        "older than the window"
    );
    assert!(b.open(&sent[69]).message.unwrap().is_ok());
}

#[test]
fn recordings_are_worth_nothing_after_a_restart_of_either_side() {
    let [mut a, mut b] = pair();
    acquaint(&mut a, &mut b);
    let old = a.seal(&"b".into(), &Message::Unwatch).unwrap();
    let mut b = sessions("b", b"secret", 3);
    assert_eq!(why(&b.open(&old)), Some(Rejected::Unproven), "b restarted");

    let mut a = sessions("a", b"secret", 4);
    acquaint(&mut a, &mut { sessions("b", b"secret", 5) });
    let mut b = sessions("b", b"secret", 6);
    let mut young = sessions("a", b"secret", 7);
    acquaint(&mut young, &mut b);
    assert_eq!(why(&b.open(&old)), Some(Rejected::Unproven), "a restarted");
    let next = young.seal(&"b".into(), &Message::Pong).unwrap();
    assert!(
        b.open(&next).message.unwrap().is_ok(),
        "the recording does not disturb the living"
    );
}

#[test]
fn a_restarted_receiver_is_reached_again_after_one_challenge() {
    let [mut a, mut b] = pair();
    acquaint(&mut a, &mut b);
    let mut b = sessions("b", b"secret", 9);
    let lost = a.seal(&"b".into(), &Message::Ping).unwrap();
    let (_, challenge) = b.open(&lost).replies.unwrap();
    assert!(a.open(&challenge[0]).message.is_none());
    let next = a.seal(&"b".into(), &Message::Pong).unwrap();
    assert_eq!(b.open(&next).message, Some(Ok(("a".into(), Message::Pong))));
}

#[test]
fn a_recorded_challenge_is_not_believed() {
    let [mut a, mut b] = pair();
    let first = a.seal(&"b".into(), &Message::Ping).unwrap();
    let (_, challenge) = b.open(&first).replies.unwrap();
    let mut a = sessions("a", b"secret", 8);
    a.seal(&"b".into(), &Message::Ping);
    assert_eq!(why(&a.open(&challenge[0])), Some(Rejected::Replayed));
}

#[test]
fn a_challenge_counts_once_and_mutes_nobody_when_it_is_said_again() {
    let [mut a, mut b] = pair();
    let first = a.seal(&"b".into(), &Message::Ping).unwrap();
    let (_, recorded) = b.open(&first).replies.unwrap();
    a.open(&recorded[0]);
    let mut b = sessions("b", b"secret", 9);
    let lost = a.seal(&"b".into(), &Message::Ping).unwrap();
    let (_, challenge) = b.open(&lost).replies.unwrap();
    a.open(&challenge[0]);
    for old in [&recorded[0], &challenge[0]] {
        assert_eq!(why(&a.open(old)), Some(Rejected::Replayed));
        let next = a.seal(&"b".into(), &Message::Pong).unwrap();
        assert!(b.open(&next).message.unwrap().is_ok());
    }
}

#[test]
fn strangers_other_keys_and_other_receivers_are_told_apart() {
    let [mut a, mut b] = pair();
    acquaint(&mut a, &mut b);
    let datagram = a.seal(&"b".into(), &Message::Ping).unwrap();
    assert_eq!(
        why(&sessions("c", b"secret", 5).open(&datagram)),
        Some(Rejected::Forged),
        "sent on to c"
    );
    assert_eq!(
        why(&sessions("b", b"other key", 5).open(&datagram)),
        Some(Rejected::Forged)
    );
    assert_eq!(why(&a.open(&datagram)), Some(Rejected::Own));
    b.set_members(&BTreeSet::from(["c".into()]));
    assert_eq!(why(&b.open(&datagram)), Some(Rejected::Stranger));
    for at in 0..datagram.len() {
        let [_, mut b] = pair();
        let mut changed = datagram.clone();
        changed[at] ^= 1;
        assert!(
            why(&b.open(&changed)).is_some_and(|w| w != Rejected::Unproven),
            "octet {at}"
        );
    }
}

#[test]
fn recordings_do_not_delay_the_challenge_that_a_member_needs() {
    let members = BTreeSet::from(["a".into(), "b".into()]);
    let mut recorded = Vec::new();
    // Of forty earlier processes of `a`, and of the one that still runs.
    let mut a = sessions("a", b"secret", 0);
    for boot in 0..=40 {
        a = sessions("a", b"secret", 100 + boot);
        a.set_members(&members);
        let ping = || a.seal(&"b".into(), &Message::Ping).unwrap();
        recorded.extend(std::iter::repeat_with(ping).take(20));
    }
    for (later_first, seed) in [(false, 7), (true, 8)] {
        let mut b = sessions("b", b"secret", seed);
        b.set_members(&members);
        let mut flood = recorded.clone();
        if later_first {
            flood.reverse();
        }
        flood.iter().for_each(|old| drop(b.open(old)));
        let now = a.seal(&"b".into(), &Message::Ping).unwrap();
        let (_, challenge) = b.open(&now).replies.unwrap();
        assert!(a.open(&challenge[0]).message.is_none());
        let next = a.seal(&"b".into(), &Message::Ping).unwrap();
        assert!(b.open(&next).message.unwrap().is_ok());
    }
}

#[test]
fn a_datagram_causes_one_challenge_and_an_earlier_one_of_the_same_process_none() {
    let [mut a, mut b] = pair();
    let sent: Vec<_> = (0..3)
        .map(|_| a.seal(&"b".into(), &Message::Ping).unwrap())
        .collect();
    let mut causes = |at: usize| b.open(&sent[at]).replies.is_some();
    assert_eq!(
        [1, 1, 0, 2, 1, 2].map(&mut causes),
        [true, false, false, true, false, false]
    );
}

#[test]
fn a_key_file_is_read_without_its_last_newline_and_short_ones_are_refused() {
    let dir = std::env::temp_dir().join(format!("ferrolb-key-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("key");
    std::fs::write(&file, "0123456789abcdef\n").unwrap();
    assert!(Key::read(&file).unwrap() == Key::derive(b"0123456789abcdef"));
    std::fs::write(&file, "short\n").unwrap();
    assert!(matches!(Key::read(&file), Err(KeyError::Short(_, 5))));
    std::fs::write(&file, vec![b'x'; 5000]).unwrap();
    assert!(matches!(Key::read(&file), Err(KeyError::Long(_))));
    let missing = Key::read(&dir.join("none")).unwrap_err().to_string();
    assert!(missing.contains("head -c 32 /dev/urandom"), "{missing}");
    std::fs::remove_dir_all(&dir).unwrap();
}

async fn hear(t: &mut Transport) -> Heard {
    tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            t.ready().await.unwrap();
            if let Some(heard) = t.receive() {
                return heard;
            }
        }
    })
    .await
    .expect("something is heard")
}

#[tokio::test]
async fn over_loopback_messages_arrive_and_a_closed_port_names_its_member() {
    let ips: [IpAddr; 3] = ["127.77.0.1", "127.77.0.2", "127.77.0.3"].map(|a| a.parse().unwrap());
    let first = std::net::UdpSocket::bind((ips[0], 0)).unwrap();
    let port = first.local_addr().unwrap().port();
    drop(first);
    let members: BTreeMap<NodeName, Option<IpAddr>> = ["a", "b", "c"]
        .into_iter()
        .zip(ips)
        .map(|(n, ip)| (n.into(), Some(ip)))
        .collect();
    let open = |name: &str, ip: IpAddr, seed| {
        let mut t =
            Transport::bind(SocketAddr::new(ip, port), sessions(name, b"secret", seed)).unwrap();
        t.set_members(&members, port);
        t
    };
    let mut a = open("a", ips[0], 1);
    let mut b = open("b", ips[1], 2);
    // Nobody listens at c, so its kernel refuses. That error must not lose the message for b.
    a.send(&"c".into(), &Message::Ping);
    a.send(&"b".into(), &Message::Ping);
    assert_eq!(hear(&mut a).await, Heard::Refused("c".into()));
    assert_eq!(
        hear(&mut b).await,
        Heard::Dropped(ips[0], Rejected::Unproven)
    );
    assert_eq!(
        tokio::time::timeout(Duration::from_millis(300), hear(&mut a))
            .await
            .ok(),
        None,
        "the challenge is no message"
    );
    assert_eq!(
        hear(&mut b).await,
        Heard::Message("a".into(), Message::Ping)
    );
}

#[tokio::test]
async fn what_waits_in_the_socket_is_read_although_the_runtime_has_not_looked_yet() {
    let ips: [IpAddr; 2] = ["127.77.1.1", "127.77.1.2"].map(|a| a.parse().unwrap());
    let first = std::net::UdpSocket::bind((ips[0], 0)).unwrap();
    let port = first.local_addr().unwrap().port();
    drop(first);
    let members: BTreeMap<NodeName, Option<IpAddr>> = ["a", "b"]
        .into_iter()
        .zip(ips)
        .map(|(n, ip)| (n.into(), Some(ip)))
        .collect();
    let open = |name: &str, ip: IpAddr, seed| {
        let mut t =
            Transport::bind(SocketAddr::new(ip, port), sessions(name, b"secret", seed)).unwrap();
        t.set_members(&members, port);
        t
    };
    let (mut a, mut b) = (open("a", ips[0], 1), open("b", ips[1], 2));
    // There is no await from here on, so the runtime gets no turn. Over loopback, a datagram has arrived as soon as it is sent.
    a.send(&"b".into(), &Message::Ping);
    assert_eq!(
        b.receive(),
        Some(Heard::Dropped(ips[0], Rejected::Unproven))
    );
    assert_eq!(a.receive(), None, "the challenge is no message");
    assert_eq!(b.receive(), Some(Heard::Message("a".into(), Message::Ping)));
    assert_eq!(b.receive(), None);
}
