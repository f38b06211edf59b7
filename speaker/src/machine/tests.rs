#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::{Action, Clock, Event, Machine, Moved};
use crate::message::{
    ClaimEntry, Eligible, EligibleChange, Heartbeat, MAX_NAME, MemberEntry, Message, NodeName,
    STATE_BUDGET, State, Status,
};
use crate::timers::Timers;

const WALL: u64 = 1_000_000;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn clock(at: u64) -> Clock {
    Clock {
        now: ms(at),
        wall: WALL + at,
    }
}

fn addrs(n: u32) -> BTreeSet<IpAddr> {
    (0..n)
        .map(|i| IpAddr::from((0x0a00_0000 + i).to_be_bytes()))
        .collect()
}

fn exist(addrs: BTreeSet<IpAddr>) -> Event {
    Event::Addresses(Moved::between(&BTreeSet::new(), &addrs))
}

fn first() -> IpAddr {
    *addrs(1).first().unwrap()
}

fn names(n: usize) -> BTreeSet<NodeName> {
    (0..n).map(|i| format!("n{i}").into()).collect()
}

fn machine(n: usize) -> Machine {
    Machine::new(Timers::default(), "n0".into(), &names(n), 1, clock(0))
}

fn step(m: &mut Machine, event: Event, at: u64) -> Vec<Action> {
    let mut out = Vec::new();
    m.step(event, clock(at), &mut out);
    out
}

fn from(i: usize, message: Message) -> Event {
    Event::Received {
        from: format!("n{i}").into(),
        message,
    }
}

fn hello(incarnation: u64, settled: bool) -> State {
    State {
        incarnation,
        settled,
        parts: 1,
        ..State::default()
    }
}

/// Ticks like a driver, until `to`.
fn run(m: &mut Machine, begin: u64, to: u64) -> Vec<Action> {
    (begin..=to)
        .step_by(10)
        .flat_map(|at| step(m, Event::Tick, at))
        .collect()
}

/// n0 alone in a list of `n`, settled and announcing `k` addresses, at 3000 ms.
fn settled(n: usize, k: u32) -> Machine {
    let mut m = machine(n);
    step(&mut m, exist(addrs(k)), 0);
    step(&mut m, Event::Eligible(addrs(k)), 0);
    run(&mut m, 0, 3000);
    assert!(m.is_settled());
    m
}

fn states(actions: &[Action]) -> impl Iterator<Item = (&Vec<NodeName>, &State)> {
    actions.iter().filter_map(|a| match a {
        Action::Send {
            to,
            message: Message::State(s),
        } => Some((to, s)),
        _ => None,
    })
}

#[test]
fn a_lone_node_settles_after_300_ms_and_announces() {
    let mut m = machine(1);
    step(&mut m, exist(addrs(2)), 0);
    step(&mut m, Event::Eligible(addrs(2)), 0);
    assert!(
        !run(&mut m, 0, 290)
            .iter()
            .any(|a| matches!(a, Action::Announce(_)))
    );
    let out = run(&mut m, 300, 310);
    assert_eq!(
        out.iter()
            .filter(|a| matches!(a, Action::Announce(_)))
            .count(),
        2
    );
    assert!(m.may_answer(&first(), ms(320)));
    assert!(m.live_majority());
}

#[test]
fn one_of_three_that_hears_nobody_settles_after_2_s_without_a_majority() {
    let mut m = machine(3);
    run(&mut m, 0, 1990);
    assert!(!m.is_settled());
    run(&mut m, 2000, 2010);
    assert!(m.is_settled() && !m.live_majority());
}

#[test]
fn nothing_is_announced_before_the_node_knows_what_it_can_serve() {
    let mut m = machine(1);
    step(&mut m, exist(addrs(1)), 0);
    run(&mut m, 0, 1000);
    assert_eq!(m.announced().count(), 0);
    step(&mut m, Event::Eligible(addrs(1)), 1010);
    run(&mut m, 1010, 1100);
    assert_eq!(m.announced().count(), 1);
}

#[test]
fn a_late_loop_answers_nothing_and_starts_anew() {
    let mut m = settled(1, 1);
    assert!(m.may_answer(&first(), ms(3350)));
    assert!(
        !m.may_answer(&first(), ms(3351)),
        "before anything else runs"
    );
    let out = step(&mut m, Event::Tick, 8000);
    assert!(out.contains(&Action::Withdraw(first())));
    assert!(!m.is_settled() && !m.may_answer(&first(), ms(8000)));
    run(&mut m, 8010, 8700);
    assert!(m.is_settled() && m.may_answer(&first(), ms(8700)));
}

/// n0 with n1 beside it, late by 500 ms twice, so that it asks for patience; `acknowledged` says whether n1 answers.
fn often_late(acknowledged: bool) -> (Machine, u64) {
    let mut m = settled(2, 1);
    let mut at = 3000;
    for _ in 0..3 {
        for _ in 0..100 {
            at += 10;
            let mut out = step(&mut m, from(1, Message::State(hello(5, false))), at);
            out.extend(step(&mut m, Event::Tick, at));
            let asks = states(&out).filter(|(_, s)| s.ack && s.claims.is_empty());
            for seq in asks.map(|(_, s)| s.seq).collect::<Vec<_>>() {
                if acknowledged {
                    step(&mut m, from(1, Message::Ack { seq }), at);
                }
            }
        }
        at += 490;
    }
    (m, at)
}

#[test]
fn a_node_that_is_late_twice_asks_for_patience_and_then_goes_on_as_soon_as_it_has_read_its_queue() {
    let (mut m, at) = often_late(true);
    assert_eq!(m.multiplier(), 3);
    assert!(!m.may_answer(&first(), ms(at)), "before anything else runs");
    let out = step(&mut m, Event::Tick, at);
    assert!(!out.contains(&Action::Withdraw(first())), "{out:?}");
    assert!(!m.may_answer(&first(), ms(at)), "before the queue is read");
    assert_eq!(m.next_wakeup(), ms(at));
    step(&mut m, Event::Tick, at);
    assert!(m.is_settled() && m.may_answer(&first(), ms(at)));
}

#[test]
fn patience_that_nobody_acknowledged_counts_for_nothing() {
    let (mut m, at) = often_late(false);
    assert_eq!(m.multiplier(), 3);
    let out = step(&mut m, Event::Tick, at);
    assert!(out.contains(&Action::Withdraw(first())), "{out:?}");
    assert!(!m.is_settled());
}

#[test]
fn a_node_that_reads_of_its_death_in_its_queue_answers_nothing() {
    let (mut m, at) = often_late(true);
    let mine = m
        .members()
        .iter()
        .find(|v| v.node.as_str() == "n0")
        .unwrap()
        .incarnation;
    let you = Some((Status::Dead, mine));
    let dead = State {
        you,
        ..hello(5, false)
    };
    let mut out = step(&mut m, from(1, Message::State(dead)), at);
    out.extend(step(&mut m, Event::Tick, at));
    assert!(out.contains(&Action::Withdraw(first())), "{out:?}");
    step(&mut m, Event::Tick, at);
    assert!(!m.is_settled() && !m.may_answer(&first(), ms(at)));
}

#[test]
fn a_node_with_sixteen_absent_names_before_the_rest_speaks_to_all_of_them() {
    let names: BTreeSet<NodeName> = (0..40).map(|i| format!("n{i:02}").into()).collect();
    let mut m = Machine::new(Timers::default(), "n39".into(), &names, 1, clock(0));
    let spoken_to = |m: &mut Machine, begin, end| -> BTreeSet<NodeName> {
        let out = run(m, begin, end);
        states(&out).flat_map(|(to, _)| to.clone()).collect()
    };
    assert_eq!(spoken_to(&mut m, 0, 300).len(), 39, "at the start");
    run(&mut m, 310, 2990);
    assert!(m.is_settled());
    assert_eq!(
        spoken_to(&mut m, 3000, 3300).len(),
        39,
        "when it is settled"
    );
}

#[test]
fn a_number_that_leaps_is_not_taken_and_is_reported() {
    let mut m = settled(2, 1);
    step(&mut m, from(1, Message::State(hello(u64::MAX, true))), 3010);
    let status = |m: &Machine| {
        m.members()
            .into_iter()
            .find(|v| v.node.as_str() == "n1")
            .unwrap()
            .status
    };
    assert_eq!(status(&m), Status::Unknown);
    let leaps: Vec<_> = m.leaps().cloned().collect();
    assert_eq!(leaps.len(), 1);
    assert_eq!((leaps[0].by.as_str(), leaps[0].said), ("n1", u64::MAX));
    step(&mut m, from(1, Message::State(hello(5, true))), 3020);
    assert_eq!(status(&m), Status::Alive);
}

#[test]
fn a_wall_clock_at_its_end_stops_no_node() {
    let end = |at| Clock {
        now: ms(at),
        wall: u64::MAX,
    };
    let known = names(1);
    let mut m = Machine::new(Timers::default(), "n0".into(), &known, 1, end(0));
    let mut out = Vec::new();
    for at in [0, 10, 5000, 5010, 10_000] {
        m.step(Event::Tick, end(at), &mut out);
    }
    assert!(!m.is_settled(), "each pause begins anew");
}

#[test]
fn what_waited_in_the_queue_during_a_pause_is_dropped() {
    let mut m = settled(2, 1);
    step(&mut m, from(1, Message::State(hello(5, true))), 3010);
    let old = State {
        claims: vec![ClaimEntry {
            addr: first(),
            node: "n1".into(),
            epoch: 1 << 42,
            provisional: false,
        }],
        ..hello(5, true)
    };
    step(&mut m, from(1, Message::State(old.clone())), 9000);
    assert_eq!(m.owner(&first()), None);
    step(&mut m, Event::Tick, 9001);
    step(&mut m, from(1, Message::State(old)), 9002);
    assert_eq!(m.owner(&first()).map(|c| c.node.as_str()), Some("n1"));
}

#[test]
fn who_is_dead_or_may_not_announce_an_address_any_more_is_not_its_announcer() {
    let mut m = settled(2, 1);
    let list = |version, addresses: &[IpAddr]| Eligible {
        nodes: vec![("n1".into(), version)],
        part: 0,
        parts: 1,
        addresses: addresses.to_vec(),
    };
    let claim = ClaimEntry {
        addr: first(),
        node: "n1".into(),
        epoch: 1 << 42,
        provisional: false,
    };
    let says = |version, addresses: &[IpAddr]| State {
        claims: vec![claim.clone()],
        eligible: vec![list(version, addresses)],
        ..hello(5, true)
    };
    let announcer = |m: &Machine| m.announcer(&first()).map(|c| c.node.to_string());
    assert_eq!(announcer(&m).as_deref(), Some("n0"));
    step(&mut m, Event::Eligible(BTreeSet::new()), 3010);
    step(&mut m, from(1, Message::State(says(1, &[first()]))), 3020);
    assert_eq!(announcer(&m).as_deref(), Some("n1"));
    step(&mut m, from(1, Message::State(says(2, &[]))), 3030);
    assert_eq!(announcer(&m), None);
    step(&mut m, from(1, Message::State(says(3, &[first()]))), 3040);
    assert_eq!(announcer(&m).as_deref(), Some("n1"));
    run(&mut m, 3050, 6000);
    assert_eq!(m.owner(&first()).map(|c| c.node.as_str()), Some("n1"));
    assert_eq!(announcer(&m), None);
}

#[test]
fn a_node_told_that_it_is_dead_refutes_with_a_new_incarnation() {
    let mut m = settled(2, 1);
    let you = Some((Status::Dead, WALL));
    step(
        &mut m,
        from(
            1,
            Message::State(State {
                you,
                ..hello(5, true)
            }),
        ),
        3010,
    );
    let out = step(&mut m, Event::Tick, 3011);
    let refuted = states(&out).any(|(to, s)| {
        to.contains(&"n1".into()) && s.incarnation == WALL + 1 && s.claims.len() == 1
    });
    assert!(refuted, "{out:?}");
}

#[test]
fn a_sender_that_is_not_known_is_ignored() {
    let mut m = settled(2, 1);
    assert_eq!(step(&mut m, from(7, Message::Ping), 3010), []);
}

#[test]
fn a_refusal_right_after_a_sign_of_life_is_not_believed() {
    let mut m = settled(2, 1);
    let status = |m: &Machine| {
        m.members()
            .into_iter()
            .find(|v| v.node.as_str() == "n1")
            .unwrap()
            .status
    };
    step(&mut m, Event::Refused("n1".into()), 3005);
    assert_eq!(status(&m), Status::Unknown);
    step(&mut m, from(1, Message::State(hello(5, true))), 3010);
    step(&mut m, Event::Refused("n1".into()), 3020);
    assert_eq!(status(&m), Status::Alive);
    step(&mut m, Event::Refused("n1".into()), 3100);
    assert_eq!(status(&m), Status::Held);
    let out = run(&mut m, 3101, 3120);
    assert!(out.contains(&Action::KernelPing("n1".into())));
}

/// The status of n1 after `from`, while the kernel of its node answers every ping until `to`.
fn held_until(m: &mut Machine, from: u64, to: u64) -> Status {
    for at in (from..=to).step_by(10) {
        step(m, Event::KernelAnswered("n1".into()), at);
        step(m, Event::Tick, at);
    }
    let members = m.members();
    members
        .iter()
        .find(|v| v.node.as_str() == "n1")
        .unwrap()
        .status
}

#[test]
fn a_goodbye_that_is_read_after_the_refusal_still_counts() {
    let goodbye = |incarnation| Message::Goodbye {
        incarnation,
        hold_ms: 10_000,
    };
    let refused = || {
        let mut m = settled(2, 1);
        step(&mut m, from(1, Message::State(hello(5, true))), 3010);
        step(&mut m, Event::Refused("n1".into()), 3100);
        m
    };
    // Killed: only the crash hold.
    let mut m = refused();
    assert_eq!(held_until(&mut m, 3100, 5090), Status::Held);
    assert_eq!(held_until(&mut m, 5100, 5400), Status::Dead);
    // Stopped, in both orders: the hold that it asked for, and no longer.
    let mut m = refused();
    step(&mut m, from(1, goodbye(5)), 3105);
    step(&mut m, from(1, goodbye(5)), 3106);
    step(&mut m, Event::Refused("n1".into()), 3200);
    assert_eq!(held_until(&mut m, 3200, 13_000), Status::Held);
    assert_eq!(held_until(&mut m, 13_010, 13_500), Status::Dead);
    step(&mut m, from(1, goodbye(5)), 13_510);
    assert_eq!(held_until(&mut m, 13_510, 13_520), Status::Dead);
    // The goodbye of an earlier life says nothing about this one.
    let mut m = refused();
    step(&mut m, from(1, goodbye(4)), 3105);
    assert_eq!(held_until(&mut m, 3110, 5400), Status::Dead);
}

#[test]
fn a_goodbye_is_said_twice_and_nothing_after_it() {
    let mut m = settled(2, 1);
    step(&mut m, from(1, Message::State(hello(5, true))), 3010);
    let out = step(&mut m, Event::Stop, 3020);
    assert_eq!(out.len(), 2);
    assert_eq!(step(&mut m, Event::Tick, 3030), []);
    assert_eq!(m.next_wakeup(), Duration::MAX);
}

#[test]
fn an_opaque_payload_is_a_sign_of_life_and_no_more() {
    let mut m = settled(2, 1);
    step(&mut m, from(1, Message::State(hello(5, true))), 3010);
    assert_eq!(step(&mut m, from(1, Message::Opaque(vec![1])), 3020), []);
}

#[test]
fn a_whole_table_with_the_longest_names_fits_its_datagrams() {
    let long = |i: usize| NodeName::from(format!("{i:0>width$}", width = MAX_NAME));
    let known: BTreeSet<NodeName> = (0..20).map(long).collect();
    let mut m = Machine::new(Timers::default(), long(0), &known, 1, clock(0));
    let v6: BTreeSet<IpAddr> = (0..100_u16)
        .map(|i| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, i]))
        .collect();
    step(&mut m, exist(v6.clone()), 0);
    step(&mut m, Event::Eligible(v6.clone()), 0);
    let all: Vec<IpAddr> = v6.iter().copied().collect();
    for i in 1..20 {
        let list = |(part, a): (usize, &[IpAddr])| Eligible {
            nodes: vec![(long(i), 1)],
            part: u16::try_from(part).unwrap(),
            parts: 3,
            addresses: a.to_vec(),
        };
        let eligible = all.chunks(40).enumerate().map(list).collect();
        let state = State {
            eligible,
            ..hello(5, false)
        };
        step(
            &mut m,
            Event::Received {
                from: long(i),
                message: Message::State(state),
            },
            10,
        );
    }
    run(&mut m, 10, 320);
    let want = State {
        want: true,
        ..hello(5, false)
    };
    let out = step(
        &mut m,
        Event::Received {
            from: long(3),
            message: Message::State(want),
        },
        325,
    );
    let parts: Vec<&State> = states(&out).map(|(_, s)| s).collect();
    assert!(parts.len() > 10);
    assert!(
        parts
            .iter()
            .all(|s| s.size() <= STATE_BUDGET && usize::from(s.parts) == parts.len())
    );
    let lists: usize = parts
        .iter()
        .flat_map(|s| &s.eligible)
        .map(|e| e.nodes.len() * e.addresses.len())
        .sum();
    assert_eq!(lists, 2000);
}

/// The digests that a node sends in its next heartbeat.
fn digests(m: &mut Machine, at: u64) -> (u64, u64) {
    let out = run(m, at, at + 200);
    let beat = out.iter().find_map(|a| match a {
        Action::Send {
            message: Message::Heartbeat(h),
            ..
        } => Some((h.members, h.claims)),
        _ => None,
    });
    beat.unwrap()
}

fn any_name() -> impl Strategy<Value = NodeName> {
    (0..6_usize).prop_map(|i| format!("n{i}").into())
}

fn any_addr() -> impl Strategy<Value = IpAddr> {
    (0..6_u8).prop_map(|i| IpAddr::from([10, 0, 0, i]))
}

fn any_status() -> impl Strategy<Value = Status> {
    prop_oneof![
        Just(Status::Unknown),
        Just(Status::Alive),
        Just(Status::Held),
        Just(Status::Dead)
    ]
}

fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![0..8_u64, Just(WALL), Just(WALL + 1), any::<u64>()]
}

prop_compose! {
    fn any_claim()(addr in any_addr(), node in any_name(), epoch in any_number(), provisional in any::<bool>()) -> ClaimEntry {
        ClaimEntry { addr, node, epoch, provisional }
    }
}

prop_compose! {
    fn any_member()(
        node in any_name(), incarnation in any_number(), status in any_status(), settled in any::<bool>(), multiplier in any::<u8>(),
        hold_ms in any::<u32>(),
    ) -> MemberEntry {
        MemberEntry { node, incarnation, status, settled, multiplier, hold_ms }
    }
}

prop_compose! {
    fn any_list()(
        nodes in prop::collection::vec((any_name(), any_number()), 0..3), part in 0..3_u16, parts in 0..3_u16,
        addresses in prop::collection::vec(any_addr(), 0..4),
    ) -> Eligible {
        Eligible { nodes, part, parts, addresses }
    }
}

prop_compose! {
    fn any_change()(
        node in any_name(), from in any_number(), to in any_number(), added in prop::collection::vec(any_addr(), 0..3),
    ) -> EligibleChange {
        EligibleChange { node, from, to, added, removed: Vec::new() }
    }
}

prop_compose! {
    fn any_state()(
        (incarnation, settled, seq, part, parts) in (any_number(), any::<bool>(), any_number(), 0..3_u16, 0..3_u16),
        (multiplier, company) in any::<(u8, u16)>(),
        you in prop::option::of((any_status(), any_number())),
        (full, want, ack) in any::<(bool, bool, bool)>(),
        members in prop::collection::vec(any_member(), 0..4),
        claims in prop::collection::vec(any_claim(), 0..4),
        eligible in prop::collection::vec(any_list(), 0..3),
        changes in prop::collection::vec(any_change(), 0..3),
    ) -> State {
        State { incarnation, settled, multiplier, company, you, full, want, ack, vote: false, seq, part, parts, members, claims, eligible, changes }
    }
}

fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        6 => any_state().prop_map(Message::State),
        2 => (any_number(), any::<bool>(), any::<u8>(), prop::collection::vec(any_name(), 0..5)).prop_map(|(incarnation, settled, multiplier, watchers)| {
            Message::Heartbeat(Heartbeat { incarnation, settled, multiplier, watchers, members: 0, claims: 0 })
        }),
        1 => Just(Message::Ping),
        1 => Just(Message::Pong),
        1 => Just(Message::Unwatch),
        1 => any_name().prop_map(|member| Message::Suspect { member }),
        1 => (any_name(), any::<bool>()).prop_map(|(member, heard)| Message::Answer { member, heard }),
        1 => any_number().prop_map(|seq| Message::Ack { seq }),
        1 => (any_number(), any::<u32>()).prop_map(|(incarnation, hold_ms)| Message::Goodbye { incarnation, hold_ms }),
    ]
}

proptest! {
    #[test]
    fn no_sequence_of_messages_makes_it_panic_or_write_to_itself(
        messages in prop::collection::vec((any_name(), any_message(), 0..200_u64), 0..40),
    ) {
        let mut m = settled(5, 6);
        let mut at = 3000;
        for (from, message, wait) in messages {
            at += wait;
            let mut out = step(&mut m, Event::Received { from, message }, at);
            out.extend(step(&mut m, Event::Tick, at));
            for action in &out {
                if let Action::Send { to, .. } = action {
                    prop_assert!(!to.is_empty() && !to.contains(m.me()), "{:?}", action);
                }
            }
            for (_, state) in states(&out) {
                prop_assert!(state.size() <= STATE_BUDGET);
            }
        }
        prop_assert!(m.next_wakeup() <= ms(at + 100));
    }

    #[test]
    fn claims_of_living_members_merge_alike_in_any_order(
        claims in prop::collection::vec(any_claim(), 1..12), turn in 0..12_usize,
    ) {
        let known = |c: &ClaimEntry| matches!(c.node.as_str(), "n1" | "n2") && c.epoch < 100;
        let claims: Vec<ClaimEntry> = claims.into_iter().filter(known).collect();
        let mut other = claims.clone();
        other.rotate_left(turn.min(claims.len()));
        other.reverse();
        let end = |claims: Vec<ClaimEntry>| {
            // It may take nothing itself, so its table holds only what it merged.
            let mut m = machine(3);
            step(&mut m, exist(addrs(6)), 0);
            step(&mut m, Event::Eligible(BTreeSet::new()), 0);
            for i in 1..3 {
                step(&mut m, from(i, Message::State(hello(5, true))), 1);
            }
            for claim in claims {
                step(&mut m, from(1, Message::State(State { claims: vec![claim], ..hello(5, true) })), 2);
            }
            digests(&mut m, 10)
        };
        prop_assert_eq!(end(claims), end(other));
    }

    #[test]
    fn a_change_of_what_a_node_may_announce_does_the_same_as_the_whole_set(
        sets in prop::collection::vec(prop::collection::btree_set(0..8_usize, 0..8), 1..12),
    ) {
        let all: Vec<IpAddr> = addrs(8).into_iter().collect();
        let mut whole = machine(3);
        step(&mut whole, exist(addrs(8)), 0);
        step(&mut whole, Event::Eligible(BTreeSet::new()), 0);
        let mut moved = whole.clone();
        let mut then = BTreeSet::new();
        for (i, set) in sets.into_iter().enumerate() {
            let now: BTreeSet<IpAddr> = set.into_iter().map(|i| all[i]).collect();
            let at = 10 * i as u64;
            let mut change = Moved::between(&then, &now);
            // Naming what is already so changes nothing.
            change.added.extend(now.first());
            let a = step(&mut whole, Event::Eligible(now.clone()), at);
            let b = step(&mut moved, Event::EligibleMoved(change), at);
            prop_assert_eq!(a, b);
            prop_assert_eq!(step(&mut whole, Event::Tick, at), step(&mut moved, Event::Tick, at));
            prop_assert_eq!(whole.members(), moved.members());
            then = now;
        }
    }
}
