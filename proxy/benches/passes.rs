//! How much work a pass takes over the in-memory kernel: a full pass, an audit without a difference, and one more endpoint. Also
//! the plan of one Service with 1,000 ports and 5,000 endpoints.
//!
//! It counts operations and prints times. Run it with `cargo bench -p ferrolb-proxy`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrolb_api::change::Change;
use ferrolb_api::object::Object;
use ferrolb_api::proxy_config::{Conntrack, ProxyConfig};
use ferrolb_api::traffic::select;
use ferrolb_api::view::service::DualStack;
use ferrolb_api::view::{
    Endpoint, EndpointPort, EndpointSlice, Protocol, Service, ServicePort, ServiceType, TargetPort,
    TrafficPolicy,
};
use ferrolb_api::{Family, ObjectKey};
use ferrolb_proxy::apply::note;
use ferrolb_proxy::config::Config;
use ferrolb_proxy::desired::Desired;
use ferrolb_proxy::diff::{diff, full};
use ferrolb_proxy::kernel::Observed;
use ferrolb_proxy::plan::Plans;
use ferrolb_proxy::state::State;

fn proxy_config() -> ProxyConfig {
    ProxyConfig {
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
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
        bind_address: Ipv4Addr::UNSPECIFIED.into(),
        healthz: None,
        metrics: None,
        hostname_override: None,
        kubeconfig: None,
        mode: "ipvs".to_owned(),
    }
}

fn address(net: u8, index: u32) -> IpAddr {
    Ipv4Addr::from_bits((u32::from(net) << 24) + 0x0060_0000 + index + 1).into()
}

fn service(index: u32) -> Change {
    Change::Upsert(Object::Service(Arc::new(Service {
        key: ObjectKey::new("bench", format!("svc-{index}")),
        service_type: ServiceType::ClusterIP,
        headless: false,
        cluster_ips: vec![address(10, index)],
        external_ips: Vec::new(),
        ingress: Vec::new(),
        ingress_is_mixed: false,
        load_balancer_ip: None,
        load_balancer_class: None,
        source_ranges: Vec::new(),
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 80,
            target_port: TargetPort::Number(8080),
            node_port: None,
        }],
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
    })))
}

fn slice(index: u32, endpoints: u32) -> Change {
    let endpoint = |n| Endpoint {
        address: address(11, index * 16 + n),
        node: Some(if n == 0 { "a" } else { "b" }.to_owned()),
        ready: true,
        serving: true,
        terminating: false,
        hint_nodes: Vec::new(),
        hint_zones: Vec::new(),
        weight: None,
    };
    Change::Upsert(Object::EndpointSlice(Arc::new(EndpointSlice {
        key: ObjectKey::new("bench", format!("svc-{index}-slice")),
        service: format!("svc-{index}"),
        ports: vec![EndpointPort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        endpoints: (0..endpoints).map(endpoint).collect(),
        triggered: None,
    })))
}

/// A Service with many ports, and its endpoints in slices of 1,000, as Kubernetes creates them.
fn big(ports: u16, endpoints: u32) -> (Arc<Service>, Vec<Change>) {
    let Change::Upsert(Object::Service(one)) = service(0) else {
        unreachable!("it is a Service");
    };
    let mut all = (*one).clone();
    all.ports = (1..=ports)
        .map(|n| ServicePort {
            name: format!("port-{n}"),
            port: n,
            ..one.ports[0].clone()
        })
        .collect();
    let numbers: Vec<EndpointPort> = all
        .ports
        .iter()
        .map(|p| EndpointPort {
            name: p.name.clone(),
            protocol: p.protocol,
            port: p.port,
        })
        .collect();
    let mut changes = Vec::new();
    for first in (0..endpoints).step_by(1_000) {
        let Change::Upsert(Object::EndpointSlice(part)) = slice(0, 1_000.min(endpoints - first))
        else {
            unreachable!("it is a slice");
        };
        let mut part = (*part).clone();
        part.key = ObjectKey::new(part.key.namespace.clone(), format!("svc-0-{first}"));
        part.ports.clone_from(&numbers);
        for (n, endpoint) in (first..).zip(&mut part.endpoints) {
            endpoint.address = address(12, n);
        }
        changes.push(Change::Upsert(Object::EndpointSlice(Arc::new(part))));
    }
    let all = Arc::new(all);
    changes.push(Change::Upsert(Object::Service(Arc::clone(&all))));
    (all, changes)
}

fn plan_of_a_big_service() {
    let (ports, endpoints) = (1_000, 5_000);
    let (service, changes) = big(ports, endpoints);
    let mut state = State::new(&Config::new("a", proxy_config()));
    changes.into_iter().for_each(|c| state.apply(c));
    let dirty = state.take_dirty();
    let mut plans = Plans::default();
    let start = Instant::now();
    plans.update(&state, &dirty.services);
    let planned = start.elapsed();
    let start = Instant::now();
    let sample = 20;
    for port in service.ports.iter().take(sample) {
        let slices = state.endpoints().of(&service.key);
        let alone = select(slices, &service, port, Family::V4, "a", None);
        assert_eq!(alone.cluster.len(), endpoints as usize);
    }
    let alone = start.elapsed() / u32::try_from(sample).unwrap() * u32::from(ports);
    println!(
        "the plan of {ports} ports with {endpoints} endpoints: {planned:.1?} (choosing for each port alone: {alone:.1?})"
    );
    assert_eq!(plans.get(&service.key).unwrap().backends.len(), 1);
}

fn main() {
    plan_of_a_big_service();
    println!(
        "{:>8} {:>22} {:>16} {:>22}",
        "services", "full pass", "audit", "one endpoint more"
    );
    for count in [1_000, 10_000] {
        let config = Config::new("a", proxy_config());
        let mut state = State::new(&config);
        for change in (0..count).flat_map(|i| [service(i), slice(i, 5)]) {
            state.apply(change);
        }
        let (mut desired, mut held) = (Desired::new(config.marks.clone()), Observed::default());
        let mut pass = |state: &mut State, audit: bool| {
            let start = Instant::now();
            let dirty = state.take_dirty();
            let mut touched = desired.update(state, &config, &dirty, &held);
            if audit {
                touched = full(&held, &desired, state, &config.marks);
            }
            let ops = diff(&held, &desired, &touched);
            let time = start.elapsed();
            ops.iter().for_each(|op| note(&mut held, op));
            (ops.len(), time)
        };
        let all = pass(&mut state, true);
        let audit = pass(&mut state, true);
        state.apply(slice(count / 2, 6));
        let one = pass(&mut state, false);
        let told = |(ops, time): (usize, Duration)| format!("{ops} ops {time:.1?}");
        println!(
            "{count:>8} {:>22} {:>16} {:>22}",
            told(all),
            told(audit),
            told(one)
        );
        assert_eq!((audit.0, one.0), (0, 1), "work for what did not change");
    }
}
