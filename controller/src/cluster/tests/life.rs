//! The life cycle of a Service.

use std::time::Duration;

use ferrolb_api::change::Change;
use ferrolb_api::legacy::LegacyConfig;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::ownership::Owner;
use ferrolb_api::ownership::neighbour::LinkAddress;
use ferrolb_api::problem::{Cause, Problem, Subject};
use ferrolb_api::refusal::Refusal;
use ferrolb_api::view::service::DualStack;
use ferrolb_api::view::{IngressAddress, Protocol};

use super::super::lease::Found;
use super::world::World;
use crate::testing::*;

fn pools() -> Vec<Change> {
    vec![put_pool(pool("default", "172.17.255.1-172.17.255.3"))]
}

#[tokio::test(start_paused = true)]
async fn an_assignment_is_one_write_and_one_event() {
    let world = World::new(pools(), vec![]).start().await;
    world.apply(service("default/web")).await;
    let writes = world.writes();
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].addresses, ips("172.17.255.1"));
    assert_eq!(writes[0].pool.as_deref(), Some("default"));
    assert_eq!(
        world.told(),
        [r#"default/web IPAllocated: Assigned IP ["172.17.255.1"]"#]
    );
}

#[tokio::test(start_paused = true)]
async fn an_address_that_a_node_found_to_be_a_hosts_is_replaced_and_the_pool_says_so() {
    let services = [service("a/1"), service("a/2").asks("172.17.255.2")];
    let world = World::new(pools(), services.into()).start().await;
    world.writes();
    world.told();
    let host = Owner::Host(LinkAddress(vec![2, 0, 0, 0, 0, 9]));
    let found = ips("172.17.255.1,172.17.255.2").into_iter();
    let found: Found = found.map(|addr| (addr, host.clone())).collect();
    world.found.send_replace(found);
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(world.server().shows("a/1"), "172.17.255.3");
    assert_eq!(
        world.server().shows("a/2"),
        "172.17.255.2",
        "it asks for no other"
    );
    let told = world.told();
    let says = |what: &str| told.iter().any(|event| event.contains(what));
    assert!(says("host 02:00:00:00:00:09"), "{told:?}");
    assert!(says("a/2 AllocationFailed: AddressOwned"), "{told:?}");
    assert_eq!(world.writes().len(), 1);
    world.found.send_replace(Found::new());
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(
        world.server().shows("a/1"),
        "172.17.255.3",
        "nobody moves back"
    );
    assert_eq!(world.writes(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn what_nodes_found_before_the_first_list_counts() {
    let mut world = World::new(pools(), vec![service("a/1")]);
    let host = Owner::Host(LinkAddress(vec![2, 0, 0, 0, 0, 9]));
    let found = ips("172.17.255.1")
        .into_iter()
        .map(|addr| (addr, host.clone()));
    world.found.send_replace(found.collect());
    world.restart(vec![]).await;
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(world.server().shows("a/1"), "172.17.255.2");
}

#[tokio::test(start_paused = true)]
async fn an_update_that_changes_nothing_is_no_write() {
    let world = World::new(pools(), vec![service("default/web")])
        .start()
        .await;
    world.writes();
    world.told();
    world.apply(service("default/web").labelled("a=b")).await;
    world
        .apply(service("default/web").port(Protocol::Tcp, 81))
        .await;
    world.pass(Duration::from_secs(600)).await;
    assert_eq!((world.writes(), world.told()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_restart_writes_nothing_moves_nobody_and_says_again_who_waits() {
    let mut world = World::new(pools(), ["a/1", "a/2", "a/3", "a/4"].map(service).into())
        .start()
        .await;
    world.delete("a/1").await;
    let before = world.server().services.clone();
    assert_eq!(world.server().shows("a/4"), "172.17.255.1");
    world.apply(service("a/5")).await;
    world.writes();
    world.told();
    for _ in 0..3 {
        world.restart(vec![]).await;
        world.pass(Duration::from_secs(120)).await;
        let told = world.told();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("a/5 AllocationFailed: PoolExhausted"));
    }
    assert_eq!(world.writes(), vec![]);
    let after = world.server().services.clone();
    for (key, service) in before {
        assert_eq!(after[&key].ingress, service.ingress);
    }
}

#[tokio::test(start_paused = true)]
async fn addresses_of_a_pool_that_is_missing_or_unreadable_at_the_start_are_left_alone() {
    let mut world = World::new(pools(), vec![service("a/1")]).start().await;
    world.writes();
    world.told();
    world.stop().await;
    world.server().others.clear();
    world.restart(vec![]).await;
    world.stop().await;
    world.server().others = vec![put_pool(pool("other", "10.9.0.1-10.9.0.9"))];
    let pool = Subject::object_of(Kind::IpAddressPool, key("metallb-system/default"));
    let cause = Cause::Invalid {
        text: "this is no range".into(),
    };
    let unreadable = Problem::new(pool, cause).field("spec.addresses[0]");
    world.restart(vec![unreadable]).await;
    assert_eq!(world.writes(), vec![]);
    let told = world.told();
    let kept = |t: &String| t.starts_with("a/1 AllocationFailed") && t.contains("it keeps");
    let of_pool = told
        .iter()
        .filter(|t| t.starts_with("metallb-system/default InvalidPool: "));
    assert_eq!(of_pool.count(), 1, "{told:?}");
    assert_eq!(told.iter().filter(|t| kept(t)).count(), 2, "{told:?}");
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(world.server().shows("a/1"), "172.17.255.1");
}

#[tokio::test(start_paused = true)]
async fn where_the_kind_of_pools_is_not_known_a_configmap_alone_moves_services() {
    let legacy = |range: &str| {
        let key = key("metallb-system/config");
        let config = LegacyConfig::new(key, vec![pool("default", range)], vec![]);
        Change::Upsert(Object::LegacyConfig(config.into()))
    };
    let pools = vec![legacy("172.17.255.1-172.17.255.3")];
    let mut world = World::new(pools, vec![service("a/1")]).start().await;
    let pools = Subject::Kind {
        kind: Kind::IpAddressPool,
    };
    let refusal = Refusal::UnknownKind {
        kind: "ipaddresspools.metallb.io".into(),
    };
    let unknown = Problem::new(pools, Cause::Api { refusal });
    world.restart(vec![unknown]).await;
    world.other(legacy("10.9.0.1-10.9.0.9")).await;
    assert_eq!(world.server().shows("a/1"), "10.9.0.1");
}

#[tokio::test(start_paused = true)]
async fn pools_that_come_and_go_are_no_news_to_those_that_wait_all_the_same() {
    let many = ["a/1", "a/2", "a/3", "a/4", "a/5"].map(service).into();
    let world = World::new(pools(), many).start().await;
    assert_eq!(world.told().len(), 5);
    let mut reserved = pool("reserved", "10.9.0.1-10.9.0.9");
    reserved.auto_assign = false;
    world.other(put_pool(reserved)).await;
    world
        .other(put_pool(pool("six", "2001:db8::1-2001:db8::9")))
        .await;
    assert_eq!(world.told(), Vec::<String>::new());
    // A Service whose request changes to something else that is missing gets an event about that too.
    world.apply(service("a/5").pool("nowhere")).await;
    assert_eq!(world.told().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_while_two_pools_overlap_moves_nobody_from_one_to_the_other() {
    let pools = vec![put_pool(pool("b", "10.0.0.4-10.0.0.5"))];
    let mut world = World::new(pools, vec![service("x/web")]).start().await;
    // Before the restart the older pool is in force; after it, the pool whose name comes first.
    world.other(put_pool(pool("a", "10.0.0.1-10.0.0.4"))).await;
    world.writes();
    world.restart(vec![]).await;
    world.pass(Duration::from_secs(120)).await;
    assert_eq!(world.writes(), vec![]);
    assert_eq!(world.server().shows("x/web"), "10.0.0.4");
    assert_eq!(world.server().noted("x/web").as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn of_two_that_clash_at_the_start_neither_loses_its_address_until_one_changes() {
    let tcp = || service("x/tcp").shares("k").asks("172.17.255.1");
    let udp = || service("x/udp").shares("k").asks("172.17.255.1");
    let port = |s: crate::testing::Builder, protocol| s.port(protocol, 53);
    let both = vec![port(tcp(), Protocol::Tcp), port(udp(), Protocol::Udp)];
    let mut world = World::new(pools(), both).start().await;
    world.stop().await;
    world.apply(port(tcp(), Protocol::Udp)).await;
    world.writes();
    world.restart(vec![]).await;
    assert_eq!(world.writes(), vec![]);
    let told = world.told().join("; ");
    assert!(told.contains("x/udp AllocationFailed: PortClash"), "{told}");
    for name in ["x/tcp", "x/udp"] {
        assert_eq!(world.server().shows(name), "172.17.255.1");
    }
    // A repaired problem is dropped from the reports, and a Service that changes into a clash has to move.
    world.apply(port(tcp(), Protocol::Tcp)).await;
    world.apply(port(tcp(), Protocol::Udp)).await;
    assert_eq!(world.server().shows("x/udp"), "172.17.255.1");
    assert_eq!(world.server().shows("x/tcp"), "");
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_the_status_that_is_no_address_of_ours_is_taken_out() {
    let world = World::new(pools(), vec![service("a/1")]).start().await;
    let mut named = world.server().services[&key("a/1")].clone();
    named.ingress_is_mixed = true;
    world.server().store_as_it_is(named);
    world.pass(Duration::from_secs(120)).await;
    assert!(!world.server().services[&key("a/1")].ingress_is_mixed);
    assert_eq!(world.server().shows("a/1"), "172.17.255.1");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_another_load_balancer_shows_is_not_given_to_anybody() {
    let mut theirs = service("x/theirs").class("other").build();
    theirs.ingress = vec![IngressAddress {
        ip: ips("172.17.255.1")[0],
        vip: true,
    }];
    let mut world = World::new(pools(), vec![]).start().await;
    world.server().store_as_it_is(theirs.clone());
    world.rest().await;
    world.apply(service("x/ours")).await;
    assert_eq!(world.server().shows("x/ours"), "172.17.255.2");
    world.restart(vec![]).await;
    world.apply(service("x/asks").asks("172.17.255.1")).await;
    assert_eq!(world.server().shows("x/asks"), "");
    // The address is free again when the other load balancer removes it.
    theirs.ingress.clear();
    world.server().store_as_it_is(theirs);
    world.rest().await;
    assert_eq!(world.server().shows("x/asks"), "172.17.255.1");
    assert!(world.writes().iter().all(|w| w.key.name != "theirs"));
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_vanishes_leaves_addresses_alone_and_gives_no_new_ones() {
    let world = World::new(pools(), vec![service("a/1")]).start().await;
    world.writes();
    world.other(drop_pool("default")).await;
    world.apply(service("a/2")).await;
    assert_eq!(world.writes(), vec![]);
    let told = world.told();
    assert!(
        told.last()
            .unwrap()
            .starts_with("a/2 AllocationFailed: NoPool: "),
        "{told:?}"
    );
    world.other(pools().remove(0)).await;
    assert_eq!(world.server().shows("a/1"), "172.17.255.1");
    assert_eq!(world.server().shows("a/2"), "172.17.255.2");
}

#[tokio::test(start_paused = true)]
async fn tcp_and_udp_share_the_address_that_both_ask_for() {
    let dns = |name, protocol| {
        service(name)
            .port(protocol, 53)
            .asks("172.17.255.2")
            .shares("coredns")
    };
    let world = World::new(pools(), vec![]).start().await;
    world.apply(dns("kube-system/udp", Protocol::Udp)).await;
    world.apply(dns("kube-system/tcp", Protocol::Tcp)).await;
    assert_eq!(world.server().shows("kube-system/udp"), "172.17.255.2");
    assert_eq!(world.server().shows("kube-system/tcp"), "172.17.255.2");
    assert_eq!(world.writes().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_becomes_plain_loses_address_and_annotation_and_another_may_have_it() {
    let world = World::new(pools(), vec![service("a/1")]).start().await;
    world.told();
    world.apply(service("a/1").cluster_only()).await;
    assert_eq!(world.server().shows("a/1"), "");
    assert_eq!(world.server().noted("a/1"), None);
    assert!(world.told()[0].starts_with("a/1 ClearAssignment: "));
    world.apply(service("a/2")).await;
    assert_eq!(world.server().shows("a/2"), "172.17.255.1");
    assert_eq!(world.writes().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_deleted_service_had_goes_to_who_waits_for_it() {
    let names = ["a/1", "a/2", "a/3"];
    let world = World::new(pools(), names.map(service).into()).start().await;
    world.told();
    world.apply(service("a/4")).await;
    let told = world.told();
    assert_eq!(
        told,
        [
            "a/4 AllocationFailed: PoolExhausted: no address is left for it in default: extend a pool"
        ]
    );
    world.writes();
    world.delete("a/2").await;
    assert_eq!(world.server().shows("a/4"), "172.17.255.2");
    assert_eq!(world.writes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_made_anew_gets_its_status_again() {
    let world = World::new(pools(), vec![service("a/1")]).start().await;
    world.writes();
    world.server().delete(&key("a/1"));
    world.apply(service("a/1")).await;
    let writes = world.writes();
    assert_eq!((writes.len(), writes[0].uid.as_str()), (1, "u2"));
    assert_eq!(world.server().shows("a/1"), "172.17.255.1");
}

#[tokio::test(start_paused = true)]
async fn a_service_of_another_class_is_never_touched() {
    let mut theirs = service("a/theirs").class("other").build();
    theirs.ingress = vec![IngressAddress {
        ip: ip("192.0.2.9"),
        vip: true,
    }];
    theirs.annotations.allocated_from = Some("elsewhere".into());
    let mut plain = service("a/plain").cluster_only().build();
    plain.ingress.clone_from(&theirs.ingress);
    let mut world = World::new(pools(), vec![service("a/new").class("other")]);
    for service in [theirs, plain] {
        world.server().services.insert(service.key.clone(), service);
    }
    world.restart(vec![]).await;
    world
        .apply(service("a/theirs").class("other").labelled("a=b"))
        .await;
    assert_eq!((world.writes(), world.told()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn with_a_class_of_its_own_it_serves_that_one_alone() {
    let services = vec![service("a/1"), service("a/2").class("lan")];
    let world = World::new(pools(), services).class("lan").start().await;
    assert_eq!(world.server().shows("a/1"), "");
    assert_eq!(world.server().shows("a/2"), "172.17.255.1");
}

#[tokio::test(start_paused = true)]
async fn a_service_of_two_families_gets_both_addresses_in_one_write() {
    let pools = vec![put_pool(pool(
        "dual",
        "10.0.0.1-10.0.0.9,fd00:1::1-fd00:1::9",
    ))];
    let world = World::new(pools, vec![]).start().await;
    let both = || {
        service("a/1")
            .cluster_ip("10.96.0.7,fd00::7")
            .dual(DualStack::Require)
    };
    world.apply(both()).await;
    assert_eq!(world.server().shows("a/1"), "10.0.0.1,fd00:1::1");
    assert_eq!(world.writes().len(), 1);
    world.apply(both().labelled("a=b")).await;
    assert_eq!(world.writes(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn what_metallb_left_is_taken_over_and_the_missing_annotation_added() {
    let mut world = World::new(pools(), vec![]);
    let mut old = service("a/1").build();
    old.ingress = vec![IngressAddress {
        ip: ip("172.17.255.3"),
        vip: true,
    }];
    world.server().apply(old);
    world.restart(vec![]).await;
    assert_eq!(world.server().shows("a/1"), "172.17.255.3");
    assert_eq!(world.server().noted("a/1").as_deref(), Some("default"));
    assert_eq!((world.writes().len(), world.told()), (1, vec![]));
}
