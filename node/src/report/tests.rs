#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Change;
use ferrolb_api::object::Object;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::{
    Endpoint, EndpointPort, EndpointSlice, IngressAddress, Protocol, Service, ServicePort,
    ServiceType, TargetPort,
};
use ferrolb_proxy::snapshot::ServiceStatus as Programmed;
use ferrolb_speaker::snapshot::{Conflict, Member, Status};

use super::*;
use crate::authority::Standing;
use crate::report::view::{EndpointCount, ServiceState, ServiceStatus};

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
                weight: None,
            })
            .collect(),
        triggered: None,
    }
}

struct World {
    standing: Standing,
    slices: Vec<EndpointSlice>,
    programmed: bool,
    address: Option<Address>,
}

fn world(reason: Reason) -> World {
    World {
        standing: Standing {
            service: Arc::new(balanced()),
            pool: Some("default".into()),
            reason,
            message: "its request cannot be met".into(),
        },
        slices: vec![
            slice("web-4", &["10.244.1.11", "10.244.2.11"]),
            slice("web-6", &["fd00:10:244:1::b"]),
        ],
        programmed: true,
        address: Some(Address {
            address: "172.17.255.1".parse().unwrap(),
            owner: Some("b".into()),
            interfaces: vec![],
            reason: Reason::Announced,
            advertised: Default::default(),
            owned: None,
            conflict: None,
        }),
    }
}

fn book(world: &World) -> Book {
    let key = ObjectKey::new("default", "web");
    let mut book = Book::new("a", true);
    let slices = world.slices.iter().cloned().map(Arc::new);
    let changes: Vec<Change> = slices
        .map(|slice| Change::Upsert(Object::EndpointSlice(slice)))
        .collect();
    book.source(&changes);
    let addresses = world.address.iter().cloned();
    book.addresses(addresses.map(|a| (a.address, Some(a.into()))).collect());
    let programmed = Programmed {
        programmed: world.programmed,
        ..Programmed::default()
    };
    book.proxied([(key.clone(), Some(programmed.into()))].into());
    book.touch([key.clone()].into());
    book.renew(|asked| (*asked == key).then(|| world.standing.clone()));
    book
}

fn shown(world: &World) -> Arc<ServiceStatus> {
    let known = Knowledge {
        me: "a",
        proxy_mode: "ipvs",
        book: &book(world),
        problems: vec![],
        proxy_errors: &[],
        speaker: &SpeakerSnapshot::default(),
    };
    report(known).services.remove(0)
}

#[test]
fn members_are_shown_with_what_they_announce_and_strangers_with_what_they_claim() {
    let mut world = world(Reason::Allocated);
    world.address.as_mut().unwrap().conflict = Some(Conflict {
        mac: "02:00:00:00:00:09".into(),
        member: None,
        port: 7947,
    });
    let member = |name: &str| Member {
        name: name.into(),
        address: None,
        status: Status::Alive,
        settled: true,
        multiplier: 1,
        incarnation: 1,
        eligible: 1,
    };
    let known = Knowledge {
        me: "a",
        proxy_mode: "ipvs",
        book: &book(&world),
        problems: vec![],
        proxy_errors: &["no such device".to_owned()],
        speaker: &SpeakerSnapshot {
            placer: Some("a".into()),
            members: vec![member("a"), member("b")],
            ..SpeakerSnapshot::default()
        },
    };
    let status = report(known);
    let members: Vec<_> = status
        .members
        .iter()
        .map(|m| (m.name.as_str(), m.addresses, m.elected))
        .collect();
    assert_eq!(members, [("a", 0, true), ("b", 1, false)]);
    let problems: Vec<String> = status.problems.iter().map(ToString::to_string).collect();
    assert!(problems[0].contains("no such device"), "{problems:?}");
    assert!(problems[1].contains("02:00:00:00:00:09"), "{problems:?}");
}

#[test]
fn a_service_serves_when_it_is_programmed_announced_and_has_endpoints() {
    let service = shown(&world(Reason::Allocated));
    assert_eq!(
        (service.state, service.reason),
        (ServiceState::Serving, Reason::Announced)
    );
    assert_eq!(service.addresses[0].node.as_deref(), Some("b"));
}

#[test]
fn endpoints_of_a_family_without_an_address_are_not_counted() {
    let service = shown(&world(Reason::Allocated));
    assert_eq!(
        service.endpoints,
        EndpointCount {
            used: 2,
            local: Some(2),
            total: 2,
            ready: 2,
            missing_port: None,
        }
    );
}

#[test]
fn a_refused_request_is_shown_although_the_old_address_goes_on() {
    let service = shown(&world(Reason::OutsidePools));
    assert_eq!(
        (service.state, service.reason),
        (ServiceState::Refused, Reason::OutsidePools)
    );
    assert_eq!(service.addresses.len(), 1);
}

#[test]
fn what_is_not_programmed_is_pending() {
    let mut world = world(Reason::Allocated);
    world.programmed = false;
    assert_eq!(shown(&world).reason, Reason::NotProgrammed);
}

#[test]
fn an_address_without_an_owner_says_why_this_node_does_not_announce_it() {
    let mut world = world(Reason::Allocated);
    let address = world.address.as_mut().unwrap();
    address.owner = None;
    address.reason = Reason::NoInterface;
    let service = shown(&world);
    assert_eq!(
        (service.state, service.reason),
        (ServiceState::Pending, Reason::NoInterface)
    );
}

#[test]
fn without_endpoints_clients_are_refused_and_the_status_says_so() {
    let mut world = world(Reason::Allocated);
    world.slices.clear();
    assert_eq!(shown(&world).reason, Reason::NoEndpoints);
}

#[test]
fn a_port_that_no_ready_endpoint_has_is_named_with_the_field_that_asks_for_it() {
    let with = |ports: Vec<ServicePort>| {
        let mut world = world(Reason::Allocated);
        let mut service = (*world.standing.service).clone();
        service.ports = ports;
        world.standing.service = Arc::new(service);
        shown(&world)
    };
    let good = world(Reason::Allocated).standing.service.ports[0].clone();
    let number = ServicePort {
        name: "pg".into(),
        port: 5432,
        ..good.clone()
    };
    let name = ServicePort {
        target_port: TargetPort::Name("web".into()),
        ..number.clone()
    };
    let status = with(vec![number]);
    assert_eq!(
        (status.state, status.reason),
        (ServiceState::Pending, Reason::PortNotFound)
    );
    assert!(
        status.message.starts_with(
            "clients of port 5432/TCP are refused: it has 2 ready endpoints, but none has a port named \"pg\" as spec.ports[0].name says"
        ),
        "{}",
        status.message
    );
    let status = with(vec![name.clone()]);
    assert!(
        status
            .message
            .contains("none has a port for spec.ports[0].targetPort \"web\""),
        "{}",
        status.message
    );
    let status = with(vec![good, name]);
    assert_eq!(status.reason, Reason::Announced);
    assert!(
        status
            .message
            .contains("172.17.255.1 is announced by b; clients of port 5432/TCP are refused"),
        "{}",
        status.message
    );
}

#[test]
fn an_address_of_another_class_is_not_missed() {
    let mut world = world(Reason::OtherClass);
    world.address = None;
    let service = shown(&world);
    assert_eq!(
        (service.state, service.reason),
        (ServiceState::Serving, Reason::Programmed)
    );
}
