#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::conflict::Conflicts;
use super::schedule::Schedule;
use super::{Memory, announce, answer};
use crate::frame::arp::{Arp, Mac, Operation};

const VIP: Ipv4Addr = Ipv4Addr::new(172, 17, 255, 1);
const FOREIGN: Mac = Mac([2, 0, 0, 0, 0, 0x66]);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The rounds until `end`, by stepping from one due time to the next.
fn rounds(schedule: &mut Schedule, end: Duration) -> Vec<u64> {
    let mut rounds = Vec::new();
    while let Some(next) = schedule.next().filter(|n| *n <= end) {
        assert_eq!(schedule.due(next), [(VIP, 2)]);
        rounds.push(next.as_millis() as u64);
    }
    rounds
}

#[test]
fn a_takeover_is_said_in_a_burst_and_then_once_a_minute() {
    let mut schedule = Schedule::default();
    schedule.start((VIP, 2), ms(1000));
    let expected = [1000, 1100, 1500, 2600, 3700, 4800, 5900, 65_900, 125_900];
    assert_eq!(rounds(&mut schedule, ms(130_000)), expected);
    schedule.stop((VIP, 2));
    assert_eq!(schedule.next(), None);
}

#[test]
fn missed_rounds_are_not_made_up_for() {
    let mut schedule = Schedule::default();
    schedule.start((VIP, 2), ms(0));
    assert_eq!(schedule.due(ms(3000)).len(), 1);
    assert_eq!(schedule.next(), Some(ms(3800)));
}

#[test]
fn an_announcement_has_both_forms_and_goes_to_everybody() {
    let mut memory = Memory::default();
    announce(&mut memory, 2, VIP).unwrap();
    let forms: Vec<_> = memory
        .sent
        .iter()
        .map(|(i, a)| (*i, a.operation, a.destination, a.sender, a.target))
        .collect();
    let both = [Operation::Request, Operation::Reply].map(|o| (2, o, Mac::BROADCAST, VIP, VIP));
    assert_eq!(forms, both);
}

#[test]
fn a_question_is_answered_once_with_the_address_of_the_interface() {
    let mut memory = Memory::default();
    let question = Arp {
        sender: Ipv4Addr::new(172, 17, 0, 9),
        ..Arp::gratuitous(Operation::Request, VIP, FOREIGN)
    };
    assert!(answer(&mut memory, 7, &question).unwrap());
    assert_eq!(memory.sent.len(), 1);
    assert_eq!(
        (memory.sent[0].0, memory.sent[0].1.sender_mac),
        (7, Mac([2, 0, 0, 0, 0, 7]))
    );
    assert!(
        !answer(
            &mut memory,
            7,
            &Arp::gratuitous(Operation::Request, VIP, FOREIGN)
        )
        .unwrap()
    );
}

#[test]
fn a_foreign_claim_is_met_by_one_late_defence_in_ten_seconds() {
    let mut conflicts = Conflicts::default();
    let mut defences = Vec::new();
    for t in (0..30_000).step_by(100) {
        conflicts.foreign((VIP, 2), FOREIGN, ms(t));
        defences.extend(conflicts.due(ms(t), |_| true).iter().map(|d| (t, d.report)));
    }
    assert_eq!(defences, [(500, true), (10_500, false), (20_500, false)]);
}

#[test]
fn reports_of_a_lasting_conflict_are_a_minute_apart() {
    let mut conflicts = Conflicts::default();
    let mut reports = Vec::new();
    for t in (0..200_000).step_by(500) {
        conflicts.foreign((VIP, 2), FOREIGN, ms(t));
        reports.extend(
            conflicts
                .due(ms(t), |_| true)
                .iter()
                .filter(|d| d.report)
                .map(|_| t),
        );
    }
    assert!(
        reports.len() == 4 && reports.windows(2).all(|w| w[1] - w[0] >= 60_000),
        "{reports:?}"
    );
}

#[test]
fn a_successor_has_the_last_word() {
    let mut conflicts = Conflicts::default();
    conflicts.foreign((VIP, 2), FOREIGN, ms(0));
    assert_eq!(conflicts.iter().count(), 0, "not reported before it is met");
    assert!(conflicts.due(ms(600), |_| false).is_empty());
    assert_eq!(conflicts.next(), None);
}

#[test]
fn rounds_of_many_addresses_are_spread_over_the_steps_of_the_loop_and_none_is_lost() {
    let mut schedule = Schedule::default();
    let places: BTreeSet<_> = (0..2000).map(|n| (Ipv4Addr::from_bits(n), 2)).collect();
    for place in &places {
        schedule.start(*place, ms(1000));
    }
    let mut said = BTreeSet::new();
    let mut steps = Vec::new();
    while schedule.next() == Some(ms(1000)) {
        let due = schedule.due(ms(1000));
        steps.push(due.len());
        said.extend(due);
    }
    assert_eq!(said, places);
    assert_eq!(steps, [512, 512, 512, 464]);
}
