#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::testing::{ips, key};

fn write(address: &str) -> Write {
    Write {
        key: key("a/1"),
        uid: "u1".into(),
        addresses: ips(address),
        pool: Some("p".into()),
        before: Vec::new(),
    }
}

fn down() -> Result<(), Refusal> {
    Err(Refusal::Busy {
        said: "down".into(),
    })
}

#[test]
fn pauses_are_doubled_up_to_a_minute_and_a_quarter() {
    let seconds = |n, chance| PAUSES.after(n, chance).as_secs_f32();
    let all: Vec<f32> = (1..9).map(|n| seconds(n, 0)).collect();
    assert_eq!(all, [1., 2., 4., 8., 16., 32., 60., 60.]);
    assert!((60.0..=75.0).contains(&seconds(99, u64::MAX)));
}

#[test]
fn a_new_decision_does_not_wait_for_the_pause_of_the_old_one() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.want(&key("a/1"), Some(write("10.0.0.1")), now);
    queue.begin(now).unwrap();
    queue.done(&key("a/1"), down(), now, 0);
    assert_eq!(queue.begin(now), None);
    queue.want(&key("a/1"), Some(write("10.0.0.2")), now);
    assert_eq!(queue.begin(now), Some(write("10.0.0.2")));
}

#[test]
fn what_is_decided_while_a_write_is_under_way_is_written_after_it() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.want(&key("a/1"), Some(write("10.0.0.1")), now);
    queue.begin(now).unwrap();
    queue.want(&key("a/1"), Some(write("10.0.0.2")), now);
    assert_eq!(queue.begin(now), None);
    queue.done(&key("a/1"), Ok(()), now, 0);
    assert_eq!(queue.begin(now), Some(write("10.0.0.2")));
}

#[test]
fn the_same_wish_again_does_not_shorten_the_pause_and_no_wish_ends_it() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.want(&key("a/1"), Some(write("10.0.0.1")), now);
    queue.begin(now).unwrap();
    queue.done(&key("a/1"), down(), now, 0);
    let due = queue.due();
    assert_eq!(due, Some(now + PAUSES.after(1, 0)));
    queue.want(&key("a/1"), Some(write("10.0.0.1")), now);
    assert_eq!(queue.due(), due);
    queue.want(&key("a/1"), None, now);
    assert_eq!(queue.due(), None);
}

#[test]
fn one_cause_is_one_fault_for_all() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    for name in ["a/1", "a/2"] {
        let w = Write {
            key: key(name),
            ..write("10.0.0.1")
        };
        queue.want(&key(name), Some(w), now);
        queue.begin(now).unwrap();
        queue.done(&key(name), down(), now, 0);
    }
    assert_eq!(queue.faults.len(), 1);
    queue.forget(&key("a/1"));
    assert_eq!(queue.faults.len(), 1);
    queue.forget(&key("a/2"));
    assert!(queue.faults.is_empty() && queue.entries.is_empty());
}
