//! Builders for the tests of this crate and of the crates that use it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_api::change::Change;
use ferrolb_api::crd::{AddressRange, IpAddressPool, LabelSelector, ServiceAllocation};
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::view::service::DualStack;
use ferrolb_api::view::{
    Namespace, Node, Protocol, Service, ServiceCidr, ServicePort, ServiceType, TargetPort,
    TrafficPolicy,
};
use ferrolb_api::{Family, ObjectKey};

use crate::state::{Settings, State};

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn ips(text: &str) -> Vec<IpAddr> {
    text.split(',').filter(|t| !t.is_empty()).map(ip).collect()
}

pub fn key(text: &str) -> ObjectKey {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectKey::new(namespace, name)
}

pub fn labels<T: FromIterator<(String, String)>>(text: &str) -> T {
    text.split(',')
        .filter_map(|t| t.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

/// A Service of type LoadBalancer with port 80/TCP.
pub struct Builder(Service);

pub fn service(name: &str) -> Builder {
    Builder(Service {
        key: key(name),
        service_type: ServiceType::LoadBalancer,
        selector: labels("app=web"),
        ..Service::default()
    })
    .port(Protocol::Tcp, 80)
}

impl Builder {
    pub fn build(self) -> Service {
        self.0
    }
    pub fn port(mut self, protocol: Protocol, port: u16) -> Self {
        self.0.ports = vec![ServicePort {
            name: String::new(),
            protocol,
            port,
            target_port: TargetPort::Number(port),
            node_port: None,
        }];
        self
    }
    pub fn cluster_only(mut self) -> Self {
        self.0.service_type = ServiceType::ClusterIP;
        self
    }
    pub fn headless(mut self) -> Self {
        self.0.headless = true;
        self
    }
    pub fn cluster_ip(mut self, text: &str) -> Self {
        self.0.cluster_ips = ips(text);
        self
    }
    pub fn external(mut self, text: &str) -> Self {
        self.0.external_ips = ips(text);
        self
    }
    pub fn asks(mut self, text: &str) -> Self {
        self.0.load_balancer_ip = Some(ip(text));
        self
    }
    pub fn annotated(mut self, text: &str) -> Self {
        self.0.annotations.requested = ips(text);
        self
    }
    pub fn pool(mut self, name: &str) -> Self {
        self.0.annotations.pool = Some(name.into());
        self
    }
    pub fn shares(mut self, key: &str) -> Self {
        self.0.annotations.sharing_key = Some(key.into());
        self
    }
    pub fn local(mut self, selector: &str) -> Self {
        self.0.external_policy = TrafficPolicy::Local;
        self.0.selector = labels(selector);
        self
    }
    pub fn labelled(mut self, text: &str) -> Self {
        self.0.labels = labels(text);
        self
    }
    pub fn class(mut self, name: &str) -> Self {
        self.0.load_balancer_class = Some(name.into());
        self
    }
    pub fn family(mut self, family: Family) -> Self {
        self.0.primary_family = Some(family);
        self
    }
    pub fn dual(mut self, policy: DualStack) -> Self {
        self.0.dual_stack = policy;
        self
    }
}

/// A pool from texts like `10.0.0.1-10.0.0.9,1::/124`.
pub fn pool(name: &str, ranges: &str) -> IpAddressPool {
    IpAddressPool {
        key: ObjectKey::new("metallb-system", name),
        ranges: ranges.split(',').map(range).collect(),
        auto_assign: true,
        ..IpAddressPool::default()
    }
}

pub fn range(text: &str) -> AddressRange {
    if let Some((a, b)) = text.split_once('-') {
        return AddressRange {
            first: ip(a),
            last: ip(b),
        };
    }
    let net: ipnet::IpNet = text.parse().unwrap();
    AddressRange {
        first: net.network(),
        last: net.broadcast(),
    }
}

pub fn pinned(
    mut pool: IpAddressPool,
    priority: u32,
    namespaces: &str,
    services: &str,
) -> IpAddressPool {
    pool.allocation = Some(ServiceAllocation {
        priority,
        namespaces: namespaces
            .split(',')
            .filter(|n| !n.is_empty())
            .map(String::from)
            .collect(),
        namespace_selectors: vec![],
        service_selectors: Some(labels(services))
            .filter(|l: &BTreeMap<String, String>| !l.is_empty())
            .map(|match_labels| LabelSelector {
                match_labels,
                ..LabelSelector::default()
            })
            .into_iter()
            .collect(),
    });
    pool
}

pub fn put_pool(pool: IpAddressPool) -> Change {
    Change::Upsert(Object::IpAddressPool(pool.into()))
}

pub fn drop_pool(name: &str) -> Change {
    Change::Remove(Kind::IpAddressPool, ObjectKey::new("metallb-system", name))
}

/// A Node with this InternalIP and range of pods; empty texts leave them out.
pub fn put_node(name: &str, internal: &str, pods: &str) -> Change {
    Change::Upsert(Object::Node(Arc::new(Node {
        name: name.into(),
        internal_ips: ips(internal),
        pod_cidrs: pods.split(',').filter_map(|net| net.parse().ok()).collect(),
        ..Node::default()
    })))
}

pub fn put_range(name: &str, cidrs: &str) -> Change {
    Change::Upsert(Object::ServiceCidr(Arc::new(ServiceCidr {
        name: name.into(),
        cidrs: cidrs
            .split(',')
            .filter_map(|net| net.parse().ok())
            .collect(),
    })))
}

pub fn put_namespace(name: &str, text: &str) -> Change {
    let mut all = labels::<BTreeMap<String, String>>(text);
    all.insert("kubernetes.io/metadata.name".into(), name.into());
    let namespace = Namespace {
        name: name.into(),
        labels: all.into(),
    };
    Change::Upsert(Object::Namespace(Arc::new(namespace)))
}

pub fn drop_node(name: &str) -> Change {
    Change::Remove(Kind::Node, ObjectKey::new("", name))
}

pub fn put(service: Builder) -> Change {
    Change::Upsert(Object::Service(Arc::new(service.build())))
}

pub fn drop_service(name: &str) -> Change {
    Change::Remove(Kind::Service, key(name))
}

pub fn state(cidrs: &str, changes: impl IntoIterator<Item = Change>) -> State {
    let mut state = State::new(Settings {
        class: None,
        service_cidrs: cidrs
            .split(',')
            .filter(|c| !c.is_empty())
            .map(|c| c.parse().unwrap())
            .collect(),
        ..Settings::default()
    });
    state.apply_all(&changes.into_iter().collect::<Vec<_>>());
    state
}
