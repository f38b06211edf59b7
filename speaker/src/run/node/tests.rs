#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::frame::arp::Mac;
use crate::link::{Link, LinkAddress};
use crate::wire::key::Key;

/// Not an interface of this machine, so nothing can be opened on it.
const NONE: u32 = 1 << 30;

fn interface(index: u32, name: &str) -> LinkChange {
    LinkChange::Link(Link {
        index,
        name: name.to_owned(),
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        up: true,
        loopback: false,
        arp: true,
        master: None,
    })
}

fn node() -> Node {
    let (heard, _arp) = tokio::sync::mpsc::channel(1);
    let config = Config::new("a", Key::derive(b"a secret for a test"));
    let clock = Clock {
        now: Duration::from_secs(1),
        wall: 1,
    };
    Node::new(config, Links::default(), Sockets::new(heard), clock).unwrap()
}

#[test]
fn addresses_of_interfaces_that_are_not_announced_on_decide_nothing_again() {
    let mut node = node();
    node.link(interface(NONE, "eth0"));
    node.link(interface(NONE + 1, "kube-ipvs0"));
    for (index, dirty) in [(NONE + 1, Dirty::default()), (NONE, Dirty::All)] {
        let net = "172.17.255.1/32".parse().unwrap();
        let address = LinkAddress {
            net,
            expires: false,
        };
        for change in [
            LinkChange::Address(index, address),
            LinkChange::AddressGone(index, net),
        ] {
            node.dirty = Dirty::default();
            node.link(change.clone());
            assert_eq!(node.dirty, dirty, "{change:?}");
        }
    }
}

fn load_balancer(name: &str, address: [u8; 4]) -> ferrolb_api::change::Change {
    let service = ferrolb_api::view::Service {
        key: ferrolb_api::ObjectKey::new("default", name),
        service_type: ferrolb_api::view::ServiceType::LoadBalancer,
        ingress: vec![ferrolb_api::view::IngressAddress {
            ip: IpAddr::from(address),
            vip: true,
        }],
        ..Default::default()
    };
    ferrolb_api::change::Change::Upsert(ferrolb_api::object::Object::Service(service.into()))
}

#[test]
fn a_long_list_is_taken_in_by_parts_and_nothing_is_decided_from_a_part() {
    let mut node = node();
    let list = (0..3 * MOST as u32).map(|n| {
        let [_, _, high, low] = n.to_be_bytes();
        load_balancer(&format!("svc-{n}"), [172, 17, high, low])
    });
    let last = 3 * MOST - 1;
    node.batch(Batch {
        changes: list.collect(),
        ..Batch::default()
    });
    for _ in 0..2 {
        node.decide();
        assert_eq!(node.desired.len(), 0);
        assert_eq!(node.next_wakeup(), Duration::ZERO);
    }
    for part in 1..=3 {
        node.decide();
        assert!(!node.is_waiting());
        assert_eq!(node.desired.len(), part * MOST);
        assert_eq!(node.next_wakeup() == Duration::ZERO, part < 3);
    }
    let gone = ferrolb_api::change::Change::Remove(
        ferrolb_api::object::Kind::Service,
        ferrolb_api::ObjectKey::new("default", format!("svc-{last}")),
    );
    let again = load_balancer(&format!("svc-{last}"), [172, 18, 0, 1]);
    for change in [gone, again] {
        node.batch(Batch {
            changes: vec![change],
            ..Batch::default()
        });
    }
    node.decide();
    assert_eq!(node.desired.len(), 3 * MOST);
    assert!(node.desired.contains_key(&IpAddr::from([172, 18, 0, 1])));
}

#[test]
fn an_address_of_a_service_on_an_interface_of_this_node_is_reported() {
    let mut node = node();
    node.batch(Batch {
        changes: vec![load_balancer("web", [172, 17, 255, 1])],
        ..Batch::default()
    });
    node.decide();
    node.link(interface(NONE, "eth0"));
    node.link(interface(NONE + 1, "kube-ipvs0"));
    let carried = |node: &mut Node| {
        let all = node.snapshot().problems.into_iter();
        let mut all = all.filter(|p| matches!(p, Problem::Carried { .. }));
        all.next().map(|p| format!("{}: {p}", p.object()))
    };
    let net = "172.17.255.1/32".parse().unwrap();
    for (index, expires, reported) in [
        (NONE + 1, false, false),
        (NONE, true, false),
        (NONE, false, true),
    ] {
        let address = LinkAddress { net, expires };
        node.link(LinkChange::Address(index, address));
        assert_eq!(carried(&mut node).is_some(), reported, "{index} {expires}");
    }
    let said = carried(&mut node).unwrap();
    assert!(
        said.starts_with("172.17.255.1: interface eth0 of this node has this address")
            && said.ends_with("`ip address del 172.17.255.1/32 dev eth0`"),
        "{said}"
    );
    node.link(LinkChange::AddressGone(NONE, net));
    assert_eq!(carried(&mut node), None);
}
