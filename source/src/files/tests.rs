#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Condvar;
use std::sync::atomic::{AtomicUsize, Ordering};

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Change;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::problem::Problem;
use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::*;

fn svc(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n---\n"
    )
}

// Tests of the pure part.

fn scan(files: &[(&str, String)]) -> Scan {
    Scan {
        files: files
            .iter()
            .map(|(path, text)| {
                (
                    (*path).to_owned(),
                    Arc::new(document::read(path, "default", text)),
                )
            })
            .collect(),
        ..Scan::default()
    }
}

fn gone() -> Scan {
    Scan {
        missing: Some("No such file or directory".into()),
        ..Scan::default()
    }
}

/// `+name:port` for each new or changed Service, `-name` for each removed one.
fn shown(batch: Option<Batch>) -> Vec<String> {
    let show = |change: Change| match change {
        Change::Upsert(Object::Service(s)) => format!("+{}:{}", s.key.name, s.ports[0].port),
        Change::Upsert(other) => format!("+{}", other.kind()),
        Change::Remove(_, key) => format!("-{}", key.name),
    };
    batch
        .map(|b| b.changes.into_iter().map(show).collect())
        .unwrap_or_default()
}

struct Clock(Instant);

impl Clock {
    fn after(&self, seconds: f64) -> Instant {
        self.0 + Duration::from_secs_f64(seconds)
    }
}

fn settling() -> (Settle, Clock) {
    (Settle::new(Duration::from_secs(2)), Clock(Instant::now()))
}

const NONE: [&str; 0] = [];

#[test]
fn the_first_look_gives_a_batch_even_of_an_empty_folder() {
    let (mut settle, t) = settling();
    assert_eq!(
        settle.step(Scan::default(), t.after(0.0)),
        Some(Batch::default())
    );
    assert_eq!(settle.step(Scan::default(), t.after(1.0)), None);
}

#[test]
fn additions_count_at_once_and_removals_when_they_have_settled() {
    let (mut settle, t) = settling();
    let both = scan(&[("a.yaml", svc("a", 80) + &svc("b", 80))]);
    let one = scan(&[("a.yaml", svc("b", 81) + &svc("c", 80))]);
    assert_eq!(
        shown(settle.step(both.clone(), t.after(0.0))),
        ["+a:80", "+b:80"]
    );
    assert_eq!(
        shown(settle.step(one.clone(), t.after(1.0))),
        ["+b:81", "+c:80"]
    );
    assert_eq!(settle.due(), Some(t.after(3.0)));
    assert_eq!(shown(settle.step(one.clone(), t.after(2.9))), NONE);
    assert_eq!(shown(settle.step(one.clone(), t.after(3.0))), ["-a"]);
    assert_eq!(settle.due(), None);
}

#[test]
fn a_folder_that_is_empty_while_it_is_rewritten_withdraws_nothing() {
    let (mut settle, t) = settling();
    let full = scan(&[("a.yaml", svc("a", 80))]);
    settle.step(full.clone(), t.after(0.0));
    assert_eq!(shown(settle.step(Scan::default(), t.after(1.0))), NONE);
    assert_eq!(shown(settle.step(full.clone(), t.after(2.9))), NONE);
    assert_eq!(shown(settle.step(Scan::default(), t.after(3.5))), NONE);
    assert_eq!(shown(settle.step(Scan::default(), t.after(5.5))), ["-a"]);
}

#[test]
fn a_folder_that_vanishes_withdraws_nothing_however_long_and_says_so() {
    let (mut settle, t) = settling();
    let full = scan(&[("a.yaml", svc("a", 80))]);
    settle.step(full.clone(), t.after(0.0));
    settle.step(Scan::default(), t.after(1.0));
    let batch = settle.step(gone(), t.after(2.0)).unwrap();
    assert_eq!(
        batch.problems.unwrap()[0].to_string(),
        "the manifests folder cannot be read: No such file or directory; everything stays as it is until that changes"
    );
    assert_eq!(settle.due(), None);
    assert_eq!(settle.step(gone(), t.after(100_000.0)), None);
    let back = settle.step(Scan::default(), t.after(100_001.0)).unwrap();
    assert_eq!((back.changes.len(), back.problems), (0, Some(vec![])));
    assert_eq!(shown(settle.step(full.clone(), t.after(100_002.0))), NONE);
}

#[test]
fn constant_change_holds_a_removal_up_for_a_while_only() {
    let (mut settle, t) = settling();
    settle.step(scan(&[("a.yaml", svc("a", 80))]), t.after(0.0));
    for second in 1..=10 {
        let now = scan(&[("b.yaml", svc("b", second))]);
        assert_eq!(
            shown(settle.step(now.clone(), t.after(f64::from(second)))),
            [format!("+b:{second}")]
        );
    }
    let now = scan(&[("b.yaml", svc("b", 11))]);
    assert_eq!(
        shown(settle.step(now.clone(), t.after(11.0))),
        ["+b:11", "-a"]
    );
}

#[test]
fn a_broken_object_keeps_its_last_good_state() {
    let (mut settle, t) = settling();
    settle.step(scan(&[("a.yaml", svc("a", 80))]), t.after(0.0));
    let broken = scan(&[("a.yaml", svc("a", 0))]);
    let batch = settle.step(broken.clone(), t.after(1.0)).unwrap();
    assert!(batch.changes.is_empty());
    assert_eq!(
        batch.problems.unwrap()[0].to_string(),
        "a.yaml:4: Service default/a: spec.ports[0].port: 0 is not a port: use 1 to 65535; its previous version, if there was one, stays in force"
    );
    assert_eq!(shown(settle.step(broken.clone(), t.after(100.0))), NONE);
    assert_eq!(settle.due(), None);
}

#[test]
fn an_unreadable_document_keeps_all_that_its_file_had() {
    let (mut settle, t) = settling();
    let good = svc("a", 80) + &svc("b", 80);
    settle.step(scan(&[("a.yaml", good)]), t.after(0.0));
    let spoilt = scan(&[("a.yaml", svc("b", 81) + "kind: [\n")]);
    assert_eq!(shown(settle.step(spoilt.clone(), t.after(1.0))), ["+b:81"]);
    assert_eq!(shown(settle.step(spoilt.clone(), t.after(100.0))), NONE);
    let mended = scan(&[("a.yaml", svc("b", 81))]);
    assert_eq!(shown(settle.step(mended.clone(), t.after(101.0))), NONE);
    assert_eq!(shown(settle.step(mended.clone(), t.after(103.0))), ["-a"]);
}

#[test]
fn of_an_object_in_two_files_the_first_by_path_counts() {
    let (mut settle, t) = settling();
    let twice = scan(&[("b.yaml", svc("a", 81)), ("a.yaml", svc("a", 80))]);
    let batch = settle.step(twice.clone(), t.after(0.0)).unwrap();
    assert_eq!(
        batch.problems.as_ref().unwrap()[0].to_string(),
        "b.yaml:1: Service default/a: the same object is at a.yaml:1, which is used: remove one"
    );
    assert_eq!(shown(Some(batch)), ["+a:80"]);
    // Broken at its origin: the other one does not take over.
    let broken = scan(&[("b.yaml", svc("a", 81)), ("a.yaml", svc("a", 0))]);
    assert_eq!(shown(settle.step(broken.clone(), t.after(1.0))), NONE);
    // Removed from there: the other one takes over at once.
    let moved = scan(&[("b.yaml", svc("a", 81))]);
    assert_eq!(shown(settle.step(moved.clone(), t.after(2.0))), ["+a:81"]);
}

#[test]
fn a_subfolder_that_cannot_be_read_keeps_its_objects() {
    let (mut settle, t) = settling();
    settle.step(scan(&[("x/a.yaml", svc("a", 80))]), t.after(0.0));
    let blind = Scan {
        blind: vec!["x/".into()],
        ..Scan::default()
    };
    assert_eq!(shown(settle.step(blind.clone(), t.after(1.0))), NONE);
    assert_eq!(shown(settle.step(blind.clone(), t.after(50.0))), NONE);
}

#[test]
fn a_pause_ends_the_wait_and_constant_writing_does_not_prolong_it_for_ever() {
    let t = Clock(Instant::now());
    let mut debounce = Debounce::new(Duration::from_millis(200), Duration::from_secs(2));
    assert_eq!(debounce.due(), None);
    debounce.event(t.after(0.0));
    debounce.event(t.after(0.1));
    assert_eq!(
        debounce.due(),
        Some(t.after(0.1) + Duration::from_millis(200))
    );
    debounce.event(t.after(1.95));
    assert_eq!(debounce.due(), Some(t.after(2.0)));
    debounce.done(t.after(1.0));
    assert!(
        debounce.due().is_some(),
        "the last event came after the look"
    );
    debounce.done(t.after(2.0));
    assert_eq!(debounce.due(), None);
}

proptest! {
    /// A consumer always knows the present objects, plus at least those missing for less than the settling time.
    #[test]
    fn nothing_goes_early_and_everything_goes_in_the_end(steps in proptest::collection::vec((0u8..16, 0u64..1500), 1..40)) {
        let (mut settle, t) = settling();
        let mut now = t.after(0.0);
        let mut known: BTreeMap<ObjectKey, Instant> = BTreeMap::new();
        let mut last = Scan::default();
        for (present, pause) in steps {
            now += Duration::from_millis(pause);
            let text: String = (0..4u8).filter(|i| present & (1 << i) != 0).map(|i| svc(&format!("s{i}"), 80)).collect();
            last = scan(&[("a.yaml", text)]);
            let changes = settle.step(last.clone(), now).map(|b| b.changes).unwrap_or_default();
            for change in changes {
                match change {
                    Change::Upsert(o) => { known.insert(o.key(), now); }
                    Change::Remove(Kind::Service, key) => {
                        let seen = known.remove(&key).expect("only what is known is removed");
                        prop_assert!(now - seen >= Duration::from_secs(2), "removed too early");
                    }
                    Change::Remove(..) => prop_assert!(false),
                }
            }
            for found in &last.files["a.yaml"].objects {
                let seen = known.get_mut(&found.object.key());
                prop_assert!(seen.is_some(), "present but not known");
                *seen.unwrap() = now;
            }
        }
        if let Some(batch) = settle.step(last.clone(), now + Duration::from_secs(20)) {
            for change in batch.changes {
                known.remove(&match change { Change::Upsert(o) => o.key(), Change::Remove(_, key) => key });
            }
        }
        prop_assert_eq!(known.len(), last.files["a.yaml"].objects.len());
    }
}

/// What a consumer knows after these batches: the port of each Service by name, and the problems.
fn known(batches: Vec<Option<Batch>>) -> (BTreeMap<String, u16>, Vec<Problem>) {
    let (mut services, mut problems) = (BTreeMap::new(), Vec::new());
    for batch in batches.into_iter().flatten() {
        for change in batch.changes {
            match change {
                Change::Upsert(Object::Service(s)) => {
                    services.insert(s.key.name.clone(), s.ports[0].port);
                }
                Change::Remove(_, key) => {
                    services.remove(&key.name);
                }
                Change::Upsert(other) => panic!("{}", other.kind()),
            }
        }
        problems = batch.problems.unwrap_or(problems);
    }
    (services, problems)
}

proptest! {
    /// A file is a number for each of three Services: 0 does not hold it, the others are its port. Objects that are in several files,
    /// that move between files and that come back while they are missing are among the histories.
    #[test]
    fn the_end_of_a_history_is_what_the_last_scan_alone_says(
        steps in proptest::collection::vec((0usize..3, any::<bool>(), [0u16..3, 0..3, 0..3], 0u64..3000), 1..25),
    ) {
        let (mut settle, t) = settling();
        let mut now = t.after(0.0);
        let mut files = Scan::default();
        let mut batches = vec![settle.step(files.clone(), now)];
        for (file, exists, ports, pause) in steps {
            now += Duration::from_millis(pause);
            let path = format!("{file}.yaml");
            files.files.remove(&path);
            if exists {
                let held = ports.iter().enumerate().filter(|(_, port)| **port > 0);
                let text: String = held.map(|(i, port)| svc(&format!("s{i}"), *port)).collect();
                files.files.extend(scan(&[(&path, text)]).files);
            }
            batches.push(settle.step(files.clone(), now));
        }
        for seconds in [0, 60] {
            batches.push(settle.step(files.clone(), now + Duration::from_secs(seconds)));
        }
        let (mut anew, t) = settling();
        prop_assert_eq!(known(batches), known(vec![anew.step(files, t.after(0.0))]));
        prop_assert_eq!(settle.due(), None);
    }
}

// Tests with real folders.

fn settings() -> Settings {
    Settings {
        quiet: Duration::from_millis(20),
        busy: Duration::from_millis(200),
        settle: Duration::from_millis(300),
        rescan: Duration::from_secs(30),
        patience: Duration::from_secs(300),
        limits: Limits::default(),
    }
}

struct Folder {
    tmp: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let folder = Self {
            tmp: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(folder.dir()).unwrap();
        folder
    }

    fn dir(&self) -> PathBuf {
        self.tmp.path().join("manifests")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn source(&self) -> FilesSource {
        FilesSource::new(self.dir(), settings()).unwrap()
    }
}

/// A consumer's view: namespace/name of Services with their port, and the problems.
#[derive(Default)]
struct Known {
    services: BTreeMap<String, u16>,
    problems: Vec<String>,
}

impl Known {
    /// Follows the source until the condition holds; the limit of a minute is for very busy machines.
    async fn until(&mut self, source: &mut FilesSource, wanted: impl Fn(&Self) -> bool) {
        let follow = async {
            while !wanted(self) {
                let batch = source.next().await.unwrap();
                for change in batch.changes {
                    match change {
                        Change::Upsert(Object::Service(s)) => {
                            self.services.insert(s.key.to_string(), s.ports[0].port);
                        }
                        Change::Remove(Kind::Service, key) => {
                            self.services.remove(&key.to_string());
                        }
                        _ => {}
                    }
                }
                if let Some(problems) = batch.problems {
                    self.problems = problems.iter().map(ToString::to_string).collect();
                }
            }
        };
        let outcome = tokio::time::timeout(Duration::from_secs(60), follow).await;
        assert!(outcome.is_ok(), "{:?} {:?}", self.services, self.problems);
    }

    fn has(&self, names: &[&str]) -> bool {
        self.services.keys().eq(names.iter())
    }
}

#[test]
fn a_folder_that_is_missing_at_the_start_is_an_error() {
    let folder = Folder::new();
    let nowhere = folder.dir().join("nowhere");
    let error = FilesSource::new(&nowhere, settings())
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        format!(
            "the manifests folder {} cannot be read: No such file or directory (os error 2); create it or name another one",
            nowhere.display()
        )
    );
    folder.write("a.yaml", "");
    let file = folder.dir().join("a.yaml");
    let error = FilesSource::new(&file, settings()).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "{} is not a folder: name the folder that holds the manifests",
            file.display()
        )
    );
}

#[tokio::test]
async fn subfolders_are_namespaces_and_hidden_and_other_files_are_passed_over() {
    let folder = Folder::new();
    folder.write("a.yaml", &svc("a", 80));
    folder.write("kube-system/b.yml", &svc("b", 80));
    folder.write("c.json", "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"c\"},\"spec\":{\"ports\":[{\"port\":80}]}}");
    folder.write(".hidden.yaml", &svc("hidden", 80));
    folder.write(".git/x.yaml", &svc("hidden", 80));
    folder.write("README.md", "kind: [");
    let mut known = Known::default();
    known
        .until(&mut folder.source(), |k| !k.services.is_empty())
        .await;
    assert!(known.has(&["default/a", "default/c", "kube-system/b"]));
    assert_eq!(known.problems, NONE);
}

#[tokio::test]
async fn changes_new_subfolders_and_removals_are_followed() {
    let folder = Folder::new();
    let mut source = folder.source();
    assert_eq!(source.next().await, Some(Batch::default()));
    let mut known = Known::default();
    folder.write("a.yaml", &svc("a", 80));
    known.until(&mut source, |k| k.has(&["default/a"])).await;
    folder.write("a.yaml", &svc("a", 81));
    known
        .until(&mut source, |k| k.services.get("default/a") == Some(&81))
        .await;
    folder.write("x/b.yaml", &svc("b", 80));
    known
        .until(&mut source, |k| k.has(&["default/a", "x/b"]))
        .await;
    folder.write("x/b.yaml", &svc("b", 82));
    known
        .until(&mut source, |k| k.services.get("x/b") == Some(&82))
        .await;
    fs::remove_file(folder.dir().join("a.yaml")).unwrap();
    known.until(&mut source, |k| k.has(&["x/b"])).await;
    fs::remove_dir_all(folder.dir().join("x")).unwrap();
    known.until(&mut source, |k| k.has(&[])).await;
}

#[tokio::test]
async fn a_folder_that_is_moved_away_withdraws_nothing_and_its_successor_is_followed() {
    let folder = Folder::new();
    folder.write("a.yaml", &svc("a", 80));
    let mut source = folder.source();
    let mut known = Known::default();
    known.until(&mut source, |k| k.has(&["default/a"])).await;
    fs::rename(folder.dir(), folder.tmp.path().join("away")).unwrap();
    known.until(&mut source, |k| !k.problems.is_empty()).await;
    assert!(known.problems[0].contains("everything stays as it is until that changes"));
    // Many times the settling time.
    let nothing = tokio::time::timeout(Duration::from_secs(2), source.next()).await;
    assert!(nothing.is_err() && known.has(&["default/a"]));
    folder.write("a.yaml", &svc("a", 81));
    known
        .until(&mut source, |k| k.services.get("default/a") == Some(&81))
        .await;
    assert_eq!(known.problems, NONE);
    folder.write("b.yaml", &svc("b", 80));
    known
        .until(&mut source, |k| k.has(&["default/a", "default/b"]))
        .await;
}

#[tokio::test]
async fn the_links_of_a_mounted_configmap_are_followed_when_they_are_swapped() {
    let folder = Folder::new();
    let dir = folder.dir();
    folder.write("..1/a.yaml", &svc("a", 80));
    folder.write("..2/a.yaml", &svc("a", 81));
    symlink("..1", dir.join("..data")).unwrap();
    symlink("..data/a.yaml", dir.join("a.yaml")).unwrap();
    let mut source = folder.source();
    let mut known = Known::default();
    known
        .until(&mut source, |k| k.services.get("default/a") == Some(&80))
        .await;
    assert!(known.has(&["default/a"]));
    symlink("..2", dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    fs::remove_dir_all(dir.join("..1")).unwrap();
    known
        .until(&mut source, |k| k.services.get("default/a") == Some(&81))
        .await;
    assert_eq!(known.problems, NONE);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_keeps_what_it_said() {
    let folder = Folder::new();
    folder.write("a.yaml", &svc("a", 80));
    let mut source = folder.source();
    let mut known = Known::default();
    known.until(&mut source, |k| k.has(&["default/a"])).await;
    fs::write(folder.dir().join("a.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    known.until(&mut source, |k| !k.problems.is_empty()).await;
    assert_eq!(
        known.problems,
        [
            "a.yaml: this file cannot be read: it is not UTF-8 text; its previous version, if there was one, stays in force"
        ]
    );
    folder.write("b.yaml", &svc("b", 80));
    known
        .until(&mut source, |k| k.has(&["default/a", "default/b"]))
        .await;
}

#[test]
fn the_size_and_number_of_files_are_bounded_and_loops_are_not_followed() {
    let folder = Folder::new();
    folder.write("a.yaml", &svc("a", 80));
    folder.write("b.yaml", &"#".repeat(2000));
    folder.write("c.yaml", &svc("c", 80));
    symlink(".", folder.dir().join("loop")).unwrap();
    symlink("self.yaml", folder.dir().join("self.yaml")).unwrap();
    folder.write("x/deeper/d.yaml", &svc("d", 80));
    folder.write("Not_A_Namespace/d.yaml", &svc("d", 80));
    let limits = Limits {
        file_bytes: 1000,
        files: 2,
    };
    let scan = Scanner::new(folder.dir(), limits).scan();
    assert_eq!(
        scan.files.keys().collect::<Vec<_>>(),
        ["a.yaml", "b.yaml", "self.yaml"]
    );
    assert_eq!(scan.blind, [""]);
    let problems: Vec<String> = scan
        .problems
        .iter()
        .chain(scan.files.values().flat_map(|r| &r.problems))
        .map(ToString::to_string)
        .collect();
    for expected in [
        "b.yaml: this file cannot be read: it has more than 1000 bytes, split it; its previous version, if there was one, stays in force",
        "c.yaml: there are more than 2 files: this one and those after it are not read",
        "loop: a link to a folder is not followed: make it a folder of its own",
        "x/deeper: a folder within a subfolder is not read: move its files up",
    ] {
        assert!(problems.iter().any(|p| p == expected), "{problems:#?}");
    }
    assert!(
        problems
            .iter()
            .any(|p| p.starts_with("Not_A_Namespace: a subfolder is a namespace, and "))
    );
    assert!(
        problems
            .iter()
            .any(|p| p.starts_with("self.yaml: this file cannot be read: "))
    );
}

#[test]
fn an_unchanged_file_is_not_read_again() {
    let folder = Folder::new();
    folder.write("a.yaml", &svc("a", 80));
    let path = folder.dir().join("a.yaml");
    let old = std::time::SystemTime::now() - Duration::from_secs(60);
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(old)
        .unwrap();
    let mut scanner = Scanner::new(folder.dir(), Limits::default());
    let first = scanner.scan();
    let second = scanner.scan();
    assert!(Arc::ptr_eq(&first.files["a.yaml"], &second.files["a.yaml"]));
    fs::write(&path, svc("a", 81)).unwrap();
    assert_ne!(scanner.scan().files["a.yaml"], first.files["a.yaml"]);
}

#[tokio::test]
async fn giving_up_a_wait_loses_nothing() {
    let folder = Folder::new();
    folder.write("a.yaml", &svc("a", 80));
    let mut source = folder.source();
    let mut known = Known::default();
    // Each call is dropped while the folder is being read.
    for _ in 0..20 {
        if let Some(batch) = source.next().now_or_never() {
            for change in batch.unwrap().changes {
                if let Change::Upsert(Object::Service(s)) = change {
                    known.services.insert(s.key.to_string(), s.ports[0].port);
                }
            }
        }
    }
    known.until(&mut source, |k| k.has(&["default/a"])).await;
    folder.write("b.yaml", &svc("b", 80));
    for _ in 0..20 {
        tokio::task::yield_now().await;
        if let Some(batch) = source.next().now_or_never() {
            for change in batch.unwrap().changes {
                if let Change::Upsert(Object::Service(s)) = change {
                    known.services.insert(s.key.to_string(), s.ports[0].port);
                }
            }
        }
    }
    known
        .until(&mut source, |k| k.has(&["default/a", "default/b"]))
        .await;
}

/// A file system that does not answer while its gate is closed.
#[derive(Debug, Default)]
struct Gated {
    closed: Mutex<bool>,
    opened: Condvar,
    /// How often the folder was listed.
    scans: AtomicUsize,
}

impl Gated {
    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let closed = self.closed.lock().unwrap();
        drop(self.opened.wait_while(closed, |closed| *closed).unwrap());
    }
}

impl Disk for Gated {
    fn list(&self, dir: &Path) -> std::io::Result<Vec<String>> {
        self.scans.fetch_add(1, Ordering::SeqCst);
        self.pass();
        Kernel.list(dir)
    }

    fn subfolders(&self, dir: &Path) -> Vec<PathBuf> {
        self.pass();
        Kernel.subfolders(dir)
    }

    fn metadata(&self, path: &Path) -> std::io::Result<fs::Metadata> {
        self.pass();
        Kernel.metadata(path)
    }
}

/// Polls the source for as short a time as a node's tick allows.
async fn glance(source: &mut FilesSource) -> Option<Batch> {
    let glance = tokio::time::timeout(Duration::from_millis(1), source.next());
    glance.await.ok().map(Option::unwrap)
}

#[tokio::test]
async fn a_scan_of_ten_thousand_files_goes_on_across_ticks_and_is_the_only_one() {
    const FILES: usize = 10_000;
    let folder = Folder::new();
    for i in 0..FILES {
        // This test is not about decoding so many objects.
        let text = match i % 100 {
            0 => svc(&format!("s{i}"), 80),
            _ => String::new(),
        };
        fs::write(folder.dir().join(format!("{i}.yaml")), text).unwrap();
    }
    let disk = Arc::new(Gated::default());
    disk.set(true);
    let mut source = FilesSource::on(disk.clone(), folder.dir(), settings());
    for _ in 0..100 {
        assert_eq!(glance(&mut source).await, None);
    }
    disk.set(false);
    let follow = async {
        loop {
            if let Some(batch) = glance(&mut source).await {
                return batch;
            }
        }
    };
    let batch = tokio::time::timeout(Duration::from_secs(300), follow).await;
    let batch = batch.expect("what was read arrives although nobody waits for it for long");
    assert_eq!(batch.changes.len(), FILES / 100);
    assert_eq!(disk.scans.load(Ordering::SeqCst), 1, "one scan was enough");
}

#[tokio::test]
async fn a_file_system_that_hangs_withdraws_nothing_and_is_named() {
    let folder = Folder::new();
    folder.write("a.yaml", &svc("a", 80));
    let disk = Arc::new(Gated::default());
    let settings = Settings {
        rescan: Duration::from_millis(20),
        patience: Duration::from_millis(300),
        ..settings()
    };
    let mut source = FilesSource::on(disk.clone(), folder.dir(), settings);
    let mut known = Known::default();
    known.until(&mut source, |k| k.has(&["default/a"])).await;
    disk.set(true);
    known.until(&mut source, |k| !k.problems.is_empty()).await;
    assert!(
        known.problems[0].contains("takes more than 300ms"),
        "{:?}",
        known.problems
    );
    assert!(known.has(&["default/a"]));
    disk.set(false);
    known.until(&mut source, |k| k.problems.is_empty()).await;
    assert!(known.has(&["default/a"]));
}

#[test]
fn a_program_can_end_while_its_folder_hangs() {
    let folder = Folder::new();
    let disk = Arc::new(Gated::default());
    disk.set(true);
    let (tell, ended) = std::sync::mpsc::channel();
    let (dir, hangs) = (folder.dir(), disk.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut source = FilesSource::on(hangs, dir, settings());
            assert_eq!(glance(&mut source).await, None);
        });
        runtime.shutdown_background();
        tell.send(()).unwrap();
    });
    let ended = ended.recv_timeout(Duration::from_secs(60));
    disk.set(false);
    ended.expect("nothing waits for the folder");
}
