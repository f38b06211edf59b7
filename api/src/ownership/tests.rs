#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use super::neighbour::{LinkAddress, Neighbours, members, stranger};
use super::ranges::Ranges;
use super::{Owner, Ownership, Place};
use crate::ObjectKey;
use crate::view::{
    Endpoint, EndpointPort, EndpointSlice, IngressAddress, Node, Protocol, Service, ServiceType,
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn service(name: &str) -> Service {
    Service {
        key: key(name),
        service_type: ServiceType::LoadBalancer,
        ..Service::default()
    }
}

fn slice(service: &str, addresses: &[(&str, Option<&str>)]) -> EndpointSlice {
    let endpoint = |(address, node): &(&str, Option<&str>)| Endpoint {
        address: ip(address),
        node: node.map(str::to_owned),
        ready: true,
        serving: true,
        terminating: false,
        hint_nodes: Vec::new(),
        hint_zones: Vec::new(),
        weight: None,
    };
    EndpointSlice {
        key: key(&format!("{service}-slice")),
        service: service.to_owned(),
        ports: vec![EndpointPort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 6443,
        }],
        endpoints: addresses.iter().map(endpoint).collect(),
        triggered: None,
    }
}

fn owners(all: &Ownership, addr: &str) -> Vec<Owner> {
    all.owners(ip(addr)).collect()
}

fn link(last: u8) -> LinkAddress {
    LinkAddress(vec![2, 0, 0, 0, 0, last])
}

#[test]
fn every_kind_of_owner_is_named_and_forgotten() {
    let mut all = Ownership::new(&["192.0.2.9:6443".parse().unwrap()], &[net("10.96.0.0/16")]);
    assert_eq!(owners(&all, "192.0.2.9"), [Owner::ApiServer]);
    assert_eq!(
        owners(&all, "10.96.0.7"),
        [Owner::ServiceRange(net("10.96.0.0/16"))]
    );

    let mut web = service("web");
    web.cluster_ips = vec![ip("10.97.0.1")];
    web.external_ips = vec![ip("198.51.100.1")];
    web.ingress = vec![IngressAddress {
        ip: ip("198.51.100.2"),
        vip: true,
    }];
    assert_eq!(all.set_service(None, Some(&web)).len(), 2);
    assert_eq!(owners(&all, "10.97.0.1"), [Owner::ClusterIp(key("web"))]);
    assert_eq!(owners(&all, "198.51.100.1"), [Owner::External(key("web"))]);
    assert_eq!(
        owners(&all, "198.51.100.2"),
        [Owner::LoadBalancer(key("web"))]
    );

    let node = Node {
        name: "a".to_owned(),
        internal_ips: vec![ip("192.0.2.1")],
        pod_cidrs: vec![net("10.244.1.0/24")],
        ..Node::default()
    };
    let places = all.set_node(None, Some(&node));
    let expected = [
        Place::Address(ip("192.0.2.1")),
        Place::Range(net("10.244.1.0/24")),
    ];
    assert_eq!(places, expected);
    assert_eq!(owners(&all, "192.0.2.1"), [Owner::Node("a".to_owned())]);
    assert_eq!(
        owners(&all, "10.244.1.9"),
        [Owner::PodRange(net("10.244.1.0/24"))]
    );
    assert!(all.is_of_another_node(ip("192.0.2.1"), "b"));
    assert!(!all.is_of_another_node(ip("192.0.2.1"), "a"));

    all.set_gateways(BTreeSet::from([ip("192.0.2.254")]));
    all.set_interfaces(BTreeSet::from([ip("203.0.113.1")]));
    all.set_host(ip("203.0.113.2"), Some(link(7)));
    all.set_cluster_ranges(&[net("10.244.0.0/16")]);
    assert_eq!(owners(&all, "192.0.2.254"), [Owner::Gateway]);
    assert_eq!(owners(&all, "203.0.113.1"), [Owner::Interface]);
    assert_eq!(owners(&all, "203.0.113.2"), [Owner::Host(link(7))]);
    assert_eq!(
        owners(&all, "10.244.9.9"),
        [Owner::PodRange(net("10.244.0.0/16"))]
    );

    all.set_service(Some(&web), None);
    all.set_node(Some(&node), None);
    all.set_gateways(BTreeSet::new());
    all.set_interfaces(BTreeSet::new());
    all.set_host(ip("203.0.113.2"), None);
    all.set_cluster_ranges(&[]);
    let bare = Ownership::new(&["192.0.2.9:6443".parse().unwrap()], &[net("10.96.0.0/16")]);
    assert_eq!(all, bare);
}

#[test]
fn endpoints_are_pods_where_they_name_a_node_and_api_servers_where_they_serve_kubernetes() {
    let mut all = Ownership::default();
    let web = slice("web", &[("10.0.0.1", Some("a")), ("10.0.0.2", None)]);
    assert_eq!(
        all.set_slice(None, Some(&web)),
        [Place::Address(ip("10.0.0.1"))]
    );
    assert_eq!(owners(&all, "10.0.0.1"), [Owner::Pod]);
    assert_eq!(owners(&all, "10.0.0.2"), []);
    let api = slice("kubernetes", &[("192.0.2.9", None)]);
    all.set_slice(None, Some(&api));
    assert_eq!(owners(&all, "192.0.2.9"), [Owner::ApiServer]);
    assert_eq!(all.api_ports(ip("192.0.2.9")).collect::<Vec<_>>(), [6443]);

    // A pod in two slices remains a pod until it is in neither.
    let mut again = web.clone();
    again.key = key("other");
    assert_eq!(all.set_slice(None, Some(&again)), []);
    assert_eq!(all.set_slice(Some(&web), None), []);
    assert_eq!(owners(&all, "10.0.0.1"), [Owner::Pod]);
    all.set_slice(Some(&again), None);
    all.set_slice(Some(&api), None);
    assert_eq!(all, Ownership::default());
}

#[test]
fn a_change_names_the_services_that_use_an_address_outside_of_the_cluster() {
    let mut all = Ownership::default();
    let mut web = service("web");
    web.cluster_ips = vec![ip("10.96.0.1")];
    web.external_ips = vec![ip("198.51.100.1")];
    all.set_service(None, Some(&web));
    let found = |place| {
        all.outside(place)
            .map(|(_, key)| key.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(Place::Address(ip("198.51.100.1"))), [key("web")]);
    assert_eq!(found(Place::Range(net("198.51.100.0/24"))), [key("web")]);
    assert_eq!(found(Place::Range(net("0.0.0.0/0"))), [key("web")]);
    assert_eq!(found(Place::Range(net("198.51.101.0/24"))), []);
    assert_eq!(found(Place::Address(ip("10.96.0.1"))), []);
}

#[test]
fn only_a_host_with_a_link_layer_address_of_its_own_is_a_stranger() {
    let table: Neighbours = [
        (ip("192.0.2.1"), link(1)),
        (ip("192.0.2.50"), link(1)),
        (ip("192.0.2.51"), link(9)),
    ]
    .into();
    let members = members(&table, |addr| addr == ip("192.0.2.1"));
    let found = |addr| stranger(&table, &members, ip(addr)).cloned();
    assert_eq!(found("192.0.2.1"), None);
    assert_eq!(found("192.0.2.50"), None, "a member answers for it");
    assert_eq!(found("192.0.2.51"), Some(link(9)));
    assert_eq!(found("192.0.2.52"), None);
    assert_eq!(link(9).to_string(), "02:00:00:00:00:09");
}

proptest! {
    #[test]
    fn ranges_find_what_a_look_at_each_of_them_finds(
        nets in proptest::collection::vec((any::<u32>(), 0..=32_u8), 0..20),
        gone in proptest::collection::vec(any::<proptest::sample::Index>(), 0..5),
        addr in any::<u32>(),
    ) {
        let mut nets: Vec<IpNet> = nets
            .into_iter()
            .map(|(bits, length)| IpNet::new(IpAddr::V4((bits & 0xf0f0_000f).into()), length).unwrap())
            .collect();
        let mut ranges = Ranges::default();
        nets.iter().for_each(|net| ranges.add(*net));
        for index in gone {
            if !nets.is_empty() {
                ranges.remove(nets.swap_remove(index.index(nets.len())));
            }
        }
        let addr = IpAddr::V4((addr & 0xf0f0_000f).into());
        let simple = nets.iter().filter(|net| net.contains(&addr)).map(|net| net.trunc());
        prop_assert_eq!(ranges.containing(addr), simple.min_by_key(IpNet::prefix_len));
        prop_assert_eq!(ranges.nets(), nets.iter().map(IpNet::trunc).collect::<BTreeSet<_>>());
    }
}
