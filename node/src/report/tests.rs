#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ferrolb_api::view::{
    Endpoint, EndpointPort, EndpointSlice, IngressAddress, Protocol, Service, ServicePort,
    ServiceType, TargetPort,
};
use ferrolb_proxy::snapshot::ServiceStatus as Programmed;

use super::*;
use crate::report::view::{EndpointCount, ServiceState};

fn port() -> ServicePort {
    ServicePort {
        name: String::new(),
        protocol: Protocol::Tcp,
        port: 80,
        target_port: TargetPort::Number(8000),
        node_port: None,
    }
}

fn balanced() -> Service {
    Service {
        key: ObjectKey::new("default", "web"),
        service_type: ServiceType::LoadBalancer,
        cluster_ips: vec!["10.96.0.2".parse().unwrap()],
        ingress: vec![IngressAddress {
            ip: "172.17.255.1".parse().unwrap(),
            vip: true,
        }],
        ports: vec![port()],
        ..Service::default()
    }
}

fn slice(name: &str, addresses: &[&str]) -> EndpointSlice {
    EndpointSlice {
        key: ObjectKey::new("default", name),
        service: "web".into(),
        ports: vec![EndpointPort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 8000,
        }],
        endpoints: addresses
            .iter()
            .map(|a| Endpoint {
                address: a.parse().unwrap(),
                node: Some("a".into()),
                ready: true,
                serving: true,
                terminating: false,
                hint_nodes: vec![],
                hint_zones: vec![],
            })
            .collect(),
    }
}

struct World {
    standings: BTreeMap<ObjectKey, Standing>,
    slices: EndpointIndex,
    proxy: Option<ProxySnapshot>,
    speaker: SpeakerSnapshot,
}

fn world(reason: Reason) -> World {
    let service = balanced();
    let mut slices = EndpointIndex::default();
    slices.upsert(slice("web-4", &["10.244.1.11", "10.244.2.11"]).into());
    slices.upsert(slice("web-6", &["fd00:10:244:1::b"]).into());
    let programmed = Programmed {
        programmed: true,
        ..Programmed::default()
    };
    let standing = Standing {
        service: std::sync::Arc::new(service),
        pool: Some("default".into()),
        reason,
        message: "its request cannot be met".into(),
    };
    World {
        standings: [(ObjectKey::new("default", "web"), standing)].into(),
        slices,
        proxy: Some(ProxySnapshot {
            services: [("default/web".to_owned(), programmed)].into(),
            ..ProxySnapshot::default()
        }),
        speaker: SpeakerSnapshot {
            settled: true,
            addresses: vec![Address {
                address: "172.17.255.1".parse().unwrap(),
                pool: Some("default".into()),
                services: vec!["default/web".into()],
                owner: Some("b".into()),
                epoch: 1,
                announcing: false,
                interfaces: vec![],
                eligible: true,
                reason: Reason::Announced,
                ineligible: None,
                conflict: None,
            }],
            ..SpeakerSnapshot::default()
        },
    }
}

fn told(world: &World) -> ServiceStatus {
    let known = Knowledge {
        me: "a",
        proxy_mode: "ipvs",
        standings: &world.standings,
        problems: vec![],
        slices: &world.slices,
        proxy: world.proxy.as_ref(),
        speaker: &world.speaker,
    };
    report(&known).services.remove(0)
}

#[test]
fn a_service_serves_when_it_is_programmed_announced_and_has_endpoints() {
    let service = told(&world(Reason::Allocated));
    assert_eq!(
        (service.state, service.reason),
        (ServiceState::Serving, Reason::Announced)
    );
    assert_eq!(service.addresses[0].node.as_deref(), Some("b"));
}

#[test]
fn endpoints_of_a_family_without_an_address_are_not_counted() {
    let service = told(&world(Reason::Allocated));
    assert_eq!(
        service.endpoints,
        EndpointCount {
            used: 2,
            local: Some(2),
            total: 2
        }
    );
}

#[test]
fn a_refused_request_is_shown_although_the_old_address_goes_on() {
    let service = told(&world(Reason::OutsidePools));
    assert_eq!(
        (service.state, service.reason),
        (ServiceState::Refused, Reason::OutsidePools)
    );
    assert_eq!(service.addresses.len(), 1);
}

#[test]
fn what_is_not_programmed_is_pending() {
    let mut world = world(Reason::Allocated);
    world.proxy = Some(ProxySnapshot::default());
    assert_eq!(told(&world).reason, Reason::NotProgrammed);
}

#[test]
fn an_address_without_an_owner_says_why_this_node_does_not_announce_it() {
    let mut world = world(Reason::Allocated);
    world.speaker.addresses[0].owner = None;
    world.speaker.addresses[0].reason = Reason::NoInterface;
    let service = told(&world);
    assert_eq!(
        (service.state, service.reason),
        (ServiceState::Pending, Reason::NoInterface)
    );
}

#[test]
fn without_endpoints_clients_are_refused_and_the_status_says_so() {
    let mut world = world(Reason::Allocated);
    world.slices = EndpointIndex::default();
    assert_eq!(told(&world).reason, Reason::NoEndpoints);
}

#[test]
fn an_address_of_another_class_is_not_missed() {
    let mut world = world(Reason::OtherClass);
    world.speaker.addresses.clear();
    let service = told(&world);
    assert_eq!(
        (service.state, service.reason),
        (ServiceState::Serving, Reason::Programmed)
    );
}
