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
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrolb_api::change::{Batch, Change};
use ferrolb_api::object::Object;
use ferrolb_api::problem::{Cause, Consequence, Problem, Subject, Unreadable};

use super::document::Found;
use super::index::{Identity, Index, held};
use super::scan::Scan;

/// Constant changes elsewhere in the folder delay a removal to at most this many times the settling time.
const PATIENCE: u32 = 5;
/// The number of problems that are reported; a folder full of errors has more.
const MOST_PROBLEMS: usize = 1000;

/// One object, by all that the folder says of it.
#[derive(Debug, Default)]
struct Entry {
    /// The files that hold it, or had it broken, sorted.
    files: Vec<Arc<str>>,
    delivered: Option<Delivered>,
}

#[derive(Debug)]
struct Delivered {
    object: Object,
    file: Arc<str>,
    /// Its place in the file.
    origin: Arc<str>,
}

/// What was delivered of a folder, and what is about to be removed. A step looks at the objects of files that changed and at those
/// that are missing, not at the rest.
#[derive(Debug)]
pub struct Settle {
    settle: Duration,
    entries: BTreeMap<Identity, Entry>,
    /// Delivered objects that no file holds, and since when. `None`: the unreadable part of the folder may hold it.
    missing: BTreeMap<Identity, Option<Instant>>,
    /// Objects that more than one file holds.
    twice: BTreeMap<Identity, Vec<Problem>>,
    problems: Vec<Problem>,
    /// New positions to deliver with the next batch.
    moved: Vec<(Identity, Arc<str>)>,
    /// The last scan that found the folder.
    last: Scan,
    /// The folder itself was missing after that.
    away: bool,
    /// When the content of the folder last changed.
    changed: Option<Instant>,
    /// Since when the object that has been missing for longest is missing.
    waiting: Option<Instant>,
}

impl Settle {
    /// Starts with nothing delivered. `settle` is how long an object must be missing before it is removed.
    pub fn new(settle: Duration) -> Self {
        Self {
            settle,
            entries: BTreeMap::new(),
            missing: BTreeMap::new(),
            twice: BTreeMap::new(),
            problems: Vec::new(),
            moved: Vec::new(),
            last: Scan::default(),
            away: false,
            changed: None,
            waiting: None,
        }
    }

    /// Processes a scan. The first one that finds the folder always returns a batch, even an empty one.
    pub fn step(&mut self, scan: Scan, now: Instant) -> Option<Batch> {
        let first = self.changed.is_none();
        if let Some(error) = &scan.missing {
            return if first { None } else { self.away(error, now) };
        }
        let away = std::mem::take(&mut self.away);
        if !first && !away && self.last == scan {
            // Only the passing of time can change something, and only for what is missing.
            self.waiting?;
        } else {
            self.changed = Some(now);
        }
        let last = std::mem::replace(&mut self.last, scan);
        let mut changes = Vec::new();
        self.take_changed(&last, &mut changes);
        self.take_missing(now, &mut changes);
        let mut problems = self.last.problems.clone();
        let read = self.last.files.values();
        problems.extend(read.flat_map(|read| read.problems.iter().cloned()));
        problems.extend(self.twice.values().flatten().cloned());
        self.batch(first, changes, problems)
    }

    /// The folder is missing.
    fn away(&mut self, error: &str, now: Instant) -> Option<Batch> {
        self.missing.values_mut().for_each(|since| *since = None);
        self.waiting = None;
        self.changed = Some(now);
        self.away = true;
        let mut problems = self.problems.clone();
        problems.retain(|p| !is_missing(p));
        problems.insert(0, missing(error));
        self.batch(false, Vec::new(), problems)
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

    /// Processes the objects of the files that differ from the last scan.
    fn take_changed(&mut self, last: &Scan, changes: &mut Vec<Change>) {
        let scan = std::mem::take(&mut self.last);
        let mut touched = BTreeSet::new();
        for path in differing(last, &scan) {
            let file: Arc<str> = path.as_str().into();
            for (identity, _) in last.files.get(path).into_iter().flat_map(|r| held(r)) {
                if let Some(entry) = self.entries.get_mut(&identity) {
                    entry.files.retain(|f| *f != file);
                }
                touched.insert(identity);
            }
            for (identity, _) in scan.files.get(path).into_iter().flat_map(|r| held(r)) {
                let files = &mut self.entries.entry(identity.clone()).or_default().files;
                if let Err(at) = files.binary_search(&file) {
                    files.insert(at, Arc::clone(&file));
                }
                touched.insert(identity);
            }
        }
        let mut index = Index::default();
        for identity in touched {
            self.take(identity, &scan, &mut index, changes);
        }
        self.last = scan;
    }

    /// Processes one object.
    fn take<'s>(
        &mut self,
        identity: Identity,
        scan: &'s Scan,
        index: &mut Index<'s>,
        changes: &mut Vec<Change>,
    ) {
        let Some(mut entry) = self.entries.remove(&identity) else {
            return;
        };
        let mut origin: Option<&str> = None;
        let mut twice = Vec::new();
        for file in &entry.files {
            let Some((path, held)) = index.get(scan, file, &identity) else {
                continue;
            };
            // The object is broken at its origin: another file's object of the same name does not take over.
            let here = |d: &Delivered| d.file == *file;
            if held.broken && origin.is_none() && entry.delivered.as_ref().is_some_and(here) {
                origin = Some(path);
            }
            let Some(found) = held.found else {
                continue;
            };
            if let Some(first) = origin {
                twice.push(double(&identity, &found.origin, first));
                continue;
            }
            origin = Some(&found.origin);
            if entry.delivered.as_ref().map(|d| &d.origin) != Some(&found.origin) {
                self.moved.push((identity.clone(), found.origin.clone()));
            }
            changes.extend(upsert(&mut entry.delivered, found, file));
        }
        if origin.is_some() || entry.delivered.is_none() {
            self.missing.remove(&identity);
        } else {
            self.missing.entry(identity.clone()).or_default();
        }
        if twice.is_empty() {
            self.twice.remove(&identity);
        } else {
            self.twice.insert(identity.clone(), twice);
        }
        if entry.delivered.is_some() || !entry.files.is_empty() {
            self.entries.insert(identity, entry);
        }
    }

    /// Removes what has been missing for long enough.
    fn take_missing(&mut self, now: Instant, changes: &mut Vec<Change>) {
        let mut gone = Vec::new();
        for (identity, missing) in &mut self.missing {
            let delivered = self
                .entries
                .get(identity)
                .and_then(|e| e.delivered.as_ref());
            let unsure = delivered.is_some_and(|d| may_hide(&self.last, &d.file));
            *missing = (!unsure).then(|| missing.unwrap_or(now));
            gone.extend(missing.map(|since| (identity.clone(), since)));
        }
        self.waiting = None;
        for (identity, since) in gone {
            if self.goes(since) <= now {
                self.missing.remove(&identity);
                if let Some(entry) = self.entries.get_mut(&identity) {
                    entry.delivered = None;
                    if entry.files.is_empty() {
                        self.entries.remove(&identity);
                    }
                }
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

/// The paths of files that are new, gone or other ones.
fn differing<'s>(last: &'s Scan, scan: &'s Scan) -> impl Iterator<Item = &'s String> {
    let gone = last
        .files
        .keys()
        .filter(|path| !scan.files.contains_key(*path));
    let other = scan.files.iter();
    let other = other.filter(|(path, read)| last.files.get(*path) != Some(*read));
    gone.chain(other.map(|(path, _)| path))
}

/// Whether a part of the folder that could not be read may be an object of this file.
fn may_hide(scan: &Scan, file: &str) -> bool {
    scan.files.get(file).is_some_and(|read| read.unknown)
        || scan
            .blind
            .iter()
            .any(|folder| file.starts_with(folder.as_str()))
}

/// Takes over what a file says of an object.
fn upsert(delivered: &mut Option<Delivered>, found: &Found, file: &Arc<str>) -> Option<Change> {
    let mut object = std::borrow::Cow::Borrowed(&found.object);
    if let Object::LegacyConfig(config) = object.as_ref()
        && !config.broken.is_empty()
        && let Some(Object::LegacyConfig(earlier)) = delivered.as_ref().map(|d| &d.object)
    {
        let mut config = Arc::clone(config);
        Arc::make_mut(&mut config).inherit(earlier);
        object = std::borrow::Cow::Owned(Object::LegacyConfig(config));
    }
    if let Some(delivered) = delivered.as_mut().filter(|d| d.object == *object) {
        delivered.file = Arc::clone(file);
        delivered.origin.clone_from(&found.origin);
        return None;
    }
    let object = object.into_owned();
    *delivered = Some(Delivered {
        object: object.clone(),
        file: Arc::clone(file),
        origin: found.origin.clone(),
    });
    Some(Change::Upsert(object))
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

fn double((kind, key): &Identity, origin: &str, first: &str) -> Problem {
    let cause = Cause::Duplicate {
        first: first.to_owned(),
    };
    Problem::new(Subject::object_of(*kind, key.clone()), cause).at(origin)
}
