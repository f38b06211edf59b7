//! Temporary outages of the controller and of the API server. They change nothing.

use std::net::Ipv4Addr;
use std::time::Duration;

use ferrolb_tests::client::{arp, mac};
use ferrolb_tests::rows::ADDRESSES;
use ferrolb_tests::wait;
use nix::sys::signal::Signal;

use crate::needs;
use crate::story::{SOON, Story};

/// Accounts, and some of what they list.
const LISTED: [(&str, &str); 3] = [
    ("controller", "services"),
    ("node", "endpointslices"),
    ("node", "nodes"),
];

/// Checks the time since there were this many writes and events: no other Service was written, and there are no more events than
/// those about this one.
fn only_about(story: &Story, name: &str, writes: usize, events: usize) {
    let all = story.writes();
    let new = all[writes..].iter().map(|w| &w.object_ref);
    let others: Vec<_> = new
        .filter(|o| o.resource == "services" && o.name != name)
        .collect();
    assert!(others.is_empty(), "{others:?}");
    let more = story.events() - events;
    assert!(more <= 6, "{more} events more");
}

#[test]
fn a_restart_of_the_controller_changes_and_writes_nothing() {
    needs!("a_restart_of_the_controller_changes_and_writes_nothing");
    let mut story = Story::begin();
    let (before, events) = (story.writes().len(), story.events());
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let controller = story
            .cluster
            .api
            .as_mut()
            .unwrap()
            .controller
            .as_mut()
            .unwrap();
        controller.signal(signal);
        assert!(
            controller.wait(Duration::from_secs(10)).is_some(),
            "it ends"
        );
        story.cluster.start_controller();
        // The controller works: one more Service is created and deleted.
        story.create("probe");
        story.is_given("default", "probe", Ipv4Addr::new(172, 17, 255, 4));
        story.kubectl(&["delete", "svc", "probe"]);
    }
    story.has_addresses();
    only_about(&story, "probe", before, events);
}

#[test]
fn an_api_server_that_is_away_for_a_minute_and_forgets_the_past_changes_nothing() {
    needs!("an_api_server_that_is_away_for_a_minute_and_forgets_the_past_changes_nothing");
    let story = Story::begin();
    let announcers = story.announcers();
    story.has_announcers();
    let (before, events) = (story.writes().len(), story.events());
    let told = story.writes_of_announcers();
    let lists = LISTED.map(|(name, resource)| story.lists(name, resource));
    story.plane.stop_apiserver();
    let begin = std::time::Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        for address in ADDRESSES {
            let wanted = mac(story.cluster.node(&announcers[&address]).netns(), "eth0");
            assert_eq!(
                arp(&story.cluster.client.netns, address),
                [wanted],
                "{address}"
            );
        }
    }
    story.plane.compact_etcd();
    story.plane.start_apiserver();
    // All watches work again: a new Service gets its address and is announced.
    story.create("later");
    story.is_answered(Ipv4Addr::new(172, 17, 255, 4));
    story.has_addresses();
    assert_eq!(story.announcers(), announcers);
    // Their versions were forgotten (410 Gone): all of them list again, but not over and over.
    for (before, (name, resource)) in lists.iter().zip(LISTED) {
        let daemons = if name == "node" { 3 } else { 1 };
        let more = || story.lists(name, resource) - before;
        wait::expect(&format!("{name} lists {resource}"), SOON, || {
            (more() >= daemons).then_some(()).ok_or_else(more)
        });
        let more = more();
        assert!(more <= 3 * daemons, "{more} lists of {resource} by {name}");
    }
    // Only the new Service's announcer had to be reported.
    let told = story.writes_of_announcers() - told;
    assert!(told <= 2, "{told} writes about announcers");
    only_about(&story, "later", before, events);
}
