//! Which Service gets a key that two Services want.

use std::net::SocketAddr;

use ferrolb_api::change::Change;
use ferrolb_api::object::Kind;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::{Protocol, Service, ServiceType};

use super::super::Reach::{self, ClusterIp, External, LoadBalancer, NodePort};
use super::{problems, refusals};
use crate::kernel::memory::Outcome;
use crate::testing::{World, balanced, ip, served, service, upsert_service};

const KINDS: [Reach; 4] = [ClusterIp, LoadBalancer, NodePort, External];

/// A Service that wants port 80 of an address of this kind.
fn wanting(name: &str, kind: Reach, addr: &str) -> Service {
    let mut s = service(name);
    match kind {
        ClusterIp => s.cluster_ips = vec![ip(addr)],
        LoadBalancer => s = balanced(s, addr),
        External => s.external_ips = vec![ip(addr)],
        NodePort => {
            s.service_type = ServiceType::NodePort;
            // One family, that of the address.
            s.cluster_ips = vec![ip(&format!("10.96.0.{}", name.as_bytes()[0]))];
            // Its Service port differs, so only the node port is on the node's address.
            s.ports[0].port = 81;
            s.ports[0].node_port = Some(80);
        }
    }
    s
}

/// The pods that answer: `a1` for the first Service, `a2` for the second.
fn reached(world: &mut World, addr: &str) -> String {
    let mut seen = Vec::new();
    for _ in 0..4 {
        let to = SocketAddr::new(ip(addr), 80);
        match world.send(ip("client"), to, Protocol::Tcp) {
            Outcome::Delivered(to, _) => seen.push(to.ip()),
            other => panic!("{other:?}"),
        }
    }
    seen.dedup();
    let names = ["a1", "a2"]
        .into_iter()
        .filter(|name| seen.contains(&ip(name)));
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_stronger_kind_of_address_has_a_key_whatever_names_ages_and_order() {
    for (i, strong) in KINDS.into_iter().enumerate() {
        for weak in KINDS.into_iter().skip(i + 1) {
            for way in 0..8 {
                let addr = if [strong, weak].contains(&NodePort) {
                    "A"
                } else {
                    "198.51.100.8"
                };
                let names = if way & 1 == 0 {
                    ["one", "two"]
                } else {
                    ["two", "one"]
                };
                let mut winner = wanting(names[0], strong, addr);
                let mut loser = wanting(names[1], weak, addr);
                let ages = if way & 2 == 0 { [1, 2] } else { [2, 1] };
                (winner.created, loser.created) = (Some(ages[0]), Some(ages[1]));
                let case = format!(
                    "{strong} before {weak}, {names:?}, {ages:?}, order {}",
                    way & 4
                );
                let mut world = World::on("A");
                let mut changes = [served(&winner, &["a1"]), served(&loser, &["a2"])];
                if way & 4 != 0 {
                    changes.reverse();
                }
                for change in changes {
                    world.change(change);
                }
                assert_eq!(reached(&mut world, addr), "a1", "{case}");
                let [(at, reason)] = refusals(&world, names[1]).try_into().unwrap();
                assert_eq!(at, format!("{}:80", ip(addr)), "{case}");
                assert!(
                    matches!(reason, Reason::PortClash | Reason::AddressOwned),
                    "{case}"
                );
                let [problem] = problems(&world, names[1]).try_into().unwrap();
                let winner_name = format!("Service default/{}", names[0]);
                assert!(
                    problem.message().contains(&winner_name),
                    "{case}: {problem}"
                );
                assert!(problems(&world, names[0]).is_empty(), "{case}");

                // The winner is removed and the loser gets the key. The winner returns and the loser gives it up again.
                world.change(vec![Change::Remove(Kind::Service, winner.key.clone())]);
                assert_eq!(reached(&mut world, addr), "a2", "{case}");
                assert!(refusals(&world, names[1]).is_empty(), "{case}");
                world.change(vec![upsert_service(&winner)]);
                assert_eq!(reached(&mut world, addr), "a1", "{case}");
            }
        }
    }
}

#[test]
fn within_a_kind_whoever_was_first_has_a_key_and_the_name_says_nothing() {
    type Age = (Option<i64>, &'static str);
    // (creation time, uid) of `app` and of `web`, and the winner.
    let cases: [(Age, Age, &str); 7] = [
        ((Some(1), "b"), (Some(2), "a"), "app"),
        ((Some(2), "a"), (Some(1), "b"), "web"),
        ((Some(1), "b"), (Some(1), "a"), "web"),
        ((Some(1), "a"), (Some(1), "b"), "app"),
        ((None, "a"), (Some(9), "b"), "web"),
        ((Some(9), ""), (None, ""), "app"),
        ((None, ""), (None, ""), "app"),
    ];
    for kind in KINDS {
        let addr = if kind == NodePort {
            "A"
        } else {
            "198.51.100.8"
        };
        for ((app_created, app_uid), (web_created, web_uid), holder) in cases {
            let (mut app, mut web) = (wanting("app", kind, addr), wanting("web", kind, addr));
            (app.created, app.uid) = (app_created, app_uid.to_owned());
            (web.created, web.uid) = (web_created, web_uid.to_owned());
            let mut world = World::on("A");
            world.change(served(&web, &["a2"]));
            world.change(served(&app, &["a1"]));
            let (pod, other) = if holder == "app" {
                ("a1", "web")
            } else {
                ("a2", "app")
            };
            assert_eq!(
                reached(&mut world, addr),
                pod,
                "{kind} {app_created:?} {web_created:?}"
            );
            let [(_, reason)] = refusals(&world, other).try_into().unwrap();
            assert_eq!(reason, Reason::PortClash);
            let [problem] = problems(&world, other).try_into().unwrap();
            let expected = format!("belongs to Service default/{holder}, which was created first");
            assert!(problem.message().contains(&expected), "{problem}");
        }
    }
}

#[test]
fn a_service_that_is_made_anew_under_its_name_is_a_newcomer() {
    let mut world = World::on("A");
    let (mut app, mut web) = (
        balanced(service("app"), "198.51.100.8"),
        balanced(service("web"), "198.51.100.8"),
    );
    (app.created, web.created) = (Some(1), Some(2));
    world.change(served(&app, &["a1"]));
    world.change(served(&web, &["a2"]));
    assert_eq!(reached(&mut world, "198.51.100.8"), "a1");
    app.created = Some(3);
    world.change(vec![upsert_service(&app)]);
    assert_eq!(reached(&mut world, "198.51.100.8"), "a2");
    assert_eq!(refusals(&world, "app").len(), 1);
    assert_eq!(refusals(&world, "web"), []);
}

#[test]
fn services_share_an_external_address_on_different_ports() {
    let mut world = World::on("A");
    let mut one = wanting("one", External, "198.51.100.8");
    let mut two = wanting("two", External, "198.51.100.8");
    two.ports[0].port = 81;
    (one.created, two.created) = (Some(1), Some(2));
    world.change(served(&one, &["a1"]));
    world.change(served(&two, &["a2"]));
    assert_eq!(
        (refusals(&world, "one"), refusals(&world, "two")),
        (vec![], vec![])
    );
}

#[test]
fn a_newcomer_that_gets_nothing_makes_nobody_else_decide_anew() {
    let mut world = World::on("A");
    let mut all: Vec<Service> = (0..5)
        .map(|n| wanting(&format!("s{n}"), External, "198.51.100.8"))
        .collect();
    for (age, s) in (0..).zip(&mut all) {
        s.created = Some(age);
        let touched = world.decide(served(s, &["a1"]));
        assert_eq!(touched.services.len(), 1, "{}", s.key);
        world.put(&touched);
    }
    // The holder is removed. The next one gets the key, and all others are recomputed.
    let touched = world.decide(vec![Change::Remove(Kind::Service, all[0].key.clone())]);
    assert_eq!(touched.services.len(), 5);
}
