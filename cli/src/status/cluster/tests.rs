#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ferrolb_node::report::view::ServiceState;

use super::super::table::render_cluster;
use super::*;

const OBJECTS: &str = "
apiVersion: v1
kind: Node
metadata: {name: node-1}
---
apiVersion: v1
kind: Node
metadata: {name: node-2}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: default, namespace: metallb-system}
spec: {addresses: [172.17.255.1-172.17.255.2]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default, uid: u1}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.2
  ports: [{port: 80}]
status: {loadBalancer: {ingress: [{ip: 172.17.255.1}]}}
---
apiVersion: v1
kind: Service
metadata: {name: late, namespace: default, uid: u2}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.3
  ports: [{port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: inside, namespace: default, uid: u3}
spec:
  clusterIP: 10.96.0.4
  ports: [{port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8000}]
endpoints: [{addresses: [10.244.1.11], conditions: {ready: true}}, {addresses: [10.244.1.12], conditions: {ready: false}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: inside-1, namespace: default, labels: {kubernetes.io/service-name: inside}}
addressType: IPv4
ports: [{port: 8000}]
endpoints: [{addresses: [10.244.1.11], conditions: {ready: true}}]
";

fn shown(found: Found) -> ClusterStatus {
    let read = ferrolb_source::files::document::read("test.yaml", "default", OBJECTS);
    assert!(read.problems.is_empty(), "{:?}", read.problems);
    let first = Batch {
        changes: read
            .objects
            .into_iter()
            .map(|o| Change::Upsert(o.object))
            .collect(),
        ..Batch::default()
    };
    compose(first, found, None)
}

fn announced(object: &str, node: &str) -> Found {
    let status = L2Status {
        node: node.into(),
        service_name: "web".into(),
        service_namespace: "default".into(),
        interfaces: vec![],
    };
    Found {
        server: "https://192.0.2.1:6443/".into(),
        announcers: [(status.service(), vec![(object.to_owned(), status)])].into(),
        ..Found::default()
    }
}

fn of<'a>(status: &'a ClusterStatus, name: &str) -> &'a ServiceStatus {
    status.services.iter().find(|s| s.name == name).unwrap()
}

#[test]
fn the_announcer_is_the_one_that_wrote_it() {
    let status = shown(announced("l2-u1", "node-2"));
    let web = of(&status, "web");
    assert_eq!(web.addresses[0].node.as_deref(), Some("node-2"));
    assert_eq!(
        (web.state, web.reason),
        (ServiceState::Serving, Reason::Announced)
    );
    assert_eq!((web.endpoints.used, web.endpoints.total), (1, 2));
    let counts: Vec<_> = status
        .nodes
        .iter()
        .map(|n| (n.name.as_str(), n.addresses))
        .collect();
    assert_eq!(counts, [("node-1", 0), ("node-2", 1)]);
}

#[test]
fn an_object_of_metallb_is_one_too_and_one_of_the_other_family_is_not() {
    let metallbs = shown(announced("l2-x7k2p", "node-1"));
    assert_eq!(of(&metallbs, "web").reason, Reason::Announced);
    let other_family = shown(announced("l2-u1-v6", "node-1"));
    assert_eq!(of(&other_family, "web").reason, Reason::NoOwner);
}

#[test]
fn without_an_announcer_the_reason_is_what_a_node_told_and_else_where_to_ask() {
    let nobody = shown(Found::default());
    let web = of(&nobody, "web");
    assert_eq!(
        (web.state, web.reason),
        (ServiceState::Pending, Reason::NoOwner)
    );
    assert!(web.message.contains("172.17.255.1"), "{}", web.message);
    let told = shown(Found {
        told: [("u1".to_owned(), (Reason::NoAdvertisement, "so".to_owned()))].into(),
        ..Found::default()
    });
    let web = of(&told, "web");
    assert_eq!(
        (web.reason, web.message.as_str()),
        (Reason::NoAdvertisement, "so")
    );
}

#[test]
fn a_service_without_an_address_and_one_that_wants_none_say_so() {
    let status = shown(Found::default());
    assert_eq!(of(&status, "late").reason, Reason::NotSettled);
    assert!(of(&status, "late").message.contains("ferrolb controller"));
    let inside = of(&status, "inside");
    assert_eq!(
        (inside.state, inside.reason),
        (ServiceState::Serving, Reason::NotLoadBalancer)
    );
}

#[test]
fn the_table_begins_with_the_cluster_and_its_nodes() {
    let text = render_cluster(&shown(announced("l2-u1", "node-2")));
    assert!(
        text.starts_with("Cluster https://192.0.2.1:6443/ (ferrolb "),
        "{text}"
    );
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    let node = vec!["node-2", "Unknown", "<none>", "<none>", "1"];
    assert!(rows.contains(&node), "{text}");
    let web = rows.iter().find(|r| r.get(1) == Some(&"web")).unwrap();
    assert_eq!(
        web[4..9],
        ["172.17.255.1", "80/TCP", "default", "node-2", "1/2"]
    );
}

/// A node's event about the Service `web` with this uid, repeated at `again` (seconds).
fn event(uid: &str, reason: &str, at: i64, again: Option<i64>) -> Event {
    let time = |s: i64| format!("2026-01-01T00:00:{s:02}.000000Z");
    let kind = match reason {
        "Programmed" | "nodeAssigned" => "Normal",
        _ => "Warning",
    };
    let series = again.map(|s| serde_json::json!({"count": 2, "lastObservedTime": time(s)}));
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": format!("web.{at}"), "namespace": "default"},
        "involvedObject": {"kind": "Service", "namespace": "default", "name": "web", "uid": uid},
        "type": kind,
        "reason": reason,
        "message": "so",
        "eventTime": time(at),
        "series": series,
    }))
    .unwrap()
}

#[test]
fn the_last_event_about_a_service_decides() {
    let amiss = || event("u1", "NoEndpoints", 10, None);
    let complaint = [("u1".to_owned(), (Reason::NoEndpoints, "so".to_owned()))].into();
    for well in ["Programmed", "nodeAssigned"] {
        let before = event("u1", well, 5, None);
        assert_eq!(last_words(vec![amiss(), before]), complaint);
        let after = event("u1", well, 15, None);
        assert_eq!(last_words(vec![after, amiss()]), Complaints::new());
        let again = event("u1", well, 5, Some(15));
        assert_eq!(last_words(vec![again, amiss()]), Complaints::new());
    }
}

#[test]
fn what_was_told_about_a_service_of_the_same_name_before_is_not_told_about_this_one() {
    let told = last_words(vec![event("u0", "NoEndpoints", 10, None)]);
    let status = shown(Found {
        told,
        ..Found::default()
    });
    assert_eq!(of(&status, "web").reason, Reason::NoOwner);
}

/// The Lease of a node whose agent was heard this many seconds ago.
fn lease(node: &str, ago: i64) -> (Lease, Timestamp) {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let at = Timestamp::from_second(now.as_second() - ago).unwrap();
    let lease = serde_json::json!({
        "metadata": {"name": node, "annotations": {"ferrolb.io/version": "0.1.0"}},
        "spec": {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": format!("{at}")},
    });
    (serde_json::from_value(lease).unwrap(), now)
}

#[test]
fn a_node_whose_agent_is_not_heard_is_gone_and_one_that_never_had_one_has_none() {
    let rows = |leases: Option<&[(Lease, Timestamp)]>| {
        let heartbeats = leases.map(|all| {
            let all = all.iter().cloned();
            all.filter_map(|(lease, now)| pulse(lease, now)).collect()
        });
        let text = render_cluster(&shown(Found {
            heartbeats,
            ..Found::default()
        }));
        let lines = text.lines().filter(|l| l.starts_with("node-"));
        lines
            .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        rows(Some(&[lease("node-1", 7)])),
        ["node-1 Alive 7s ago 0.1.0 0", "node-2 None <none> <none> 0"]
    );
    assert_eq!(
        rows(Some(&[lease("node-1", -3), lease("node-2", 600)])),
        ["node-1 Alive 0s ago 0.1.0 0", "node-2 Gone 10m ago 0.1.0 0"]
    );
    assert_eq!(
        rows(None),
        [
            "node-1 Unknown <none> <none> 0",
            "node-2 Unknown <none> <none> 0"
        ]
    );
}
