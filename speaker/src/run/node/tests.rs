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

#[test]
fn addresses_of_interfaces_that_are_not_announced_on_decide_nothing_again() {
    let (heard, _arp) = tokio::sync::mpsc::channel(1);
    let config = Config::new("a", Key::derive(b"a secret for a test"));
    let clock = Clock {
        now: Duration::from_secs(1),
        wall: 1,
    };
    let mut node = Node::new(config, Links::default(), Sockets::new(heard), clock).unwrap();
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

#[test]
fn an_address_of_a_service_on_an_interface_of_this_node_is_reported() {
    let (heard, _arp) = tokio::sync::mpsc::channel(1);
    let config = Config::new("a", Key::derive(b"a secret for a test"));
    let clock = Clock {
        now: Duration::from_secs(1),
        wall: 1,
    };
    let mut node = Node::new(config, Links::default(), Sockets::new(heard), clock).unwrap();
    let service = ferrolb_api::view::Service {
        service_type: ferrolb_api::view::ServiceType::LoadBalancer,
        ingress: vec![ferrolb_api::view::IngressAddress {
            ip: IpAddr::from([172, 17, 255, 1]),
            vip: true,
        }],
        ..Default::default()
    };
    let object = ferrolb_api::object::Object::Service(service.into());
    node.batch(Batch {
        changes: vec![ferrolb_api::change::Change::Upsert(object)],
        ..Batch::default()
    });
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
