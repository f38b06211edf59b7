//! Merges the events of all watches into batches. Pure.
//!
//! | event | action |
//! |---|---|
//! | a watch has not delivered its first list | deliver nothing yet (the barrier) |
//! | a list begins again (410 Gone, a lost connection) | keep what is known until the list is complete, then apply the difference at once |
//! | an object cannot be read | keep its last good state and report a problem |
//! | a watch fails, or its kind no longer exists | remove nothing, for any length of time, and report a problem |

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::{Batch, Change};
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::problem::{Cause, Consequence, Problem, Subject};
use ferrolb_api::refusal::Refusal;

use crate::decode::{Decoded, FieldError};

/// One event of a watch.
#[derive(Debug)]
pub(super) enum News {
    /// A complete list begins.
    ListBegins,
    /// An object of that list.
    Listed(ObjectKey, Box<Decoded>),
    /// The list is complete.
    ListEnds,
    /// An object is new or changed.
    Applied(ObjectKey, Box<Decoded>),
    /// An object is gone.
    Deleted(ObjectKey),
    /// The watch failed; it is being retried.
    Failed(Refusal),
    /// There has been no failure for a while.
    Recovered,
    /// The API server does not know the kind. This counts as an empty list if nothing was ever listed.
    Unknown(Refusal),
}

#[derive(Debug)]
struct Watch {
    kind: Kind,
    known: BTreeMap<ObjectKey, Object>,
    /// The list that is currently being received.
    list: Option<BTreeMap<ObjectKey, Box<Decoded>>>,
    ready: bool,
    /// The current failure.
    fault: Option<Refusal>,
    problems: BTreeMap<ObjectKey, Vec<Problem>>,
}

/// The known state of every watch, and the part that is not delivered yet.
#[derive(Debug)]
pub(super) struct Merge {
    watches: Vec<Watch>,
    /// Keyed by identity, so that the last of several changes to an object wins.
    pending: BTreeMap<(Kind, ObjectKey), Option<Object>>,
    problems_changed: bool,
    began: bool,
}

impl Merge {
    /// Creates one watch for each kind, in this order.
    pub(super) fn new(kinds: impl IntoIterator<Item = Kind>) -> Self {
        let watch = |kind| Watch {
            kind,
            known: BTreeMap::new(),
            list: None,
            ready: false,
            fault: None,
            problems: BTreeMap::new(),
        };
        Self {
            watches: kinds.into_iter().map(watch).collect(),
            pending: BTreeMap::new(),
            problems_changed: false,
            began: false,
        }
    }

    /// Processes an event of the watch with this number.
    pub(super) fn hear(&mut self, number: usize, news: News) {
        let Some(watch) = self.watches.get_mut(number) else {
            return;
        };
        let before = (watch.fault.clone(), watch.problems.len());
        let mut told = false;
        match news {
            News::ListBegins => watch.list = Some(BTreeMap::new()),
            News::Listed(key, decoded) => {
                watch.list.get_or_insert_default().insert(key, decoded);
            }
            News::ListEnds => {
                let list = watch.list.take().unwrap_or_default();
                watch.fault = None;
                watch.ready = true;
                let gone = watch.known.keys().chain(watch.problems.keys());
                let gone: Vec<ObjectKey> =
                    gone.filter(|k| !list.contains_key(k)).cloned().collect();
                for key in gone {
                    told |= watch.remove(key, &mut self.pending);
                }
                for (key, decoded) in list {
                    told |= watch.take(key, *decoded, &mut self.pending);
                }
            }
            News::Applied(key, decoded) => {
                watch.fault = None;
                told = watch.take(key, *decoded, &mut self.pending);
            }
            News::Deleted(key) => {
                watch.fault = None;
                told = watch.remove(key, &mut self.pending);
            }
            News::Failed(why) => {
                watch.list = None;
                // An unreachable server may fail differently at each attempt, so the first message is kept.
                let away = |r: &Refusal| matches!(r, Refusal::Unanswered { .. });
                if !(away(&why) && watch.fault.as_ref().is_some_and(away)) {
                    watch.fault = Some(why);
                }
            }
            News::Recovered => watch.fault = None,
            News::Unknown(why) => {
                watch.list = None;
                watch.ready = true;
                watch.fault = Some(why);
            }
        }
        self.problems_changed |= told || before != (watch.fault.clone(), watch.problems.len());
    }

    /// The batch to deliver now, if any. The first batch is complete, and is delivered even if it is empty.
    pub(super) fn take(&mut self) -> Option<Batch> {
        if !self.watches.iter().all(|w| w.ready) {
            return None;
        }
        let first = !mem::replace(&mut self.began, true);
        let pending = mem::take(&mut self.pending);
        let change = |((kind, key), object): ((Kind, ObjectKey), Option<Object>)| match object {
            Some(object) => Change::Upsert(object),
            None => Change::Remove(kind, key),
        };
        let mut changes: Vec<Change> = pending.into_iter().map(change).collect();
        changes.sort_by_key(Change::rank);
        let problems = mem::take(&mut self.problems_changed).then(|| self.problems());
        (first || !changes.is_empty() || problems.is_some()).then_some(Batch {
            changes,
            problems,
            origins: Vec::new(),
        })
    }

    /// What the first batch is still waiting for: a sentence for each cause, with the kinds.
    pub(super) fn waits_for(&self) -> Vec<String> {
        let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for watch in self.watches.iter().filter(|w| !w.ready) {
            let why = match &watch.fault {
                Some(why) => why.to_string(),
                None => "no complete list yet".to_owned(),
            };
            kinds.entry(why).or_default().push(watch.kind.to_string());
        }
        let sentences = kinds.into_iter();
        sentences
            .map(|(why, kinds)| format!("{}: {why}", kinds.join(", ")))
            .collect()
    }

    /// The ones among them that waiting will not resolve: a permission is missing.
    pub(super) fn refusals(&self) -> Vec<String> {
        let waiting = self.watches.iter().filter(|w| !w.ready);
        let refused = waiting.filter_map(|w| match &w.fault {
            Some(why) if why.lacks_right() => Some(format!("{}: {why}", w.kind)),
            _ => None,
        });
        refused.collect()
    }

    fn problems(&self) -> Vec<Problem> {
        let faults = self.watches.iter().filter_map(|w| {
            let refusal = w.fault.clone()?;
            // Kubernetes before 1.33 has no such kind, and nothing depends on it there.
            if w.kind == Kind::ServiceCidr && matches!(refusal, Refusal::UnknownKind { .. }) {
                return None;
            }
            let consequence = match refusal {
                // The cluster may simply not have this kind.
                Refusal::UnknownKind { .. } => Consequence::Nothing,
                _ => Consequence::Frozen,
            };
            let about = Subject::Kind { kind: w.kind };
            Some(Problem::new(about, Cause::Api { refusal }).so(consequence))
        });
        let of_objects = self
            .watches
            .iter()
            .flat_map(|w| w.problems.values().flatten());
        faults.chain(of_objects.cloned()).collect()
    }
}

type Pending = BTreeMap<(Kind, ObjectKey), Option<Object>>;

impl Watch {
    /// Returns whether its problems changed.
    fn take(&mut self, key: ObjectKey, decoded: Decoded, pending: &mut Pending) -> bool {
        let subject = Subject::object_of(self.kind, key.clone());
        let problem = |error: FieldError, consequence| error.problem(subject.clone(), consequence);
        let problems: Vec<Problem> = match decoded {
            Decoded::Good(object, notes) => {
                self.upsert(key.clone(), *object, pending);
                let notes = notes.into_iter();
                notes
                    .map(|note| problem(note, Consequence::Partial))
                    .collect()
            }
            Decoded::Broken(_, error) => vec![problem(error, Consequence::Kept)],
            Decoded::Ignored(note) => {
                if self.known.remove(&key).is_some() {
                    pending.insert((self.kind, key.clone()), None);
                }
                let note = note.into_iter();
                note.map(|note| problem(note, Consequence::Nothing))
                    .collect()
            }
        };
        if problems.is_empty() {
            return self.problems.remove(&key).is_some();
        }
        let before = self.problems.insert(key.clone(), problems);
        before.as_ref() != self.problems.get(&key)
    }

    fn upsert(&mut self, key: ObjectKey, mut object: Object, pending: &mut Pending) {
        let known = self.known.get(&key);
        if known == Some(&object) {
            return;
        }
        if let Object::LegacyConfig(config) = &mut object
            && let Some(Object::LegacyConfig(earlier)) = known
        {
            Arc::make_mut(config).inherit(earlier);
            if known == Some(&object) {
                return;
            }
        }
        self.known.insert(key.clone(), object.clone());
        pending.insert((self.kind, key), Some(object));
    }

    fn remove(&mut self, key: ObjectKey, pending: &mut Pending) -> bool {
        let told = self.problems.remove(&key).is_some();
        if self.known.remove(&key).is_some() {
            pending.insert((self.kind, key), None);
        }
        told
    }
}
