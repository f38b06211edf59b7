//! A small cluster for tests: two nodes, their pods, and the proxy of one node over the in-memory kernel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Change;
use ferrolb_api::object::Object;
use ferrolb_api::proxy_config::{Conntrack, ProxyConfig};
use ferrolb_api::view::service::DualStack;
use ferrolb_api::view::{
    Endpoint, EndpointPort, EndpointSlice, IngressAddress, Node, Protocol, Service, ServicePort,
    ServiceType, TargetPort, TrafficPolicy,
};

use crate::apply::note;
use crate::config::Config;
use crate::desired::Desired;
use crate::diff::{diff, full};
use crate::kernel::memory::{From, Memory, Outcome, Packet, Payload};
use crate::kernel::{Observed, Op};
use crate::lower::Touched;
use crate::state::State;

/// Nodes, pods and clients by name, in IPv4. [`six`] gives the IPv6 equivalent.
pub(crate) const HOSTS: [(&str, &str); 8] = [
    ("A", "192.0.2.1"),
    ("B", "192.0.2.2"),
    ("client", "192.0.2.100"),
    ("other", "192.0.2.101"),
    ("a1", "10.244.0.11"),
    ("a2", "10.244.0.12"),
    ("b1", "10.244.1.11"),
    ("b2", "10.244.1.12"),
];

pub(crate) fn ip(text: &str) -> IpAddr {
    let text = HOSTS.iter().find(|h| h.0 == text).map_or(text, |h| h.1);
    text.parse().unwrap()
}

/// The IPv6 equivalent of a test address.
pub(crate) fn six(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets().map(u16::from);
            Ipv6Addr::new(0xfd00, 0, 0, 0, a, b, c, d).into()
        }
        v6 => v6,
    }
}

pub(crate) fn proxy_config() -> ProxyConfig {
    ProxyConfig {
        cluster_cidrs: Vec::new(),
        detect_local: Default::default(),
        scheduler: ferrolb_api::scheduler::Scheduler::ROUND_ROBIN,
        exclude_cidrs: Vec::new(),
        masquerade_all: false,
        ipvs_timeouts: [Duration::ZERO; 3],
        conntrack: Conntrack {
            max_per_core: 0,
            tcp_established: Duration::ZERO,
            tcp_close_wait: Duration::ZERO,
            ..Conntrack::default()
        },
        node_port_addresses: Default::default(),
        bind_address: ip("0.0.0.0"),
        healthz: None,
        metrics: None,
        hostname_override: None,
        kubeconfig: None,
        mode: "ipvs".to_owned(),
    }
}

pub(crate) fn config(node: &str) -> Config {
    let mut config = Config::new(node, proxy_config());
    config.service_cidrs = vec![
        "10.96.0.0/16".parse().unwrap(),
        "fd00::a:60:0:0/96".parse().unwrap(),
    ];
    config
}

pub(crate) fn node(name: &str, third: u8) -> Node {
    Node {
        name: name.to_owned(),
        internal_ips: vec![ip(name), six(ip(name))],
        pod_cidrs: vec![
            format!("10.244.{third}.0/24").parse().unwrap(),
            format!("fd00::a:f4:{third:x}:0/112").parse().unwrap(),
        ],
        ..Node::default()
    }
}

/// A ClusterIP Service `default/<name>` without an address, with port 80 named `http`.
pub(crate) fn service(name: &str) -> Service {
    Service {
        key: ObjectKey::new("default", name),
        service_type: ServiceType::ClusterIP,
        headless: false,
        cluster_ips: Vec::new(),
        external_ips: Vec::new(),
        ingress: Vec::new(),
        ingress_is_mixed: false,
        load_balancer_ip: None,
        load_balancer_class: None,
        source_ranges: Vec::new(),
        ports: vec![port(80, Protocol::Tcp)],
        selector: Default::default(),
        external_policy: TrafficPolicy::Cluster,
        internal_policy: TrafficPolicy::Cluster,
        affinity_seconds: None,
        dual_stack: DualStack::Single,
        primary_family: None,
        health_check_node_port: None,
        publish_not_ready: false,
        foreign_proxy: false,
        uid: String::new(),
        created: None,
        labels: Default::default(),
        annotations: Default::default(),
    }
}

pub(crate) fn port(number: u16, protocol: Protocol) -> ServicePort {
    ServicePort {
        name: format!("p{number}"),
        protocol,
        port: number,
        target_port: TargetPort::Name("web".to_owned()),
        node_port: None,
    }
}

/// Turns it into a LoadBalancer Service with an address.
pub(crate) fn balanced(mut service: Service, vip: &str) -> Service {
    service.service_type = ServiceType::LoadBalancer;
    let ip = ip(vip);
    service.ingress.push(IngressAddress { ip, vip: true });
    service
}

pub(crate) fn endpoint(host: &str) -> Endpoint {
    Endpoint {
        address: ip(host),
        node: Some(host.get(..1).unwrap_or_default().to_uppercase()),
        ready: true,
        serving: true,
        terminating: false,
        hint_nodes: Vec::new(),
        hint_zones: Vec::new(),
        weight: None,
    }
}

/// A slice of a Service that serves its ports 80 on 8080.
pub(crate) fn slice(service: &Service, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let ports = service.ports.iter().map(|p| EndpointPort {
        name: p.name.clone(),
        protocol: p.protocol,
        port: p.port + 8000,
    });
    let family = endpoints.first().is_some_and(|e| e.address.is_ipv6());
    let name = format!("{}-{}", service.key.name, if family { "v6" } else { "v4" });
    EndpointSlice {
        key: ObjectKey::new(service.key.namespace.clone(), name),
        service: service.key.name.clone(),
        ports: ports.collect(),
        endpoints,
        triggered: None,
    }
}

pub(crate) fn upsert_service(service: &Service) -> Change {
    Change::Upsert(Object::Service(Arc::new(service.clone())))
}

pub(crate) fn upsert_slice(slice: EndpointSlice) -> Change {
    Change::Upsert(Object::EndpointSlice(Arc::new(slice)))
}

/// Service and IPv4 slice.
pub(crate) fn served(service: &Service, hosts: &[&str]) -> Vec<Change> {
    let endpoints = hosts.iter().map(|h| endpoint(h)).collect();
    vec![
        upsert_service(service),
        upsert_slice(slice(service, endpoints)),
    ]
}

/// The proxy of one node, without its loop.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) state: State,
    pub(crate) desired: Desired,
    pub(crate) held: Observed,
    pub(crate) kernel: Memory,
    port: u16,
}

impl World {
    /// A fresh node that knows both Nodes.
    pub(crate) fn on(name: &str) -> Self {
        let config = config(name);
        let mut kernel = Memory::new([ip(name), six(ip(name))]);
        kernel.prepare();
        let mut world = Self {
            state: State::new(&config),
            desired: Desired::new(config.marks.clone()),
            held: kernel.held.clone(),
            kernel,
            config,
            port: 10000,
        };
        let nodes = [node("A", 0), node("B", 1)];
        world.change(
            nodes
                .map(|n| Change::Upsert(Object::Node(n.into())))
                .to_vec(),
        );
        world
    }

    /// Applies changes in one batch. Returns the resulting operations.
    pub(crate) fn change(&mut self, changes: Vec<Change>) -> Vec<Op> {
        let touched = self.decide(changes);
        self.put(&touched)
    }

    pub(crate) fn decide(&mut self, changes: Vec<Change>) -> Touched {
        for change in changes {
            self.state.apply(change);
        }
        if self.state.must_look() {
            self.look();
        }
        let dirty = self.state.take_dirty();
        self.desired
            .update(&self.state, &self.config, &dirty, &self.held)
    }

    /// Reads the node's surroundings, as the loop does.
    pub(crate) fn look(&mut self) {
        if let Some(around) = self.kernel.around.clone().filter(|_| self.state.looks()) {
            self.state.see(&around, &self.held.addresses);
        }
    }

    /// Applies the difference. Nothing may be refused.
    pub(crate) fn put(&mut self, touched: &Touched) -> Vec<Op> {
        let ops = diff(&self.held, &self.desired, touched);
        let failed = self.kernel.apply(&ops);
        assert!(failed.is_empty(), "{failed:?}");
        for op in &ops {
            note(&mut self.held, op);
        }
        assert_eq!(
            self.held, self.kernel.held,
            "the picture of the kernel is wrong"
        );
        ops
    }

    /// An audit: reads the kernel and repairs it.
    pub(crate) fn audit(&mut self) -> Vec<Op> {
        self.kernel.prepare();
        self.held = self.kernel.held.clone();
        self.look();
        let dirty = self.state.take_dirty();
        self.desired
            .update(&self.state, &self.config, &dirty, &self.held);
        let touched = full(&self.held, &self.desired, &self.state, &self.config.marks);
        self.put(&touched)
    }

    /// The process ends and another starts on the same kernel with the same objects. Returns what it changes.
    pub(crate) fn restart(&mut self) -> Vec<Op> {
        self.held = self.kernel.held.clone();
        self.look();
        self.state.take_dirty();
        self.desired = Desired::new(self.config.marks.clone());
        self.desired.adopt(&self.held);
        let all = self.state.everything();
        self.desired
            .update(&self.state, &self.config, &all, &self.held);
        self.desired.adopted();
        let touched = full(&self.held, &self.desired, &self.state, &self.config.marks);
        self.put(&touched)
    }

    /// A new connection from `src` (from the node itself if the source is this node).
    pub(crate) fn send(&mut self, src: IpAddr, dst: SocketAddr, protocol: Protocol) -> Outcome {
        self.port += 1;
        let packet = self.packet(src, self.port, dst, protocol);
        self.kernel.send(packet)
    }

    pub(crate) fn packet(
        &self,
        src: IpAddr,
        port: u16,
        dst: SocketAddr,
        protocol: Protocol,
    ) -> Packet {
        let own = self.kernel.node.contains(&src);
        Packet {
            from: if own { From::Node } else { From::Wire },
            src: SocketAddr::new(src, port),
            dst,
            payload: Payload::Ports(protocol),
        }
    }
}
