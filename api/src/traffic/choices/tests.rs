#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::{Choices, Numbers};
use crate::traffic::{Selection, Target, select};
use crate::view::{
    Endpoint, EndpointPort, EndpointSlice, Protocol, Service, ServicePort, ServiceType, TargetPort,
    TrafficPolicy,
};
use crate::{Family, ObjectKey};

fn port(name: u8, protocol: Protocol) -> ServicePort {
    ServicePort {
        name: format!("p{name}"),
        protocol,
        port: u16::from(name) + 1,
        target_port: TargetPort::Number(1),
        node_port: None,
    }
}

fn a_slice() -> impl Strategy<Value = EndpointSlice> {
    let protocol = prop_oneof![4 => Just(Protocol::Tcp), 1 => Just(Protocol::Udp)];
    // Nobody can connect to port 0, so it must not be used.
    let number = prop_oneof![6 => Just(8080_u16), 2 => 8081..8084_u16, 1 => Just(0)];
    let ports = proptest::collection::vec((0..4_u8, protocol, number), 0..5);
    let endpoint = (0..6_u8, 0..3_u8, any::<[bool; 4]>(), 0..3_u8, any::<bool>());
    let endpoints = proptest::collection::vec(endpoint, 0..6);
    (any::<u8>(), ports, endpoints).prop_map(|(name, ports, endpoints)| EndpointSlice {
        key: ObjectKey::new("default", format!("web-{name}")),
        service: "web".to_owned(),
        ports: ports
            .into_iter()
            .map(|(name, protocol, port)| EndpointPort {
                name: format!("p{name}"),
                protocol,
                port,
            })
            .collect(),
        endpoints: endpoints
            .into_iter()
            .map(
                |(host, node, [ready, serving, terminating, six], hint, hinted)| {
                    let address: IpAddr = if six {
                        [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host)].into()
                    } else {
                        [10, 0, 0, host].into()
                    };
                    Endpoint {
                        address,
                        node: (node > 0).then(|| format!("n{node}")),
                        ready,
                        serving,
                        terminating,
                        hint_nodes: if hinted {
                            vec![format!("n{hint}")]
                        } else {
                            Vec::new()
                        },
                        hint_zones: if hinted {
                            vec![format!("z{hint}")]
                        } else {
                            Vec::new()
                        },
                        weight: None,
                    }
                },
            )
            .collect(),
        triggered: None,
    })
}

/// The lists of a selection; each target with its address and attributes.
fn flat<'a>(
    selection: &Selection<'a>,
    resolve: impl Fn(&Target<'a>) -> SocketAddr,
) -> [Vec<(SocketAddr, &'a Endpoint, bool)>; 3] {
    let list = |targets: &[Target<'a>]| {
        let all = targets.iter();
        all.map(|t| (resolve(t), t.endpoint, t.local)).collect()
    };
    [
        list(&selection.cluster),
        list(&selection.local),
        list(&selection.draining),
    ]
}

fn check(slices: &[EndpointSlice], service: &Service) -> Result<(), TestCaseError> {
    for family in Family::ALL {
        for zone in [None, Some("z1")] {
            let all = Choices::new(slices.iter(), service, family, "n1", zone);
            prop_assert_eq!(all.ports().len(), service.ports.len());
            for (port, chosen) in service.ports.iter().zip(all.ports()) {
                let simple = select(slices.iter(), service, port, family, "n1", zone);
                let fast = &all.shared()[chosen.choice];
                prop_assert_eq!(
                    flat(fast, |t| chosen.numbers.resolve(t.addr, t.list)),
                    flat(&simple, |t| t.addr),
                    "{}/{}",
                    port.name,
                    port.protocol
                );
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn all_ports_at_once_get_what_each_of_them_gets_alone(
        slices in proptest::collection::vec(a_slice(), 0..6),
        local in any::<[bool; 2]>(),
    ) {
        let policy = |on| if on { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
        let both = (0..4).flat_map(|n| [port(n, Protocol::Tcp), port(n, Protocol::Udp)]);
        let service = Service {
            service_type: ServiceType::LoadBalancer,
            ports: both.collect(),
            external_policy: policy(local[0]),
            internal_policy: policy(local[1]),
            ..Service::default()
        };
        check(&slices, &service)?;
    }
}

#[test]
fn ports_that_the_same_slices_serve_share_one_choice() {
    let service = Service {
        ports: (0..100).map(|n| port(n, Protocol::Tcp)).collect(),
        ..Service::default()
    };
    // Two versions of a pod whose ports have the same names but different numbers.
    let slice = |version: u8| EndpointSlice {
        key: ObjectKey::new("default", format!("web-{version}")),
        service: "web".to_owned(),
        ports: (0..100_u8)
            .map(|n| EndpointPort {
                name: format!("p{n}"),
                protocol: Protocol::Tcp,
                port: 1000 + u16::from(version) * 100 + u16::from(n),
            })
            .collect(),
        endpoints: vec![Endpoint {
            address: [10, 0, 0, version].into(),
            node: None,
            ready: true,
            serving: true,
            terminating: false,
            hint_nodes: Vec::new(),
            hint_zones: Vec::new(),
            weight: None,
        }],
        triggered: None,
    };
    let slices = [slice(1), slice(2)];
    let all = Choices::new(slices.iter(), &service, Family::V4, "n1", None);
    assert_eq!(all.shared().len(), 1);
    let last = all.ports().last().unwrap();
    assert_eq!(last.choice, 0);
    assert!(matches!(last.numbers, Numbers::ByList(_)));
    check(&slices, &service).unwrap();
}
