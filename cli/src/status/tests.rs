#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::object::Kind;
use ferrolb_api::problem::{Cause, Problem, Subject};
use ferrolb_api::reason::Reason;
use ferrolb_api::view::ServiceType;
use ferrolb_node::report::view::{
    AddressStatus, EndpointCount, MemberStatus, NodeStatus, ServiceState, ServiceStatus,
};

use super::table::render;

fn status() -> NodeStatus {
    NodeStatus {
        node: "node-a".into(),
        version: "0.1.0".into(),
        proxy: "ipvs".into(),
        settled: true,
        members: vec![MemberStatus {
            name: "node-a".into(),
            state: "Alive".into(),
            addresses: 1,
            elected: true,
        }],
        speaker: Default::default(),
        services: vec![Arc::new(ServiceStatus {
            namespace: "default".into(),
            name: "web".into(),
            service_type: ServiceType::LoadBalancer,
            cluster_ips: vec!["10.96.0.2".parse().unwrap()],
            addresses: vec![AddressStatus {
                ip: "172.17.255.1".parse().unwrap(),
                node: None,
                interfaces: vec![],
                reason: Reason::NoOwner,
            }],
            ports: vec!["80/TCP".into()],
            pool: Some("default".into()),
            endpoints: EndpointCount {
                used: 3,
                local: Some(1),
                total: 3,
                ready: 3,
                missing_port: None,
            },
            state: ServiceState::Pending,
            reason: Reason::NoOwner,
            message: "172.17.255.1 waits for an owner".into(),
        })],
        problems: vec![],
    }
}

#[test]
fn the_table_shows_service_address_pool_node_endpoints_state_and_reason() {
    let text = render(&status());
    let line = text.lines().find(|l| l.starts_with("default")).unwrap();
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        [
            "default",
            "web",
            "LoadBalancer",
            "10.96.0.2",
            "172.17.255.1",
            "80/TCP",
            "default",
            "<none>",
            "3/3",
            "Pending",
            "NoOwner"
        ]
    );
}

#[test]
fn a_service_that_is_not_served_has_its_sentence() {
    let mut status = status();
    let text = render(&status);
    assert!(text.ends_with("\nNot served:\n  default/web: 172.17.255.1 waits for an owner\n"));
    let service = status.services[0].clone();
    status.services = vec![service.clone(); 51];
    assert!(render(&status).ends_with("\n  There are more; -o json shows all.\n"));
    Arc::make_mut(&mut status.services[0]).state = ServiceState::Serving;
    status.services.truncate(1);
    assert!(!render(&status).contains("Not served"));
}

#[test]
fn problems_come_last_with_file_object_and_field() {
    let mut status = status();
    let key = ObjectKey::new("metallb-system", "a");
    let cause = Cause::Invalid {
        text: "the range is backwards".into(),
    };
    let problem = Problem::new(Subject::object_of(Kind::IpAddressPool, key), cause);
    let problem = problem.at("pools.yaml:3").field("spec.addresses[0]");
    status.problems.push(problem);
    let text = render(&status);
    assert!(text.ends_with(
        "Problems:\n  pools.yaml:3: IPAddressPool metallb-system/a: spec.addresses[0]: the range is backwards\n"
    ));
}

#[test]
fn json_survives_the_way_through_the_socket() {
    let text = serde_json::to_string(&status()).unwrap();
    assert_eq!(serde_json::from_str::<NodeStatus>(&text).unwrap(), status());
}
