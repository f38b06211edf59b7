#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Mutex;

use ferrolb_api::ObjectKey;
use kube::core::Status;

use super::*;

/// An API server's objects, by name.
#[derive(Default)]
struct Memory {
    objects: Mutex<BTreeMap<String, Found>>,
    /// Objects that must not be deleted.
    kept: BTreeSet<&'static str>,
    /// The number of writes. It also provides the uids of new objects.
    writes: Mutex<usize>,
}

impl Memory {
    fn written(&self) -> usize {
        let mut writes = self.writes.lock().unwrap();
        *writes += 1;
        *writes
    }

    /// The name and the owner of every object, and whether it has a status.
    fn all(&self) -> Vec<(String, Option<String>, bool)> {
        let objects = self.objects.lock().unwrap();
        let all = objects.values();
        all.map(|o| (o.name.clone(), o.owner.clone(), o.shown.is_some()))
            .collect()
    }
}

fn refusal(code: u16, reason: &str) -> Error {
    Error::Api(Status::failure("", reason).with_code(code).boxed())
}

impl Objects for Memory {
    async fn list(&self, _: Option<&str>) -> Result<Vec<Found>, Error> {
        Ok(self.objects.lock().unwrap().values().cloned().collect())
    }

    async fn create(
        &self,
        _: &str,
        name: &str,
        _: &Announcement,
        owner: Option<&str>,
    ) -> Result<String, Error> {
        let uid = self.written().to_string();
        let mut objects = self.objects.lock().unwrap();
        if objects.contains_key(name) {
            return Err(refusal(409, "AlreadyExists"));
        }
        let object = Found {
            name: name.to_owned(),
            uid: uid.clone(),
            owner: owner.map(str::to_owned),
            shown: None,
        };
        objects.insert(name.to_owned(), object);
        Ok(uid)
    }

    async fn show(&self, node: &str, name: &str, shown: &Announcement) -> Result<(), Error> {
        self.written();
        let mut objects = self.objects.lock().unwrap();
        let object = objects.get_mut(name).ok_or(refusal(404, "NotFound"))?;
        object.shown = Some((node.to_owned(), shown.clone()));
        Ok(())
    }

    async fn delete(&self, name: &str, uid: Option<&str>) -> Result<(), Error> {
        self.written();
        let mut objects = self.objects.lock().unwrap();
        let object = objects.get(name).ok_or(refusal(404, "NotFound"))?;
        if self.kept.contains(name) {
            return Err(refusal(403, "Forbidden"));
        }
        if uid.is_some_and(|uid| uid != object.uid) {
            return Err(refusal(409, "Conflict"));
        }
        objects.remove(name);
        Ok(())
    }
}

fn scribe(kept: &[&'static str]) -> Scribe<Memory> {
    Scribe {
        objects: Memory {
            kept: kept.iter().copied().collect(),
            ..Memory::default()
        },
        node: "a".to_owned(),
    }
}

fn wanted(owner: &str, names: &[&str]) -> Wanted {
    let announcement = Announcement {
        service: ObjectKey::new("default", "web"),
        interfaces: vec![],
    };
    let own = names.iter();
    Wanted {
        owner: Some(owner.to_owned()),
        own: own
            .map(|name| ((*name).to_owned(), announcement.clone()))
            .collect(),
        ..Wanted::default()
    }
}

/// One complete pass.
fn bring(scribe: &Scribe<Memory>, known: &mut Known, wanted: &Wanted, now: Instant) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let done = runtime.unwrap().block_on(scribe.bring(known, wanted, now));
    done.is_ok()
}

fn shown(name: &str, owner: &str) -> (String, Option<String>, bool) {
    (name.to_owned(), Some(owner.to_owned()), true)
}

#[test]
fn what_is_right_is_not_written_again() {
    let (scribe, mut known, now) = (scribe(&[]), Known::default(), Instant::now());
    let wanted = wanted("n1", &["l2-1"]);
    assert!(bring(&scribe, &mut known, &wanted, now));
    assert_eq!(scribe.objects.all(), [shown("l2-1", "n1")]);
    assert!(bring(&scribe, &mut known, &wanted, now));
    assert!(bring(&scribe, &mut Known::default(), &wanted, now));
    assert_eq!(scribe.objects.written(), 3);
}

#[test]
fn an_object_that_a_node_object_of_before_owns_is_replaced() {
    let (scribe, now) = (scribe(&[]), Instant::now());
    let mut known = Known::default();
    bring(&scribe, &mut known, &wanted("n1", &["l2-1"]), now);
    let anew = wanted("n2", &["l2-1"]);
    assert!(bring(&scribe, &mut known, &anew, now));
    assert_eq!(scribe.objects.all(), [shown("l2-1", "n2")]);
    // The same after a restart.
    let next = wanted("n3", &["l2-1"]);
    assert!(bring(&scribe, &mut Known::default(), &next, now));
    assert_eq!(scribe.objects.all(), [shown("l2-1", "n3")]);
}

#[test]
fn an_object_that_somebody_deleted_comes_back_however_much_changes_meanwhile() {
    let (scribe, start) = (scribe(&[]), Instant::now());
    let mut known = Known::default();
    bring(&scribe, &mut known, &wanted("n1", &["l2-1"]), start);
    scribe.objects.objects.lock().unwrap().clear();
    for minute in 1..5 {
        let now = start + Duration::from_secs(60 * minute);
        let name = format!("l2-x{minute}");
        let changing = wanted("n1", &["l2-1", &name]);
        assert!(bring(&scribe, &mut known, &changing, now));
        assert_eq!(known.due(), Some(start + AUDIT));
        assert_eq!(scribe.objects.all(), [shown(&name, "n1")]);
    }
    let changing = wanted("n1", &["l2-1"]);
    assert!(bring(&scribe, &mut known, &changing, start + AUDIT));
    assert_eq!(scribe.objects.all(), [shown("l2-1", "n1")]);
}

#[test]
fn an_object_that_may_not_be_deleted_keeps_no_other_from_being_written() {
    let (scribe, now) = (scribe(&["l2-1", "l2-9"]), Instant::now());
    let mut known = Known::default();
    let before = wanted("n1", &["l2-1", "l2-2", "l2-8", "l2-9"]);
    assert!(bring(&scribe, &mut known, &before, now));
    let mut next = wanted("n1", &["l2-3"]);
    next.orphaned = ["l2-8".to_owned(), "l2-9".to_owned()].into();
    let left = ["l2-1", "l2-3", "l2-9"].map(|name| shown(name, "n1"));
    for _ in 0..2 {
        assert!(!bring(&scribe, &mut known, &next, now), "it is told");
        assert_eq!(scribe.objects.all(), left);
    }
    // It is tried again.
    assert!(!known.orphaned.contains("l2-9"));
}

#[test]
fn an_object_of_another_node_with_the_same_label_is_left_alone() {
    let (scribe, now) = (scribe(&[]), Instant::now());
    let mut known = Known::default();
    bring(&scribe, &mut known, &wanted("n1", &["l2-1"]), now);
    let mut objects = scribe.objects.objects.lock().unwrap();
    objects.get_mut("l2-1").unwrap().shown.as_mut().unwrap().0 = "b".to_owned();
    drop(objects);
    let nothing = wanted("n1", &[]);
    assert!(bring(&scribe, &mut Known::default(), &nothing, now));
    assert_eq!(scribe.objects.all().len(), 1);
}
