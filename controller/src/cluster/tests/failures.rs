//! An API server that refuses, is slow, is silent, or has another client that disagrees.

use std::time::Duration;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Batch;
use ferrolb_api::object::Kind;
use ferrolb_api::problem::{Cause, Consequence, Problem, Subject};
use ferrolb_api::refusal::Refusal;
use ferrolb_api::view::IngressAddress;

use super::super::core::Core;
use super::super::queue::AT_ONCE;
use super::super::run::STOP_WITHIN;
use super::world::{World, batch};
use crate::state::Settings;
use crate::testing::*;

fn pools() -> Vec<ferrolb_api::change::Change> {
    vec![put_pool(pool("default", "10.0.0.1-10.0.9.9"))]
}

fn down() -> Refusal {
    Refusal::Unanswered {
        why: "connection refused".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_made_again_until_it_succeeds_and_told_once() {
    let world = World::new(pools(), vec![]).start().await;
    world
        .mood()
        .refuse
        .extend(std::iter::repeat_with(down).take(6));
    world.apply(service("a/1")).await;
    assert_eq!(world.server().shows("a/1"), "");
    assert_eq!(world.told(), Vec::<String>::new());
    world.pass(Duration::from_secs(90)).await;
    assert_eq!(world.server().shows("a/1"), "10.0.0.1");
    assert_eq!((world.writes().len(), world.told().len()), (1, 1));
    assert_eq!(world.server().tried.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_be_written_holds_up_no_other() {
    let world = World::new(pools(), vec![]).start().await;
    world.mood().never = Some(key("a/0"));
    for i in 0..30 {
        world.server().apply(service(&format!("a/{i}")).build());
    }
    world.rest().await;
    assert_eq!(world.writes().len(), 29);
    world.pass(Duration::from_secs(600)).await;
    let tried = world.server().tried.len();
    assert!(tried < 29 + 20, "{tried} attempts in ten minutes");
    world.mood().never = None;
    world.pass(Duration::from_secs(80)).await;
    assert_eq!(world.server().shows("a/0"), "10.0.0.1");
}

#[tokio::test(start_paused = true)]
async fn only_some_writes_are_under_way_together() {
    let world = World::new(pools(), vec![]).start().await;
    world.mood().slow = Duration::from_secs(1);
    for i in 0..20 {
        world.server().apply(service(&format!("a/{i}")).build());
    }
    world.pass(Duration::from_millis(1_500)).await;
    assert_eq!(world.writes().len(), AT_ONCE);
    world.pass(Duration::from_secs(3)).await;
    assert_eq!(world.writes().len(), 20 - AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn what_was_written_is_not_written_again_while_the_watch_lags() {
    let world = World::new(pools(), vec![]).start().await;
    world.server().apply(service("a/1").build());
    world.pass(Duration::from_millis(1)).await;
    world.mood().silent = true;
    world.pass(Duration::from_secs(30)).await;
    assert_eq!(world.writes().len(), 1);
    world.mood().silent = false;
    world.pass(Duration::from_secs(600)).await;
    assert_eq!(world.writes(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_goes_while_it_is_written_is_forgotten() {
    let world = World::new(pools(), vec![]).start().await;
    world.mood().slow = Duration::from_secs(2);
    world.apply(service("a/1")).await;
    world.server().delete(&key("a/1"));
    world.pass(Duration::from_secs(300)).await;
    assert_eq!((world.writes(), world.told()), (vec![], vec![]));
    assert_eq!(world.server().tried.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_who_undoes_what_was_written_meets_ever_longer_pauses() {
    let world = World::new(pools(), vec![]).start().await;
    world.apply(service("a/1")).await;
    for _ in 0..600 {
        {
            let mut server = world.server();
            let mut theirs = server.services[&key("a/1")].clone();
            theirs.ingress = vec![IngressAddress {
                ip: ip("192.0.2.1"),
                vip: true,
            }];
            let change = ferrolb_api::change::Change::Upsert(ferrolb_api::object::Object::Service(
                std::sync::Arc::new(theirs.clone()),
            ));
            if server.services.insert(key("a/1"), theirs.clone()) != Some(theirs) {
                server.untold.push(change);
            }
        }
        world.pass(Duration::from_secs(1)).await;
    }
    let (writes, events) = (world.writes().len(), world.told().len());
    assert!((5..=20).contains(&writes), "{writes} writes in ten minutes");
    assert!(events <= 20, "{events} events in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_flaps_makes_few_events() {
    let world = World::new(pools(), vec![]).start().await;
    for i in 0..100 {
        let asks = format!("192.0.2.{i}");
        world.apply(service("a/1").asks(&asks)).await;
    }
    let told = world.told();
    assert!((10..=12).contains(&told.len()), "{}", told.len());
    assert!(told[0].starts_with(
        "a/1 AllocationFailed: OutsidePools: spec.loadBalancerIP: it asks for 192.0.2.0"
    ));
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_stops_waits_for_what_is_under_way_and_begins_nothing() {
    let mut world = World::new(pools(), vec![]).start().await;
    world.mood().slow = Duration::from_secs(1);
    for i in 0..20 {
        world.server().apply(service(&format!("a/{i}")).build());
    }
    world.pass(Duration::from_millis(500)).await;
    assert_eq!(world.writes(), vec![]);
    world.stop().await;
    assert_eq!(world.writes().len(), AT_ONCE);
    assert_eq!(world.server().tried.len(), AT_ONCE);
    world.mood().slow = Duration::ZERO;
    world.restart(vec![]).await;
    assert_eq!(world.writes().len(), 20 - AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn a_controller_stops_in_time_although_the_api_server_answers_nothing() {
    let mut world = World::new(pools(), vec![]).start().await;
    world.mood().slow = Duration::from_secs(3600);
    world.apply(service("a/1")).await;
    let began = tokio::time::Instant::now();
    world.stop().await;
    assert_eq!(began.elapsed(), STOP_WITHIN);
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_has_nothing_under_way_stops_at_once() {
    let mut world = World::new(pools(), vec![service("a/1")]).start().await;
    let began = tokio::time::Instant::now();
    world.stop().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[test]
fn a_pool_that_cannot_be_used_gets_an_event_once() {
    let now = std::time::Instant::now();
    let mut core = Core::new(Settings::default());
    let lan = ObjectKey::new("metallb-system", "lan");
    let text = "is no range".to_owned();
    let unreadable = Problem::new(
        Subject::object_of(Kind::IpAddressPool, lan.clone()),
        Cause::Invalid { text },
    );
    let unreadable = unreadable.field("spec.addresses[0]").so(Consequence::Kept);
    let broken = Batch {
        problems: Some(vec![unreadable]),
        ..Batch::default()
    };
    let events = core.batch(broken.clone(), now);
    let said: Vec<_> = events
        .iter()
        .map(|e| (e.of, &e.object, e.note.as_str()))
        .collect();
    let note =
        "spec.addresses[0]: is no range; its previous version, if there was one, stays in force";
    assert_eq!(said, [(Kind::IpAddressPool, &lan, note)]);
    assert_eq!(core.batch(broken, now), []);
    let one = pool("one", "10.0.0.1-10.0.0.3");
    let two = pool("two", "10.0.0.3-10.0.0.4");
    let events = core.batch(batch(vec![put_pool(one), put_pool(two)]), now);
    assert_eq!(events.len(), 1);
    assert!(
        events[0].object.name == "two" && events[0].note.contains("overlaps 10.0.0.1-10.0.0.3"),
        "{events:?}"
    );
}
