//! Services of any size: what is shared and what is limited.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ferrolb_api::change::Change;
use ferrolb_api::object::Object;
use ferrolb_api::view::{EndpointPort, EndpointSlice, Protocol, Service};
use ferrolb_api::{Family, ObjectKey};

use super::super::{Plans, backends, fronts};
use super::problems;
use crate::state::State;
use crate::testing::{World, config, endpoint, ip, port, service, upsert_service, upsert_slice};

fn big(ports: u16) -> Service {
    let mut s = service("big");
    s.cluster_ips = vec![ip("10.96.0.9")];
    s.ports = (1..=ports).map(|n| port(n, Protocol::Tcp)).collect();
    s
}

fn slices(service: &Service, endpoints: u32) -> Vec<Change> {
    let ports: Vec<EndpointPort> = service
        .ports
        .iter()
        .map(|p| EndpointPort {
            name: p.name.clone(),
            protocol: p.protocol,
            port: p.port,
        })
        .collect();
    let addresses: Vec<u32> = (0..endpoints).collect();
    let slice = |(n, hosts): (usize, &[u32])| EndpointSlice {
        key: ObjectKey::new("default", format!("big-{n}")),
        service: "big".to_owned(),
        ports: ports.clone(),
        endpoints: hosts
            .iter()
            .map(|n| {
                let mut e = endpoint(if n % 10 == 0 { "a1" } else { "b1" });
                e.address = IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + n));
                e
            })
            .collect(),
        triggered: None,
    };
    addresses
        .chunks(1000)
        .enumerate()
        .map(|part| upsert_slice(slice(part)))
        .collect()
}

#[test]
fn a_thousand_ports_share_one_set_of_five_thousand_endpoints() {
    let service = big(1000);
    let mut state = State::new(&config("A"));
    let mut changes = slices(&service, 5000);
    changes.push(upsert_service(&service));
    changes.into_iter().for_each(|c| state.apply(c));
    let mut plans = Plans::default();
    let dirty = state.take_dirty();
    plans.update(&state, &dirty.services);
    let plan = plans.get(&service.key).unwrap();
    assert_eq!((plan.ports.len(), plan.backends.len()), (1000, 1));
    assert_eq!(plan.backends[0].len(), 5000);
    assert!(
        plan.ports
            .iter()
            .all(|p| p.targets.len() == 1 && p.targets[0].family == Family::V4)
    );
    // The number of programmed endpoints is limited, and the node's own come first.
    let used = |b: &&super::super::Backend| b.cluster.weight.is_some();
    let used: Vec<_> = plan.backends[0].iter().filter(used).collect();
    assert_eq!(used.len(), backends::MOST / 1000);
    assert!(used.iter().all(|b| b.node.as_deref() == Some("A")));
    assert_eq!(plan.limited_to, Some(backends::MOST / 1000));
}

#[test]
fn a_limited_service_keeps_what_it_has_when_an_endpoint_comes() {
    let mut world = World::on("A");
    let service = big(1000);
    let mut changes = slices(&service, 300);
    changes.push(upsert_service(&service));
    world.change(changes);
    let reals = |world: &World| {
        world
            .kernel
            .held
            .servers
            .values()
            .map(|s| s.1.len())
            .sum::<usize>()
    };
    assert_eq!(reals(&world), backends::MOST);
    let [problem] = problems(&world, "big").try_into().unwrap();
    assert!(problem.message().contains("100 endpoints"), "{problem}");
    let ops = world.change(slices(&service, 301));
    // The newcomer displaces at most one endpoint of each port. Both may have a hairpin element.
    assert!(ops.len() <= 2002, "{}", ops.len());
    assert_eq!(reals(&world), backends::MOST);
}

#[test]
fn a_service_of_usual_size_is_not_limited() {
    let mut world = World::on("A");
    let service = big(20);
    let mut changes = slices(&service, 1000);
    changes.push(upsert_service(&service));
    world.change(changes);
    assert!(problems(&world, "big").is_empty());
}

#[test]
fn addresses_times_ports_are_bounded_and_the_rest_is_refused() {
    let mut state = State::new(&config("A"));
    let mut service = big(1000);
    service.external_ips = (0..20)
        .map(|n| IpAddr::V4(Ipv4Addr::from_bits(0xcb00_7100 + n)))
        .collect();
    state.apply(Change::Upsert(Object::Service(Arc::new(service.clone()))));
    let wishes = fronts::wishes(&state, &service);
    let all: Vec<_> = wishes.iter().flatten().collect();
    assert_eq!(all.len(), fronts::MOST + 1);
    let refused = all.last().unwrap().refused.as_ref().unwrap();
    assert_eq!(refused.reason(), ferrolb_api::reason::Reason::OverLimit);
}
