#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ferrolb_api::ObjectKey;
use ferrolb_api::change::{Batch, Change};
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::refusal::Refusal;
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::merge::{Merge, News};
use super::object::Watched;
use super::watch::{Resources, Settings, resources};
use crate::decode;

fn failed(said: &str) -> News {
    News::Failed(Refusal::Rejected { said: said.into() })
}

fn away(why: &str) -> News {
    News::Failed(Refusal::Unanswered { why: why.into() })
}

fn forbidden() -> News {
    News::Failed(Refusal::Forbidden {
        right: "list services".into(),
        said: String::new(),
    })
}

const SERVICES: usize = 0;
const NODES: usize = 1;

fn merge() -> Merge {
    Merge::new([Kind::Service, Kind::Node])
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn service(name: &str, port: i64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": port}]},
    })
}

fn listed(name: &str, port: i64) -> News {
    News::Listed(
        key(name),
        Box::new(decode::object(&service(name, port), "default")),
    )
}

fn applied(name: &str, port: i64) -> News {
    News::Applied(
        key(name),
        Box::new(decode::object(&service(name, port), "default")),
    )
}

/// A list of Services, all with port 80.
fn list(merge: &mut Merge, names: &[&str]) {
    merge.hear(SERVICES, News::ListBegins);
    for name in names {
        merge.hear(SERVICES, listed(name, 80));
    }
    merge.hear(SERVICES, News::ListEnds);
}

fn names(batch: &Batch) -> Vec<String> {
    let name = |change: &Change| match change {
        Change::Upsert(object) => format!("+{}", object.key().name),
        Change::Remove(_, key) => format!("-{}", key.name),
    };
    batch.changes.iter().map(name).collect()
}

/// Both watches have delivered their lists; Services `a` and `b` exist.
fn begun() -> Merge {
    let mut merge = merge();
    list(&mut merge, &["a", "b"]);
    merge.hear(NODES, News::ListEnds);
    assert_eq!(names(&merge.take().unwrap()), ["+a", "+b"]);
    merge
}

#[test]
fn nothing_is_delivered_before_every_watch_has_its_first_list() {
    let mut merge = merge();
    list(&mut merge, &["a"]);
    merge.hear(SERVICES, applied("b", 80));
    assert_eq!(merge.take(), None);
    assert_eq!(merge.waits_for(), ["Node: no complete list yet"]);
    merge.hear(NODES, failed("refused"));
    assert_eq!(merge.take(), None);
    assert_eq!(merge.waits_for(), ["Node: refused"]);
    merge.hear(NODES, News::ListBegins);
    merge.hear(NODES, News::ListEnds);
    assert_eq!(names(&merge.take().unwrap()), ["+a", "+b"]);
    assert_eq!(merge.take(), None);
}

#[test]
fn a_missing_right_is_told_from_what_passes_by_itself_until_it_is_given() {
    let mut merge = merge();
    merge.hear(SERVICES, forbidden());
    merge.hear(NODES, failed("overloaded"));
    assert_eq!(
        merge.refusals(),
        [
            "Service: not allowed to list services: give this user that right (deploy/kustomize/base/rbac.yaml has it)"
        ]
    );
    list(&mut merge, &[]);
    assert_eq!(merge.refusals(), Vec::<String>::new());
}

#[test]
fn the_first_batch_is_given_even_if_there_is_nothing() {
    let mut merge = merge();
    list(&mut merge, &[]);
    list(&mut merge, &[]);
    merge.hear(NODES, News::ListEnds);
    assert_eq!(merge.take(), Some(Batch::default()));
    assert_eq!(merge.take(), None);
}

#[test]
fn a_new_list_counts_when_it_is_complete_and_only_its_difference() {
    let mut merge = begun();
    merge.hear(SERVICES, News::ListBegins);
    merge.hear(SERVICES, listed("b", 80));
    merge.hear(SERVICES, listed("c", 80));
    assert_eq!(merge.take(), None);
    merge.hear(SERVICES, News::ListEnds);
    assert_eq!(names(&merge.take().unwrap()), ["+c", "-a"]);
}

#[test]
fn a_list_that_breaks_off_removes_nothing() {
    let mut merge = begun();
    merge.hear(SERVICES, News::ListBegins);
    merge.hear(SERVICES, failed("refused"));
    let batch = merge.take().unwrap();
    assert!(batch.changes.is_empty());
    assert_eq!(
        batch.problems.unwrap()[0].to_string(),
        "Service: refused; everything stays as it is until that changes"
    );
    list(&mut merge, &["a", "b"]);
    let batch = merge.take().unwrap();
    assert_eq!((batch.changes, batch.problems), (vec![], Some(vec![])));
}

#[test]
fn a_kind_that_vanishes_from_the_server_removes_nothing() {
    let mut merge = begun();
    merge.hear(SERVICES, News::ListBegins);
    merge.hear(SERVICES, News::Unknown(Refusal::NotKubernetes));
    assert!(merge.take().unwrap().changes.is_empty());
}

#[test]
fn a_kind_that_the_server_does_not_know_is_no_barrier() {
    let mut merge = merge();
    list(&mut merge, &["a"]);
    merge.hear(NODES, News::Unknown(Refusal::NotKubernetes));
    let batch = merge.take().unwrap();
    assert_eq!(names(&batch), ["+a"]);
    assert_eq!(batch.problems.unwrap().len(), 1);
}

#[test]
fn a_fault_ends_when_the_watch_works_again() {
    let mut merge = begun();
    merge.hear(SERVICES, failed("refused"));
    merge.hear(SERVICES, failed("refused"));
    assert_eq!(merge.take().unwrap().problems.unwrap().len(), 1);
    assert_eq!(merge.take(), None);
    merge.hear(SERVICES, News::Recovered);
    assert_eq!(merge.take().unwrap().problems, Some(vec![]));
}

#[test]
fn a_server_that_is_away_is_told_once_whatever_the_attempts_end_with() {
    let told = |merge: &mut Merge| {
        let problems = merge.take()?.problems?;
        Some(problems.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let mut merge = begun();
    merge.hear(SERVICES, away("reset by peer"));
    assert_eq!(
        told(&mut merge).unwrap(),
        [
            "Service: the API server does not answer (reset by peer); everything stays as it is until that changes"
        ]
    );
    for attempt in ["refused", "reset by peer", "timed out"] {
        merge.hear(SERVICES, away(attempt));
        assert_eq!(told(&mut merge), None, "{attempt}");
    }
    merge.hear(SERVICES, failed("not allowed"));
    assert_eq!(
        told(&mut merge).unwrap(),
        ["Service: not allowed; everything stays as it is until that changes"]
    );
}

#[test]
fn an_unchanged_object_is_not_delivered_and_of_several_changes_the_last_one_counts() {
    let mut merge = begun();
    merge.hear(SERVICES, applied("a", 80));
    assert_eq!(merge.take(), None);
    merge.hear(SERVICES, applied("a", 81));
    merge.hear(SERVICES, News::Deleted(key("a")));
    merge.hear(SERVICES, applied("a", 82));
    merge.hear(SERVICES, News::Deleted(key("b")));
    let batch = merge.take().unwrap();
    assert_eq!(names(&batch), ["+a", "-b"]);
    let Change::Upsert(Object::Service(a)) = &batch.changes[0] else {
        panic!("{batch:?}");
    };
    assert_eq!(a.ports[0].port, 82);
}

#[test]
fn a_broken_object_keeps_its_last_good_state_and_leaves_a_problem() {
    let mut merge = begun();
    merge.hear(SERVICES, applied("a", 99_999));
    let batch = merge.take().unwrap();
    assert!(batch.changes.is_empty());
    let problem = &batch.problems.unwrap()[0];
    assert!(problem.is_about(Kind::Service, &key("a")));
    assert_eq!(problem.field, "spec.ports[0].port");
    merge.hear(SERVICES, applied("a", 99_998));
    assert!(
        merge.take().unwrap().problems.unwrap()[0]
            .message()
            .contains("99998")
    );
    merge.hear(SERVICES, applied("a", 80));
    assert_eq!(merge.take().unwrap().problems, Some(vec![]));
}

#[test]
fn what_the_api_server_sends_is_read_without_its_bookkeeping() {
    let object: Watched = serde_json::from_value(json!({
        "metadata": {
            "name": "a", "namespace": "default", "resourceVersion": "7", "uid": "u",
            "labels": {"l": "1"}, "annotations": {"n": "2"},
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
        },
        "spec": {"ports": [{"port": 80}]},
    }))
    .unwrap();
    let resource = ApiResource {
        group: String::new(),
        version: "v1".into(),
        api_version: "v1".into(),
        kind: "Service".into(),
        plural: "services".into(),
    };
    let tree = object.tree(&resource);
    assert_eq!(tree.pointer("/metadata/managedFields"), None);
    assert_eq!(tree.pointer("/metadata/labels/l"), Some(&json!("1")));
    assert_eq!(tree.pointer("/kind"), Some(&json!("Service")));
    assert!(matches!(
        decode::object(&tree, "x"),
        decode::Decoded::Good(..)
    ));
}

#[test]
fn a_node_watches_what_a_controller_does_and_more() {
    let kinds = |which| {
        let settings = Settings::new(which);
        let kinds = resources(&settings).into_iter().map(|r| r.kind);
        kinds.collect::<Vec<_>>()
    };
    let controller = kinds(Resources::Controller);
    let node = kinds(Resources::Node);
    assert!(node.starts_with(&controller));
    assert!(node.contains(&Kind::EndpointSlice) && !controller.contains(&Kind::EndpointSlice));
}
