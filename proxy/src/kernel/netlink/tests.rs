#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::attr::{address, attributes, text};
use super::faulty::{Fault, Faults, FaultySocket, Message, Mute, Peer, Said, bytes, nla};
use super::wire::{Answer, replies};
use super::*;

/// Payloads of messages that a Linux 6 kernel sent, grouped by request.
pub(crate) fn captured(name: &str) -> Vec<Vec<u8>> {
    let files = concat!(
        include_str!("captured/rtnetlink.txt"),
        include_str!("captured/nftables.txt"),
        include_str!("captured/ipvs.txt")
    );
    let lines = files.lines();
    let mine = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let hex = |text: &str| -> Vec<u8> {
        let digits: Vec<u8> = text
            .bytes()
            .map(|b| (b as char).to_digit(16).unwrap() as u8)
            .collect();
        digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect()
    };
    mine.map(|line| hex(line.split_once(' ').unwrap().1))
        .collect()
}

/// One of the messages with some bytes changed, often in the length of an attribute, or with its end cut off.
pub(crate) fn damaged(messages: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec(
        (any::<prop::sample::Index>(), any::<u8>(), any::<bool>()),
        0..6,
    );
    (
        prop::sample::select(messages),
        changes,
        any::<prop::sample::Index>(),
        prop::bool::weighted(0.3),
    )
        .prop_map(|(mut message, changes, end, cut)| {
            for (at, value, aligned) in changes {
                let at = at.index(message.len());
                // Lengths are at multiples of four.
                let at = if aligned { at & !3 } else { at };
                message[at] = value;
            }
            if cut {
                message.truncate(end.index(message.len()));
            }
            message
        })
}

type Attribute = Result<(u16, Vec<u8>), Malformed>;

fn all(block: &[u8]) -> Vec<Attribute> {
    attributes(block)
        .map(|a| a.map(|(kind, value)| (kind, value.to_vec())))
        .collect()
}

#[test]
fn attributes_are_read_as_far_as_their_lengths_add_up() {
    let bad = |what| Err(Malformed(what));
    let (length, tail) = (
        "the length of an attribute",
        "bytes behind the last attribute",
    );
    let whole = [nla(1, &[7]), nla(0x8002, &nla(3, &[1, 2, 3, 4]))].concat();
    let nested = (2, nla(3, &[1, 2, 3, 4]));
    let cases: [(&str, Vec<u8>, Vec<Attribute>); 9] = [
        ("nothing", vec![], vec![]),
        (
            "two, one with a flag",
            whole.clone(),
            vec![Ok((1, vec![7])), Ok(nested)],
        ),
        (
            "no padding at the end",
            nla(1, &[7])[..5].to_vec(),
            vec![Ok((1, vec![7]))],
        ),
        ("an empty value", nla(1, &[]), vec![Ok((1, vec![]))]),
        ("a length of zero", vec![0, 0, 1, 0], vec![bad(length)]),
        (
            "a length below the header",
            vec![3, 0, 1, 0],
            vec![bad(length)],
        ),
        (
            "a length beyond the block",
            vec![9, 0, 1, 0, 1, 2, 3, 4],
            vec![bad(length)],
        ),
        (
            "a piece of a header",
            [nla(1, &[7]), vec![4, 0, 1]].concat(),
            vec![Ok((1, vec![7])), bad(tail)],
        ),
        (
            "nothing after an error",
            [vec![0, 0, 1, 0], nla(1, &[7])].concat(),
            vec![bad(length)],
        ),
    ];
    for (name, block, expected) in cases {
        assert_eq!(all(&block), expected, "{name}");
    }
}

#[test]
fn values_of_another_length_are_no_values() {
    assert_eq!(attr::u16_of(&[1, 0, 0]), None);
    assert_eq!(attr::u32_of(&[1, 0]), None);
    assert_eq!(attr::be32_of(&[0, 0, 1, 0]), Some(256));
    assert_eq!(text(b"web\0more"), Some("web"));
    assert_eq!(text(b"web"), Some("web"));
    assert_eq!(text(&[0xff]), None);
    assert_eq!(address(&[192, 0, 2, 1]), "192.0.2.1".parse().ok());
    assert_eq!(address(&[192, 0, 2, 1, 0]), None);
}

#[test]
fn a_datagram_is_read_up_to_what_is_cut_off() {
    let one = bytes(0x20, 2, 5, &[1, 2, 3, 4]);
    let error = bytes(2, 0, 6, &(-3i32).to_ne_bytes());
    let noop = bytes(1, 0, 6, &[]);
    let short_error = bytes(2, 0, 6, &[0, 0]);
    let small = [&8u32.to_ne_bytes()[..], &[0; 12]].concat();
    let cut = one[..18].to_vec();
    for (datagram, good, whole) in [
        ([one.clone(), noop, error.clone()].concat(), 2, true),
        ([one.clone(), cut].concat(), 1, false),
        ([one.clone(), short_error].concat(), 1, false),
        ([error, small].concat(), 1, false),
        (vec![], 0, false),
    ] {
        let read: Vec<_> = replies(&datagram).collect();
        assert_eq!(read.iter().filter(|r| r.is_ok()).count(), good);
        assert_eq!(read.iter().all(Result::is_ok), whole);
    }
    let refusal = bytes(3, 0, 9, &(-4i32).to_ne_bytes());
    let read = replies(&refusal).next().unwrap().unwrap();
    assert!(
        matches!(read.answer, Answer::Result(Some(e)) if e.kind() == io::ErrorKind::Interrupted)
    );
    assert_eq!((read.sequence, read.flags), (9, 0));
    let lowest = bytes(2, 0, 9, &i32::MIN.to_ne_bytes());
    assert!(replies(&lowest).next().unwrap().is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_taken_apart_without_a_panic_and_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(attributes(&bytes).count() <= bytes.len() / 4 + 1);
        prop_assert!(replies(&bytes).count() <= bytes.len() / 16 + 1);
    }
}

/// Answers each request of a kind with a number, and a dump with three. Refuses dumps `busy` times.
#[derive(Debug, Default)]
struct Numbers {
    busy: usize,
    asked: usize,
}

impl Peer for Numbers {
    fn answer(&mut self, messages: &[Message]) -> Vec<Said> {
        let mut one = |m: &Message| {
            self.asked += 1;
            if m.is_dump() && self.busy > 0 {
                self.busy -= 1;
                return Err(Errno::EBUSY);
            }
            let count = if m.is_dump() { 3 } else { 1 };
            Ok((0..count)
                .map(|n| (m.kind, vec![m.payload[0] + n]))
                .collect())
        };
        messages.iter().map(&mut one).collect()
    }
}

/// A request with a number in it.
#[derive(Debug, Clone)]
struct Ask(u8);

impl NetlinkSerializable for Ask {
    fn message_type(&self) -> u16 {
        0x20
    }

    fn buffer_len(&self) -> usize {
        1
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[0] = self.0;
    }
}

fn channel(
    peer: Arc<Mutex<Numbers>>,
    faults: impl IntoIterator<Item = (usize, Fault)>,
) -> Channel<FaultySocket> {
    let faults = Faults {
        script: BTreeMap::from_iter(faults),
        count: 0,
    };
    Channel::new(
        FaultySocket::new(peer, Arc::new(Mutex::new(faults))),
        "test",
    )
}

async fn number(channel: &mut Channel<FaultySocket>, number: u8) -> u8 {
    let found = channel.get(Ask(number), |_, payload| Ok(payload[0]));
    found.await.unwrap().unwrap()
}

async fn numbers(channel: &mut Channel<FaultySocket>) -> Result<Vec<u8>, KernelError> {
    let each = |out: &mut Vec<u8>, _, payload: &[u8]| {
        out.extend(payload);
        Ok(())
    };
    channel.dump(Ask(7), Vec::new, each).await
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_an_earlier_request_is_never_taken_for_the_newest() {
    for fault in [
        Fault::Late,
        Fault::Twice,
        Fault::Lost,
        Fault::Overrun,
        Fault::Cut(17),
    ] {
        for at in 0..4 {
            let mut channel = channel(Arc::default(), [(at, fault)]);
            for n in 1..5 {
                assert_eq!(number(&mut channel, n).await, n, "{fault:?} at {at}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_costs_one_second_and_one_more_request() {
    let peer: Arc<Mutex<Numbers>> = Arc::default();
    let mut channel = channel(peer.clone(), [(0, Fault::Lost)]);
    let start = Instant::now();
    assert_eq!(number(&mut channel, 3).await, 3);
    assert_eq!(start.elapsed(), PATIENCE);
    assert_eq!(peer.lock().unwrap().asked, 2);
}

#[tokio::test(start_paused = true)]
async fn a_dump_starts_again_when_it_is_interrupted_cut_off_or_short_of_a_part() {
    for fault in [
        Fault::Twice,
        Fault::Overrun,
        Fault::Cut(0),
        Fault::Cut(18),
        Fault::Unheard,
    ] {
        for at in 0..4 {
            let mut channel = channel(Arc::default(), [(at, fault)]);
            assert_eq!(
                numbers(&mut channel).await.unwrap(),
                [7, 8, 9],
                "{fault:?} at {at}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dump_that_is_interrupted_for_ever_is_given_up() {
    let peer: Arc<Mutex<Numbers>> = Arc::default();
    let mut channel = channel(peer.clone(), (0..100).map(|at| (at, Fault::Twice)));
    let error = numbers(&mut channel).await.unwrap_err();
    assert!(
        matches!(error, KernelError::Refused { source, .. } if source.kind() == io::ErrorKind::Interrupted)
    );
    assert_eq!(peer.lock().unwrap().asked, DUMP_TRIES);
    assert_eq!(number(&mut channel, 3).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_busy_with_an_earlier_dump_is_replaced() {
    let peer = Arc::new(Mutex::new(Numbers { busy: 1, asked: 0 }));
    let mut channel = channel(peer, []);
    assert_eq!(numbers(&mut channel).await.unwrap(), [7, 8, 9]);
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_never_answers_is_given_up_after_two_tries() {
    let socket = FaultySocket::new(Arc::new(Mutex::new(Mute)), Arc::default());
    let mut channel = Channel::new(socket, "test");
    let start = Instant::now();
    assert!(numbers(&mut channel).await.unwrap_err().is_unanswered());
    assert_eq!(start.elapsed(), PATIENCE * 2);
    let requests = [const { Ask(1) }; 200].map(|ask| Request::new(0, ask));
    let outcomes = channel.pipeline(&requests).await;
    assert_eq!(start.elapsed(), PATIENCE * 4);
    let (first, rest) = outcomes.split_at(WINDOW);
    assert!(first.iter().all(|o| matches!(o, Outcome::Unanswered)));
    assert!(rest.iter().all(|o| matches!(o, Outcome::Unsent)));
    assert_eq!(rest.len(), 200 - WINDOW);
}
