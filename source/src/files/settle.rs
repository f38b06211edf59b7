//! Decides which changes of a folder to act on. Pure; the clock is an argument.
//!
//! | state | action |
//! |---|---|
//! | a new or changed object | takes effect at once |
//! | an object is broken | keeps its last good state |
//! | an object is missing, and its file has something unreadable | stays, because the unreadable part may be this object |
//! | an object is missing | is removed once it has been missing, and nothing else in the folder has changed, for a while |
//! | the folder is missing | nothing is removed, for any length of time |
//! | an object is in two files | the first by path wins |

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ferrolb_api::ObjectKey;
use ferrolb_api::change::{Batch, Change};
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::problem::{Cause, Consequence, Problem, Subject, Unreadable};

use super::document::Found;
use super::scan::Scan;

type Identity = (Kind, ObjectKey);

/// Constant changes elsewhere in the folder delay a removal to at most this many times the settling time.
const PATIENCE: u32 = 5;
/// The number of problems that are reported; a folder full of errors has more.
const MOST_PROBLEMS: usize = 1000;

#[derive(Debug)]
struct Delivered {
    object: Object,
    file: String,
    /// Its place in the file.
    origin: String,
    /// Since when it has been missing.
    missing: Option<Instant>,
}

/// What was delivered of a folder, and what is about to be removed.
#[derive(Debug)]
pub struct Settle {
    settle: Duration,
    delivered: BTreeMap<Identity, Delivered>,
    problems: Vec<Problem>,
    /// New positions to deliver with the next batch.
    moved: Vec<(Identity, String)>,
    last: Option<Scan>,
    /// When the content of the folder last changed.
    changed: Option<Instant>,
    /// Since when the object that has been missing for longest is missing. It is asked for whenever the node does anything, so it is
    /// not looked for among all objects.
    waiting: Option<Instant>,
}

impl Settle {
    /// Starts with nothing delivered. `settle` is how long an object must be missing before it is removed.
    pub fn new(settle: Duration) -> Self {
        Self {
            settle,
            delivered: BTreeMap::new(),
            problems: Vec::new(),
            moved: Vec::new(),
            last: None,
            changed: None,
            waiting: None,
        }
    }

    /// Processes a scan. The first one that finds the folder always returns a batch, even an empty one.
    pub fn step(&mut self, scan: &Scan, now: Instant) -> Option<Batch> {
        let first = self.changed.is_none();
        if let Some(error) = &scan.missing {
            if first {
                return None;
            }
            for delivered in self.delivered.values_mut() {
                delivered.missing = None;
            }
            self.waiting = None;
            self.changed = Some(now);
            self.last = None;
            let mut problems = self.problems.clone();
            problems.retain(|p| !is_missing(p));
            problems.insert(0, missing(error));
            return self.batch(false, Vec::new(), problems);
        }
        if self.last.as_ref() == Some(scan) {
            // Only the passing of time can change something, and only for what is missing.
            self.waiting?;
        } else {
            self.last = Some(scan.clone());
            self.changed = Some(now);
        }
        let mut problems = scan.problems.clone();
        problems.extend(scan.files.values().flat_map(|r| r.problems.iter().cloned()));
        let mut changes = Vec::new();
        let present = self.take_present(scan, &mut changes, &mut problems);
        self.take_missing(scan, &present, now, &mut changes);
        self.batch(first, changes, problems)
    }

    /// When a removal is due; scan again then.
    pub fn due(&self) -> Option<Instant> {
        self.waiting.map(|since| self.goes(since))
    }

    /// When something that has been missing since then is removed.
    fn goes(&self, since: Instant) -> Instant {
        let quiet = self.changed.map_or(since, |c| c.max(since)) + self.settle;
        quiet.min(since + self.settle * PATIENCE)
    }

    /// Processes the objects that are present; returns the identities in use.
    fn take_present(
        &mut self,
        scan: &Scan,
        changes: &mut Vec<Change>,
        problems: &mut Vec<Problem>,
    ) -> BTreeSet<Identity> {
        let mut origins: BTreeMap<Identity, &str> = BTreeMap::new();
        for (file, read) in &scan.files {
            for identity in &read.broken {
                // The object is broken at its origin: another file's object of the same name does not take over.
                if self
                    .delivered
                    .get(identity)
                    .is_some_and(|d| d.file == *file)
                {
                    origins.entry(identity.clone()).or_insert(file);
                }
            }
            for found in &read.objects {
                let identity = (found.object.kind(), found.object.key());
                if let Some(earlier) = origins.get(&identity) {
                    problems.push(twice(&identity, &found.origin, earlier));
                    continue;
                }
                if let Some(change) = self.upsert(&identity, found, file) {
                    changes.push(change);
                }
                origins.insert(identity, &found.origin);
            }
        }
        let present: BTreeSet<Identity> = origins.into_keys().collect();
        for identity in &present {
            if let Some(delivered) = self.delivered.get_mut(identity) {
                delivered.missing = None;
            }
        }
        present
    }

    fn upsert(&mut self, identity: &Identity, found: &Found, file: &str) -> Option<Change> {
        let known = self.delivered.get_mut(identity);
        let mut object = std::borrow::Cow::Borrowed(&found.object);
        if known.as_ref().is_none_or(|k| k.origin != found.origin) {
            self.moved.push((identity.clone(), found.origin.clone()));
        }
        if let Object::LegacyConfig(config) = object.as_ref()
            && !config.broken.is_empty()
            && let Some(Object::LegacyConfig(earlier)) = known.as_ref().map(|d| &d.object)
        {
            let mut config = config.clone();
            config.inherit(earlier);
            object = std::borrow::Cow::Owned(Object::LegacyConfig(config));
        }
        if let Some(known) = known
            && known.object == *object
        {
            if known.origin != found.origin {
                known.file = file.to_owned();
                known.origin.clone_from(&found.origin);
            }
            return None;
        }
        let object = object.into_owned();
        self.delivered.insert(
            identity.clone(),
            Delivered {
                object: object.clone(),
                file: file.to_owned(),
                origin: found.origin.clone(),
                missing: None,
            },
        );
        Some(Change::Upsert(object))
    }

    fn take_missing(
        &mut self,
        scan: &Scan,
        present: &BTreeSet<Identity>,
        now: Instant,
        changes: &mut Vec<Change>,
    ) {
        let mut gone = Vec::new();
        for (identity, delivered) in &mut self.delivered {
            if present.contains(identity) {
                continue;
            }
            let unsure = scan.files.get(&delivered.file).is_some_and(|r| r.unknown)
                || scan
                    .blind
                    .iter()
                    .any(|folder| delivered.file.starts_with(folder.as_str()));
            delivered.missing = if unsure {
                None
            } else {
                Some(delivered.missing.unwrap_or(now))
            };
            if let Some(since) = delivered.missing {
                gone.push((identity.clone(), since));
            }
        }
        self.waiting = None;
        for (identity, since) in gone {
            if self.goes(since) <= now {
                self.delivered.remove(&identity);
                changes.push(Change::Remove(identity.0, identity.1));
            } else {
                let oldest = self.waiting.map_or(since, |oldest| oldest.min(since));
                self.waiting = Some(oldest);
            }
        }
    }

    fn batch(
        &mut self,
        first: bool,
        mut changes: Vec<Change>,
        mut problems: Vec<Problem>,
    ) -> Option<Batch> {
        changes.sort_by_key(Change::rank);
        problems.sort();
        problems.dedup();
        problems.truncate(MOST_PROBLEMS);
        let problems = (problems != self.problems).then_some(problems);
        if let Some(problems) = &problems {
            self.problems.clone_from(problems);
        }
        let origins = std::mem::take(&mut self.moved);
        let news = !changes.is_empty() || problems.is_some() || !origins.is_empty();
        (first || news).then_some(Batch {
            changes,
            problems,
            origins,
        })
    }
}

fn missing(error: &str) -> Problem {
    let cause = Cause::Unreadable {
        what: Unreadable::Manifests,
        error: error.to_owned(),
    };
    Problem::new(Subject::Input, cause).so(Consequence::Frozen)
}

fn is_missing(problem: &Problem) -> bool {
    let manifests = Unreadable::Manifests;
    matches!(&problem.cause, Cause::Unreadable { what, .. } if *what == manifests)
}

fn twice((kind, key): &Identity, origin: &str, first: &str) -> Problem {
    let cause = Cause::Duplicate {
        first: first.to_owned(),
    };
    Problem::new(Subject::object_of(*kind, key.clone()), cause).at(origin)
}
