#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrolb_api::reason::Reason;

use super::{Event, LASTS};
use crate::publish::testing::{self, Seen};
use crate::report::view::{AddressStatus, NodeStatus, ServiceState};

/// A teller, with the Services that it has seen.
struct Teller(super::Teller, Seen);

impl Teller {
    fn new(now: Instant) -> Self {
        Self(super::Teller::new(now), Seen::default())
    }

    fn tell(&mut self, status: &NodeStatus, now: Instant) -> Vec<Event> {
        let Self(teller, seen) = self;
        seen.look(status, |_| String::new(), |news| teller.tell(news, now))
    }

    fn due(&self) -> Option<Instant> {
        self.0.due()
    }
}

/// A status of node `a` with one Service. The address is announced by the given owner, or by nobody for this reason.
fn status(owner: Option<&str>, reason: Reason, elected: bool) -> NodeStatus {
    let address = AddressStatus {
        ip: "172.17.255.1".parse().unwrap(),
        node: owner.map(str::to_owned),
        interfaces: vec![],
        reason,
    };
    let mut status = testing::status(vec![address], elected);
    let service = Arc::make_mut(&mut status.services[0]);
    if owner.is_none() || reason != Reason::Announced {
        service.state = ServiceState::Pending;
    }
    service.reason = reason;
    service.message = format!("because of {reason}");
    status
}

fn reasons(events: &[Event]) -> Vec<&str> {
    events.iter().map(|e| e.reason.as_str()).collect()
}

#[test]
fn an_announcement_is_told_once_by_the_node_that_makes_it() {
    let now = Instant::now();
    let mut teller = Teller::new(now);
    let other = status(Some("b"), Reason::Announced, false);
    assert!(teller.tell(&other, now).is_empty());
    let own = status(Some("a"), Reason::Announced, false);
    let events = teller.tell(&own, now);
    assert_eq!(
        events[0].note,
        "announcing 172.17.255.1 from node \"a\" with protocol \"layer2\""
    );
    assert!(teller.tell(&own, now).is_empty());
    teller.tell(&other, now);
    assert_eq!(reasons(&teller.tell(&own, now)), ["nodeAssigned"]);
}

#[test]
fn what_is_amiss_is_told_by_the_elected_member_when_it_lasts_and_once() {
    let now = Instant::now();
    let mut teller = Teller::new(now);
    let orphan = status(None, Reason::NoAdvertisement, true);
    assert!(teller.tell(&orphan, now).is_empty());
    assert_eq!(teller.due(), Some(now + LASTS));
    let later = now + LASTS;
    let events = teller.tell(&orphan, later);
    assert_eq!(reasons(&events), ["NoAdvertisement"]);
    assert!(events[0].warning);
    assert_eq!(teller.due(), None);
    assert!(teller.tell(&orphan, later + LASTS).is_empty());
    let mut other = Teller::new(now);
    let orphan = status(None, Reason::NoAdvertisement, false);
    other.tell(&orphan, now);
    assert!(other.tell(&orphan, later).is_empty());
}

#[test]
fn what_was_told_amiss_is_told_well_again_and_what_did_not_last_is_not_told() {
    let now = Instant::now();
    let mut teller = Teller::new(now);
    let well = status(Some("b"), Reason::Announced, true);
    let orphan = status(None, Reason::NoOwner, true);
    teller.tell(&orphan, now);
    assert!(teller.tell(&well, now + LASTS).is_empty());
    teller.tell(&orphan, now);
    teller.tell(&orphan, now + LASTS);
    assert_eq!(reasons(&teller.tell(&well, now + LASTS)), ["Programmed"]);
}

#[test]
fn there_are_never_more_events_than_a_hundred_and_one_a_second() {
    let start = Instant::now();
    let mut teller = Teller::new(start);
    let own = status(Some("a"), Reason::Announced, false);
    let other = status(Some("b"), Reason::Announced, false);
    let mut count = 0;
    for step in 0..10_000 {
        let now = start + Duration::from_millis(step);
        count += teller.tell(&own, now).len() + teller.tell(&other, now).len();
    }
    assert_eq!(count, 109);
}

/// The status of an elected node `a` with this many Services that have a problem.
fn many(count: usize, reason: Reason) -> NodeStatus {
    let mut status = status(None, reason, true);
    let service = status.services[0].clone();
    status.services = (0..count)
        .map(|i| {
            let mut service = service.clone();
            Arc::make_mut(&mut service).name = format!("web-{i:03}");
            service
        })
        .collect();
    status
}

/// All events from now on: calls the teller each time it is due.
fn all(teller: &mut Teller, status: &NodeStatus, mut now: Instant) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(due) = teller.due() {
        now = now.max(due);
        let more = teller.tell(status, now);
        assert!(!more.is_empty(), "woken for nothing");
        events.extend(more);
    }
    events
}

#[test]
fn what_may_not_be_told_at_once_is_told_later_in_the_order_of_the_names() {
    let start = Instant::now();
    let mut teller = Teller::new(start);
    let status = many(252, Reason::NoEndpoints);
    teller.tell(&status, start);
    let events = all(&mut teller, &status, start);
    let told: Vec<&str> = events.iter().map(|e| e.service.name.as_str()).collect();
    let names: Vec<&str> = status.services.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(told, names);
}

#[test]
fn announcements_and_ends_that_may_not_be_told_at_once_are_told_later() {
    let start = Instant::now();
    let mut teller = Teller::new(start);
    let amiss = many(150, Reason::NoEndpoints);
    teller.tell(&amiss, start);
    assert_eq!(all(&mut teller, &amiss, start).len(), 150);
    let mut own = amiss.clone();
    for service in own.services.iter_mut().map(Arc::make_mut) {
        service.state = ServiceState::Serving;
        service.addresses[0].node = Some("a".into());
    }
    let now = start + Duration::from_secs(3600);
    let mut events = teller.tell(&own, now);
    assert_eq!(events.len(), 100);
    events.extend(all(&mut teller, &own, now));
    let (ends, announced) = events.split_at(150);
    assert!(ends.iter().all(|e| e.reason == "Programmed"));
    assert!(announced.iter().all(|e| e.reason == "nodeAssigned"));
    assert_eq!(announced.len(), 150);
}

#[test]
fn what_is_no_longer_so_is_not_told_late() {
    let start = Instant::now();
    let mut teller = Teller::new(start);
    let amiss = many(101, Reason::NoEndpoints);
    teller.tell(&amiss, start);
    let now = start + LASTS;
    assert_eq!(teller.tell(&amiss, now).len(), 100);
    let last = many(100, Reason::NoEndpoints);
    assert!(teller.tell(&last, now + Duration::from_secs(1)).is_empty());
    assert_eq!(teller.due(), None);
}

#[test]
fn the_end_of_what_was_told_is_told_even_if_another_fault_came_between() {
    let now = Instant::now();
    let mut teller = Teller::new(now);
    let orphan = status(None, Reason::NoAdvertisement, true);
    teller.tell(&orphan, now);
    assert_eq!(teller.tell(&orphan, now + LASTS).len(), 1);
    let other = status(None, Reason::NoEndpoints, true);
    assert!(teller.tell(&other, now + LASTS).is_empty());
    let well = status(Some("b"), Reason::Announced, true);
    let later = now + LASTS * 2;
    assert_eq!(reasons(&teller.tell(&well, later)), ["Programmed"]);
    assert!(teller.tell(&well, later).is_empty());
}
