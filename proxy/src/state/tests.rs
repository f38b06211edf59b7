#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ferrolb_api::change::Change;
use ferrolb_api::object::{Kind, Object};

use super::State;
use crate::testing::{config, ip, node, proxy_config, served, service};

fn state() -> State {
    let mut state = State::new(&config("A"));
    for n in [node("A", 0), node("B", 1)] {
        state.apply(Change::Upsert(Object::Node(n.into())));
    }
    let mut web = service("web");
    web.external_ips = vec![ip("B")];
    for change in [served(&web, &["a1"]), served(&service("app"), &["b1"])].concat() {
        state.apply(change);
    }
    state.take_dirty();
    state
}

fn dirty(change: Change) -> (Vec<String>, bool) {
    let mut state = state();
    state.apply(change);
    let dirty = state.take_dirty();
    (
        dirty.services.iter().map(|k| k.name.clone()).collect(),
        dirty.globals,
    )
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|n| (*n).to_owned()).collect()
}

#[test]
fn an_object_that_says_nothing_new_concerns_nobody() {
    let mut same = served(&service("app"), &["b1"]);
    same.push(Change::Upsert(Object::Node(node("B", 1).into())));
    same.push(Change::Upsert(Object::ProxyConfig(
        Box::new(proxy_config()),
    )));
    for change in same {
        assert_eq!(dirty(change), (vec![], false));
    }
}

#[test]
fn a_slice_concerns_its_service_alone() {
    let [_, slice] = served(&service("app"), &["b1", "b2"]).try_into().unwrap();
    assert_eq!(dirty(slice), (names(&["app"]), false));
}

#[test]
fn an_address_of_another_node_concerns_the_services_that_name_it() {
    let mut moved = node("B", 1);
    moved.internal_ips.clear();
    assert_eq!(
        dirty(Change::Upsert(Object::Node(moved.into()))),
        (names(&["web"]), false)
    );
    let gone = Change::Remove(Kind::Node, Object::Node(node("B", 1).into()).key());
    assert_eq!(dirty(gone), (names(&["web"]), true));
}

#[test]
fn the_zone_of_this_node_concerns_every_service() {
    let mut own = node("A", 0);
    own.zone = Some("west".to_owned());
    assert_eq!(
        dirty(Change::Upsert(Object::Node(own.into()))),
        (names(&["app", "web"]), false)
    );
}

#[test]
fn labels_of_nodes_concern_nobody() {
    let mut own = node("A", 0);
    own.labels = [("color", "blue")].into();
    assert_eq!(
        dirty(Change::Upsert(Object::Node(own.into()))),
        (vec![], false)
    );
}
