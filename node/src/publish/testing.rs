//! What node `a` reports about one Service, for tests.

use ferrolb_api::reason::Reason;
use ferrolb_api::view::ServiceType;

use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::delta::Delta;
use ferrolb_api::view::Service;

use super::News;
use crate::report::book::{Entries, Entry};
use crate::report::view::{
    AddressStatus, EndpointCount, MemberStatus, NodeStatus, ServiceState, ServiceStatus,
};

/// The Services as of the last call.
#[derive(Default)]
pub(super) struct Seen(Entries);

impl Seen {
    /// Compares this status with the previous one and passes on the differences as news. `uid`: returns the uid of a Service.
    pub(super) fn look<R>(
        &mut self,
        status: &NodeStatus,
        uid: impl Fn(&ObjectKey) -> String,
        at: impl FnOnce(News<'_>) -> R,
    ) -> R {
        let entry = |status: &Arc<ServiceStatus>| {
            let key = ObjectKey::new(status.namespace.clone(), status.name.clone());
            let service = Service {
                uid: uid(&key),
                key: key.clone(),
                ..Service::default()
            };
            let entry = Entry {
                service: service.into(),
                status: Arc::clone(status),
            };
            (key, entry)
        };
        let entries: Entries = status.services.iter().map(entry).collect();
        let before = std::mem::replace(&mut self.0, entries);
        let mut changed: Delta<_, _> = before
            .keys()
            .filter(|key| !self.0.contains_key(*key))
            .map(|key| (key.clone(), None))
            .collect();
        for (key, entry) in &self.0 {
            if before.get(key) != Some(entry) {
                changed.insert(key.clone(), Some(Arc::clone(&entry.status)));
            }
        }
        let elected = |m: &MemberStatus| m.elected && m.name == status.node;
        at(News {
            me: &status.node,
            settled: status.settled,
            elected: status.members.iter().any(elected),
            changed: &changed,
            entries: &self.0,
        })
    }
}

/// The status of a node that serves one Service, with these addresses.
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
        speaker: Default::default(),
        services: vec![Arc::new(ServiceStatus {
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
        })],
        problems: vec![],
    }
}
