#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use ferrolb_api::view::Endpoint;
use proptest::prelude::*;

use super::*;

fn ip(n: u8) -> IpAddr {
    format!("192.0.2.{n}").parse().unwrap()
}

fn node(n: u8) -> Change {
    Change::Upsert(Object::Node(
        Node {
            name: format!("n{n}"),
            internal_ips: vec![ip(n)],
            ..Node::default()
        }
        .into(),
    ))
}

fn gone(n: u8) -> Change {
    Change::Remove(Kind::Node, ObjectKey::new("", format!("n{n}")))
}

fn service() -> ObjectKey {
    ObjectKey::new("ferrolb-system", "ferrolb-node")
}

fn agents(nodes: &[u8]) -> Change {
    let endpoint = |n: &u8| Endpoint {
        address: ip(*n),
        node: Some(format!("n{n}")),
        ready: false,
        serving: false,
        terminating: false,
        hint_nodes: Vec::new(),
        hint_zones: Vec::new(),
        weight: None,
    };
    Change::Upsert(Object::EndpointSlice(Arc::new(EndpointSlice {
        key: ObjectKey::new("ferrolb-system", "ferrolb-node-x"),
        service: "ferrolb-node".into(),
        ports: Vec::new(),
        endpoints: nodes.iter().map(endpoint).collect(),
        triggered: None,
    })))
}

/// Node `n1` after these changes.
fn after(changes: &[Change]) -> Membership {
    let mut membership = Membership::followed("n1", Some(ip(1)), Some(service()));
    changes.iter().for_each(|c| membership.apply(c));
    membership
}

fn names(changes: &[Change]) -> String {
    let members = after(changes).members();
    members.keys().cloned().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_cluster_that_grows_from_one_node_has_all_its_nodes_as_members() {
    assert_eq!(names(&[]), "n1");
    assert_eq!(names(&[node(1)]), "n1");
    assert_eq!(names(&[node(1), node(2), node(3)]), "n1 n2 n3");
    let grown = [node(1), agents(&[1]), node(2), agents(&[1, 2])];
    assert_eq!(names(&grown), "n1 n2");
}

#[test]
fn a_node_on_which_no_agent_runs_is_known_and_is_no_member() {
    let membership = after(&[node(1), node(2), node(3), agents(&[1, 2])]);
    assert_eq!(membership.members().len(), 2);
    let known = membership.known();
    assert_eq!(
        known["n3"],
        Known {
            address: Some(ip(3)),
            agent: false
        }
    );
}

#[test]
fn slices_that_do_not_name_this_node_leave_every_node_a_member() {
    assert_eq!(
        names(&[node(1), node(2), node(3), agents(&[2])]),
        "n1 n2 n3"
    );
    assert_eq!(names(&[node(1), node(2), agents(&[])]), "n1 n2");
    let mut foreign = agents(&[1]);
    if let Change::Upsert(Object::EndpointSlice(slice)) = &mut foreign {
        Arc::make_mut(slice).service = "other".into();
    }
    assert_eq!(names(&[node(1), node(2), foreign]), "n1 n2");
}

#[test]
fn a_pod_that_is_replaced_and_a_list_that_is_empty_for_a_moment_forget_nobody() {
    let all = [node(1), node(2), node(3), agents(&[1, 2, 3])];
    for then in [vec![agents(&[1, 3])], vec![agents(&[])], {
        let key = ObjectKey::new("ferrolb-system", "ferrolb-node-x");
        vec![Change::Remove(Kind::EndpointSlice, key)]
    }] {
        let changes = [all.to_vec(), then].concat();
        assert_eq!(names(&changes), "n1 n2 n3");
    }
}

#[test]
fn a_node_that_is_deleted_is_forgotten_and_one_that_comes_back_is_a_member_again() {
    let mut changes = vec![node(1), node(2), agents(&[1, 2]), gone(2)];
    assert_eq!(names(&changes), "n1");
    changes.push(node(2));
    assert_eq!(names(&changes), "n1 n2");
}

#[test]
fn a_node_that_is_deleted_and_made_again_without_its_agent_is_no_member() {
    let changes = [
        node(1),
        node(2),
        agents(&[1, 2]),
        gone(2),
        agents(&[1]),
        node(2),
    ];
    assert_eq!(names(&changes), "n1");
}

#[test]
fn a_member_listens_on_the_first_ipv4_address_of_its_node_else_where_its_pod_is() {
    let v6: IpAddr = "2001:db8::1".parse().unwrap();
    for (ips, expected) in [
        (vec![v6, ip(7), ip(8)], ip(7)),
        (vec![v6], v6),
        (vec![], ip(2)),
    ] {
        let two = Change::Upsert(Object::Node(
            Node {
                name: "n2".into(),
                internal_ips: ips,
                ..Node::default()
            }
            .into(),
        ));
        let membership = after(&[node(1), two, agents(&[1, 2])]);
        assert_eq!(membership.members()["n2"], Some(expected));
    }
}

#[test]
fn a_list_is_the_answer_whatever_the_objects_say() {
    let list = BTreeMap::from([("n1".to_owned(), ip(1)), ("n2".to_owned(), ip(9))]);
    let mut membership = Membership::listed("n1", list);
    let before = membership.members();
    for change in [node(1), node(3), agents(&[1, 3]), gone(1)] {
        membership.apply(&change);
    }
    assert_eq!(membership.members(), before);
    assert_eq!(before["n2"], Some(ip(9)));
}

proptest! {
    /// Slices only ever add members, once they name this node. Only the deletion of a Node object removes one.
    #[test]
    fn nobody_leaves_but_with_his_node(steps in proptest::collection::vec((0_u8..4, proptest::collection::vec(1_u8..6, 0..6)), 1..40)) {
        let mut membership = after(&[node(1), agents(&[1])]);
        for (what, nodes) in steps {
            let before = membership.members();
            let n = nodes.first().copied().unwrap_or(2);
            let (change, removed) = match what {
                0 => (node(n), None),
                1 => (gone(n), Some(format!("n{n}"))),
                _ => (agents(&nodes), None),
            };
            membership.apply(&change);
            let after = membership.members();
            prop_assert!(after.contains_key("n1"));
            for name in before.keys() {
                prop_assert!(after.contains_key(name) || removed.as_ref() == Some(name), "{name} left");
            }
        }
    }
}
