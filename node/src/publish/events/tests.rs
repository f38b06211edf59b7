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
fn as_many_as_may_be_are_told_one_by_one_in_the_order_of_the_names() {
    let start = Instant::now();
    let mut teller = Teller::new(start);
    let status = many(100, Reason::NoEndpoints);
    teller.tell(&status, start);
    let events = teller.tell(&status, start + LASTS);
    let told = events
        .iter()
        .filter_map(|e| Some(e.service.as_ref()?.name.as_str()));
    let names = status.services.iter().map(|s| s.name.as_str());
    assert!(told.eq(names), "{events:?}");
    assert_eq!(teller.due(), None);
}

#[test]
fn the_rest_is_told_at_once_in_one_event_for_each_cause() {
    let start = Instant::now();
    let mut teller = Teller::new(start);
    let mut status = many(500, Reason::NoEndpoints);
    for service in status.services[400..].iter_mut().map(Arc::make_mut) {
        service.reason = Reason::NoOwner;
        service.message = "nobody has it".to_owned();
    }
    teller.tell(&status, start);
    let events = teller.tell(&status, start + LASTS);
    assert_eq!(events.len(), 92);
    let (single, merged) = events.split_at(90);
    assert!(single.iter().all(|e| e.service.is_some()));
    assert!(merged.iter().all(|e| e.service.is_none() && e.warning));
    assert_eq!(reasons(merged), ["NoOwner", "NoEndpoints"]);
    assert_eq!(
        merged[0].note,
        "100 more Services are not served for this reason, among them default/web-400, default/web-401, default/web-402. Of the \
         first: nobody has it"
    );
    assert!(merged[1].note.starts_with("310 more Services "));
    assert_eq!(teller.due(), None);
}

#[test]
fn five_hundred_addresses_that_move_and_come_back_leave_nothing_to_tell_after_a_second() {
    let start = Instant::now();
    let mut teller = Teller::new(start);
    let amiss = many(500, Reason::NoEndpoints);
    let mut own = amiss.clone();
    for service in own.services.iter_mut().map(Arc::make_mut) {
        service.state = ServiceState::Serving;
        service.addresses[0].node = Some("a".into());
    }
    let mut other = own.clone();
    for service in other.services.iter_mut().map(Arc::make_mut) {
        service.addresses[0].node = Some("b".into());
    }
    teller.tell(&amiss, start);
    let mut now = start + LASTS;
    teller.tell(&amiss, now);
    for _ in 0..5 {
        now += Duration::from_secs(1);
        let events = teller.tell(&own, now);
        let merged = events.iter().filter(|e| e.service.is_none());
        assert!((1..=2).contains(&merged.count()), "{events:?}");
        now += Duration::from_secs(1);
        teller.tell(&other, now);
    }
    now += Duration::from_secs(1);
    let last = teller.tell(&own, now);
    let single = last.len() - 1;
    let start = format!(
        "announcing {} more addresses from node \"a\" with protocol \"layer2\", among them default/web-",
        500 - single
    );
    assert!(last[single].note.starts_with(&start), "{last:?}");
    assert!(all(&mut teller, &own, now).is_empty());
}

#[test]
fn what_is_no_longer_so_is_not_told_late() {
    let start = Instant::now();
    let mut teller = Teller::new(start);
    let amiss = many(100, Reason::NoEndpoints);
    teller.tell(&amiss, start);
    let now = start + LASTS;
    assert_eq!(teller.tell(&amiss, now).len(), 100);
    let more = many(101, Reason::NoEndpoints);
    teller.tell(&more, now);
    let now = now + LASTS;
    // Nothing may be told at this moment.
    (teller.0.left, teller.0.refilled) = (0, now);
    assert!(teller.tell(&more, now).is_empty());
    assert!(teller.tell(&amiss, now + Duration::from_secs(1)).is_empty());
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
