//! What node `a` says of one Service, for tests.

use ferrolb_api::reason::Reason;
use ferrolb_api::view::ServiceType;

use crate::report::view::{
    AddressStatus, EndpointCount, MemberStatus, NodeStatus, ServiceState, ServiceStatus,
};

/// A Service that is served, with these addresses.
pub(super) fn status(addresses: Vec<AddressStatus>, elected: bool) -> NodeStatus {
    NodeStatus {
        node: "a".into(),
        version: String::new(),
        proxy: "ipvs".into(),
        settled: true,
        members: vec![MemberStatus {
            name: "a".into(),
            state: "Alive".into(),
            addresses: 0,
            elected,
        }],
        services: vec![ServiceStatus {
            namespace: "default".into(),
            name: "web".into(),
            service_type: ServiceType::LoadBalancer,
            cluster_ips: vec![],
            addresses,
            ports: vec![],
            pool: None,
            endpoints: EndpointCount::default(),
            state: ServiceState::Serving,
            reason: Reason::Announced,
            message: String::new(),
        }],
        problems: vec![],
    }
}
