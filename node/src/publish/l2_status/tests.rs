#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use ferrolb_api::ObjectKey;
use ferrolb_api::reason::Reason;

use super::{ORPHANED, Wanted};
use crate::publish::testing::{Seen, status};
use crate::report::view::{AddressStatus, NodeStatus};

/// The wanted objects, built up from one set of changes after another.
#[derive(Default)]
struct Announcements(super::Announcements, Seen, Wanted);

impl Announcements {
    fn wanted(
        &mut self,
        status: &NodeStatus,
        uid: impl Fn(&ObjectKey) -> String,
        now: Instant,
    ) -> Wanted {
        let Self(announcements, seen, wanted) = self;
        wanted.apply(seen.look(status, uid, |news| announcements.wanted(news, now)));
        wanted.clone()
    }

    fn due(&self) -> Option<Instant> {
        self.0.due()
    }
}

fn address(ip: &str, node: Option<&str>) -> AddressStatus {
    AddressStatus {
        ip: ip.parse().unwrap(),
        node: node.map(str::to_owned),
        interfaces: vec!["eth0".into()],
        reason: Reason::Announced,
    }
}

fn uid(service: &ObjectKey) -> String {
    format!("uid-of-{}", service.name)
}

fn names(wanted: &Wanted) -> (Vec<&str>, Vec<&str>) {
    let own = wanted.own.keys().map(String::as_str).collect();
    (own, wanted.orphaned.iter().map(String::as_str).collect())
}

#[test]
fn a_node_has_an_object_for_each_service_and_family_that_it_announces() {
    let both = vec![
        address("172.17.255.1", Some("a")),
        address("fd00::1", Some("a")),
    ];
    let wanted = Announcements::default().wanted(&status(both, false), uid, Instant::now());
    let own = vec!["l2-uid-of-web", "l2-uid-of-web-v6"];
    assert_eq!(names(&wanted), (own, vec![]));
    let object = &wanted.own["l2-uid-of-web"];
    assert_eq!(object.service, ObjectKey::new("default", "web"));
    assert_eq!(object.interfaces, ["eth0"]);
}

#[test]
fn what_another_node_announces_is_that_nodes() {
    let theirs = status(vec![address("172.17.255.1", Some("b"))], true);
    let wanted = Announcements::default().wanted(&theirs, uid, Instant::now());
    assert_eq!(wanted, Wanted::default());
}

#[test]
fn what_nobody_announces_for_a_while_is_taken_away_by_the_elected_member() {
    let start = Instant::now();
    let nobodys = |elected| status(vec![address("172.17.255.1", None)], elected);
    let mut other = Announcements::default();
    let mut elected = Announcements::default();
    // A failover takes half a second.
    for after in [Duration::ZERO, ORPHANED / 2] {
        let wanted = elected.wanted(&nobodys(true), uid, start + after);
        assert_eq!(wanted, Wanted::default());
    }
    assert_eq!(elected.due(), Some(start + ORPHANED));
    let wanted = elected.wanted(&nobodys(true), uid, start + ORPHANED);
    assert_eq!(names(&wanted), (vec![], vec!["l2-uid-of-web"]));
    assert_eq!(elected.due(), None);
    for after in [Duration::ZERO, ORPHANED * 2] {
        let wanted = other.wanted(&nobodys(false), uid, start + after);
        assert_eq!(wanted, Wanted::default());
    }
}

#[test]
fn an_address_that_was_announced_meanwhile_begins_to_be_an_orphan_anew() {
    let start = Instant::now();
    let mut elected = Announcements::default();
    let nobodys = status(vec![address("172.17.255.1", None)], true);
    let theirs = status(vec![address("172.17.255.1", Some("b"))], true);
    elected.wanted(&nobodys, uid, start);
    elected.wanted(&theirs, uid, start + ORPHANED / 2);
    let wanted = elected.wanted(&nobodys, uid, start + ORPHANED);
    assert_eq!(wanted, Wanted::default());
}

#[test]
fn a_service_that_no_api_server_knows_has_no_object() {
    let own = status(vec![address("172.17.255.1", Some("a"))], false);
    let unknown = |_: &ObjectKey| String::new();
    let wanted = Announcements::default().wanted(&own, unknown, Instant::now());
    assert_eq!(wanted, Wanted::default());
}
