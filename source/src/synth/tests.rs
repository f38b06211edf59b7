#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use ferrolb_api::view::{ContainerPort, Protocol};
use proptest::prelude::*;

use super::*;

fn service(name: &str, app: &str, target: TargetPort) -> Service {
    Service {
        key: ObjectKey::new("default", name),
        selector: [("app", app)].into(),
        ports: vec![ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            target_port: target,
            node_port: None,
        }],
        ..Service::default()
    }
}

fn pod(name: &str, app: &str, last: u8, port: u16) -> Pod {
    Pod {
        key: ObjectKey::new("default", name),
        labels: [("app", app)].into(),
        ips: vec![[10, 0, 0, last].into()],
        node: Some("n1".into()),
        ports: vec![ContainerPort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port,
        }],
        ready: true,
        ..Pod::default()
    }
}

fn named() -> TargetPort {
    TargetPort::Name("http".into())
}

fn up(object: Object) -> Change {
    Change::Upsert(object)
}

fn up_service(s: Service) -> Change {
    up(Object::Service(Arc::new(s)))
}

fn up_pod(p: Pod) -> Change {
    up(Object::Pod(Arc::new(p)))
}

fn batch(changes: Vec<Change>) -> Batch {
    Batch {
        changes,
        problems: None,
        ..Batch::default()
    }
}

/// The slices in a batch: name, port and last octets; a removed slice has no octets.
fn made(batch: &Batch) -> Vec<(String, u16, Vec<u8>)> {
    batch
        .changes
        .iter()
        .filter_map(|c| match c {
            Change::Upsert(Object::EndpointSlice(s)) => Some((
                s.key.name.clone(),
                s.ports.first().map_or(0, |p| p.port),
                s.endpoints
                    .iter()
                    .map(|e| match e.address {
                        std::net::IpAddr::V4(a) => a.octets()[3],
                        std::net::IpAddr::V6(_) => 6,
                    })
                    .collect(),
            )),
            Change::Remove(Kind::EndpointSlice, key) => Some((key.name.clone(), 0, vec![])),
            _ => None,
        })
        .collect()
}

#[test]
fn pods_become_the_slice_of_the_service_that_selects_them() {
    let mut synth = Synth::default();
    let got = synth.apply(batch(vec![
        up_pod(pod("b", "web", 2, 8000)),
        up_pod(pod("a", "web", 1, 8000)),
        up_pod(pod("c", "other", 3, 8000)),
        up_service(service("web", "web", named())),
    ]));
    assert_eq!(
        made(&got),
        [("web-ferrolb-ipv4-0".to_owned(), 8000, vec![1, 2])]
    );
    assert!(
        matches!(got.changes[0], Change::Upsert(Object::EndpointSlice(_))),
        "the endpoints go before their Service"
    );
}

#[test]
fn pods_whose_named_port_differs_are_in_different_slices() {
    let mut synth = Synth::default();
    let got = synth.apply(batch(vec![
        up_service(service("web", "web", named())),
        up_pod(pod("a", "web", 1, 8000)),
        up_pod(pod("b", "web", 2, 9000)),
        up_pod(pod("c", "web", 3, 8000)),
    ]));
    assert_eq!(
        made(&got),
        [
            ("web-ferrolb-ipv4-0".to_owned(), 8000, vec![1, 3]),
            ("web-ferrolb-ipv4-1".to_owned(), 9000, vec![2])
        ]
    );
}

#[test]
fn each_family_has_its_slice() {
    let mut both = pod("a", "web", 1, 8000);
    both.ips.push("2001:db8::1".parse().unwrap());
    let mut synth = Synth::default();
    let got = synth.apply(batch(vec![
        up_service(service("web", "web", named())),
        up_pod(both),
    ]));
    let names: Vec<String> = made(&got).into_iter().map(|m| m.0).collect();
    assert_eq!(names, ["web-ferrolb-ipv4-0", "web-ferrolb-ipv6-0"]);
}

#[test]
fn readiness_follows_the_endpointslice_controller() {
    // (ready, terminating, publishNotReadyAddresses) -> (ready, serving, terminating)
    for (input, expected) in [
        ((true, false, false), (true, true, false)),
        ((false, false, false), (false, false, false)),
        ((true, true, false), (false, true, true)),
        ((false, true, false), (false, false, true)),
        ((false, false, true), (true, false, false)),
        ((true, true, true), (true, true, true)),
    ] {
        let mut p = pod("a", "web", 1, 8000);
        (p.ready, p.terminating) = (input.0, input.1);
        let mut s = service("web", "web", named());
        s.publish_not_ready = input.2;
        let slices = slices(&s, std::iter::once(&p));
        let e = &slices[0].endpoints[0];
        assert_eq!((e.ready, e.serving, e.terminating), expected, "{input:?}");
    }
}

#[test]
fn finished_pods_and_pods_without_an_address_are_no_endpoints() {
    let mut finished = pod("a", "web", 1, 8000);
    finished.finished = true;
    let mut waiting = pod("b", "web", 2, 8000);
    waiting.ips.clear();
    let got = Synth::default().apply(batch(vec![
        up_service(service("web", "web", named())),
        up_pod(finished),
        up_pod(waiting),
    ]));
    assert_eq!(made(&got), []);
}

#[test]
fn a_service_without_selector_gets_no_slice() {
    let mut s = service("web", "web", named());
    s.selector = ferrolb_api::Labels::default();
    let got = Synth::default().apply(batch(vec![up_service(s), up_pod(pod("a", "web", 1, 80))]));
    assert_eq!(made(&got), []);
}

#[test]
fn a_slice_of_its_own_goes_before_pods_and_gives_way_again() {
    let own = EndpointSlice {
        key: ObjectKey::new("default", "mine"),
        service: "web".into(),
        ..EndpointSlice::default()
    };
    let mut synth = Synth::default();
    synth.apply(batch(vec![
        up_service(service("web", "web", named())),
        up_pod(pod("a", "web", 1, 8000)),
    ]));
    let got = synth.apply(batch(vec![up(Object::EndpointSlice(Arc::new(
        own.clone(),
    )))]));
    assert_eq!(
        made(&got),
        [
            ("mine".to_owned(), 0, vec![]),
            ("web-ferrolb-ipv4-0".to_owned(), 0, vec![])
        ]
    );
    let got = synth.apply(batch(vec![Change::Remove(Kind::EndpointSlice, own.key)]));
    assert_eq!(
        made(&got)[0],
        ("web-ferrolb-ipv4-0".to_owned(), 8000, vec![1])
    );
}

#[test]
fn only_slices_that_changed_are_in_a_batch() {
    let mut synth = Synth::default();
    synth.apply(batch(vec![
        up_service(service("web", "web", named())),
        up_service(service("api", "api", named())),
        up_pod(pod("a", "web", 1, 8000)),
        up_pod(pod("b", "api", 2, 8000)),
    ]));
    let mut labelled = pod("b", "api", 2, 8000);
    labelled.labels = [("app", "api"), ("more", "labels")].into();
    assert_eq!(made(&synth.apply(batch(vec![up_pod(labelled)]))), []);
    let moved = synth.apply(batch(vec![up_pod(pod("b", "web", 2, 8000))]));
    assert_eq!(
        made(&moved),
        [
            ("web-ferrolb-ipv4-0".to_owned(), 8000, vec![1, 2]),
            ("api-ferrolb-ipv4-0".to_owned(), 0, vec![])
        ]
    );
    let gone = synth.apply(batch(vec![Change::Remove(
        Kind::Service,
        ObjectKey::new("default", "web"),
    )]));
    assert_eq!(made(&gone), [("web-ferrolb-ipv4-0".to_owned(), 0, vec![])]);
}

proptest! {
    /// All batches together give the same result as a single batch of the final state.
    #[test]
    fn step_by_step_ends_where_all_at_once_ends(steps in proptest::collection::vec((0u8..4, 0u8..3, 0u8..3, any::<bool>()), 0..40)) {
        let mut synth = Synth::default();
        let mut seen: BTreeMap<ObjectKey, EndpointSlice> = BTreeMap::new();
        let mut pods: BTreeMap<u8, Pod> = BTreeMap::new();
        let apps = ["web", "api", "none"];
        let mut services: BTreeMap<u8, Service> = BTreeMap::new();
        let absorb = |seen: &mut BTreeMap<ObjectKey, EndpointSlice>, batch: Batch| {
            for change in batch.changes {
                match change {
                    Change::Upsert(Object::EndpointSlice(s)) => { seen.insert(s.key.clone(), Arc::unwrap_or_clone(s)); }
                    Change::Remove(Kind::EndpointSlice, key) => { seen.remove(&key); }
                    _ => {}
                }
            }
        };
        for (n, app, port, is_pod) in steps {
            let app_name = apps[usize::from(app)];
            let change = match (is_pod, port) {
                (true, 0) => { let p = pods.remove(&n).unwrap_or_else(|| pod(&format!("p{n}"), app_name, n, 1)); Change::Remove(Kind::Pod, p.key) }
                (true, _) => { let p = pod(&format!("p{n}"), app_name, n, 8000 + u16::from(port)); pods.insert(n, p.clone()); up_pod(p) }
                (false, 0) => { services.remove(&n); Change::Remove(Kind::Service, ObjectKey::new("default", format!("s{n}"))) }
                (false, _) => { let s = service(&format!("s{n}"), app_name, named()); services.insert(n, s.clone()); up_service(s) }
            };
            absorb(&mut seen, synth.apply(batch(vec![change])));
        }
        let mut whole = BTreeMap::new();
        let all = pods.into_values().map(up_pod).chain(services.into_values().map(up_service)).collect();
        absorb(&mut whole, Synth::default().apply(batch(all)));
        prop_assert_eq!(seen, whole);
    }
}
