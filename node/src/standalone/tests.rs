#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ferrolb_api::ObjectKey;
use ferrolb_api::change::{Batch, Change};
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::reason::Reason;
use ferrolb_api::view::Service;
use ferrolb_controller::state::Settings;

use super::Standalone;
use crate::agreement::machine::View;
use crate::authority::{Authority, Effects};
use crate::store::MemoryStore;

const MANIFESTS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {namespace: metallb-system, name: config}
data:
  config: |
    address-pools:
    - {name: default, protocol: layer2, addresses: [172.17.255.1-172.17.255.255]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: LoadBalancer
  ports: [{port: 80}]
";

fn objects(text: &str) -> Vec<Change> {
    let read = ferrolb_source::files::document::read("test.yaml", "default", text);
    assert!(read.problems.is_empty(), "{:?}", read.problems);
    read.objects
        .into_iter()
        .map(|o| Change::Upsert(o.object))
        .collect()
}

fn batch(text: &str) -> Batch {
    Batch {
        changes: objects(text),
        problems: None,
        ..Batch::default()
    }
}

fn settings() -> Settings {
    Settings {
        class: None,
        service_cidrs: vec!["10.96.0.0/12".parse().unwrap()],
        ..Settings::default()
    }
}

fn alone() -> View {
    View {
        placer: Some("a".into()),
        known: 1,
        live: BTreeSet::new(),
    }
}

fn shown(effects: &Effects) -> Vec<Service> {
    effects
        .proxy
        .iter()
        .flatten()
        .filter_map(|c| match c {
            Change::Upsert(Object::Service(s)) => Some((**s).clone()),
            _ => None,
        })
        .collect()
}

fn vips(service: &Service) -> Vec<IpAddr> {
    service.vips().collect()
}

#[test]
fn nothing_is_shown_before_a_table_is_in_force() {
    let now = Instant::now();
    let mut node = Standalone::new("a", 1, settings(), MemoryStore::default()).unwrap();
    assert!(node.source(batch(MANIFESTS), now).proxy.is_none());
    let effects = node.view(alone(), now);
    let services = shown(&effects);
    assert_eq!(
        vips(&services[0]),
        ["172.17.255.1".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(services[0].cluster_ips.len(), 1);
}

#[test]
fn a_restart_shows_what_was_agreed_before_without_hearing_anybody() {
    let now = Instant::now();
    let mut store = MemoryStore::default();
    {
        let mut node = Standalone::new("a", 1, settings(), SharedStore(&mut store)).unwrap();
        node.source(batch(MANIFESTS), now);
        node.view(alone(), now);
    }
    let mut again = Standalone::new("a", 2, settings(), store).unwrap();
    let services = shown(&again.source(batch(MANIFESTS), now));
    assert_eq!(
        vips(&services[0]),
        ["172.17.255.1".parse::<IpAddr>().unwrap()]
    );
}

#[test]
fn without_a_majority_a_service_waits_and_says_so() {
    let now = Instant::now();
    let mut node = Standalone::new("a", 1, settings(), MemoryStore::default()).unwrap();
    let view = View {
        placer: Some("a".into()),
        known: 3,
        live: BTreeSet::new(),
    };
    node.source(batch(MANIFESTS), now);
    assert!(node.view(view, now).proxy.is_none());
    let web = ObjectKey::new("default", "web");
    assert!(node.touched().contains(&web));
    assert_eq!(node.standing(&web).unwrap().reason, Reason::NoMajority);
    assert!(node.touched().is_empty());
    // This decides nothing, but the Service waits for a different reason now.
    let both = View {
        placer: Some("b".into()),
        known: 3,
        live: BTreeSet::from(["b".into()]),
    };
    node.view(both, now);
    assert!(node.touched().contains(&web));
    assert_eq!(node.standing(&web).unwrap().reason, Reason::NotSettled);
}

#[test]
fn a_service_that_goes_is_removed_and_its_address_is_free_again() {
    let mut now = Instant::now();
    let mut node = Standalone::new("a", 1, settings(), MemoryStore::default()).unwrap();
    node.source(batch(MANIFESTS), now);
    node.view(alone(), now);
    now += Duration::from_secs(60);
    node.tick(now);
    let gone = Batch {
        changes: vec![Change::Remove(
            Kind::Service,
            ObjectKey::new("default", "web"),
        )],
        problems: None,
        ..Batch::default()
    };
    assert_eq!(
        node.source(gone, now).proxy,
        Some(vec![Change::Remove(
            Kind::Service,
            ObjectKey::new("default", "web")
        )])
    );
    let other = MANIFESTS.replace("name: web", "name: other");
    let services = shown(&node.source(batch(&other), now));
    assert_eq!(
        vips(services.last().unwrap()),
        ["172.17.255.1".parse::<IpAddr>().unwrap()]
    );
}

/// A store that outlives the node that uses it.
struct SharedStore<'a>(&'a mut MemoryStore);

impl crate::store::Store for SharedStore<'_> {
    fn load(&mut self) -> Result<Option<crate::agreement::table::Saved>, crate::store::StoreError> {
        self.0.load()
    }

    fn save(&mut self, saved: std::sync::Arc<crate::agreement::table::Saved>) {
        self.0.save(saved);
    }

    fn try_saved(&mut self) -> Option<Result<(), crate::store::StoreError>> {
        self.0.try_saved()
    }

    async fn saved(&mut self) -> Result<(), crate::store::StoreError> {
        self.0.saved().await
    }

    fn folder(&self) -> &std::path::Path {
        self.0.folder()
    }
}

#[test]
fn a_request_that_makes_no_sense_is_told_once_with_its_field() {
    let now = Instant::now();
    let mut node = Standalone::new("a", 1, settings(), MemoryStore::default()).unwrap();
    let text = MANIFESTS.replace(
        "type: LoadBalancer",
        "type: LoadBalancer\n  loadBalancerIP: 172.17.255.300",
    );
    let read = ferrolb_source::files::document::read("web.yaml", "default", &text);
    assert_eq!(read.problems.len(), 1, "{:?}", read.problems);
    let broken = Batch {
        changes: read
            .objects
            .into_iter()
            .map(|o| Change::Upsert(o.object))
            .collect(),
        problems: Some(read.problems.clone()),
        ..Batch::default()
    };
    node.source(broken, now);
    node.view(alone(), now);
    assert_eq!(node.problems(), read.problems);
    assert_eq!(read.problems[0].field, "spec.loadBalancerIP");
}

#[test]
fn a_pipe_in_the_manifests_folder_holds_nothing_up() {
    let dir = std::env::temp_dir().join(format!("ferrolb-pipe-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    nix::unistd::mkfifo(&dir.join("a.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::write(dir.join("b.yaml"), MANIFESTS).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let folder = dir.clone();
    std::thread::spawn(move || {
        use ferrolb_source::files::scan::{Limits, Scanner};
        tell.send(Scanner::new(folder, Limits::default()).scan())
    });
    let scan = told
        .recv_timeout(Duration::from_secs(10))
        .expect("it does not wait for a writer");
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(scan.files["b.yaml"].objects.len(), 2);
    assert!(
        scan.files["a.yaml"].problems[0]
            .message()
            .contains("it is not a regular file")
    );
}

/// The messages of problems with an object.
fn said_of(node: &impl Authority, object: &str) -> Vec<String> {
    let problems = node.problems();
    let of = problems.iter().filter(|p| p.subject.to_string() == object);
    of.map(|p| p.message()).collect()
}

#[test]
fn a_disk_that_takes_nothing_is_a_problem_until_it_takes_something() {
    let mut now = Instant::now();
    let mut full = MemoryStore::default();
    full.broken = Some(std::io::ErrorKind::StorageFull);
    let mut node = Standalone::new("a", 1, settings(), full).unwrap();
    node.source(batch(MANIFESTS), now);
    assert!(node.view(alone(), now).proxy.is_none());
    let said = said_of(&node, "State folder memory");
    assert!(
        said.len() == 1 && said[0].contains("no storage space"),
        "{said:?}"
    );
    let standing = node.standing(&ObjectKey::new("default", "web")).unwrap();
    assert_eq!(standing.reason, Reason::NoMajority);
    assert!(
        standing.message.contains("can save assignments"),
        "{}",
        standing.message
    );
    node.store.broken = None;
    for _ in 0..12 {
        now += Duration::from_millis(100);
        node.tick(now);
    }
    assert_eq!(node.problems(), []);
    assert!(node.standing(&ObjectKey::new("default", "web")).is_some());
}

#[test]
fn a_disk_that_does_not_answer_is_a_problem_too() {
    let mut now = Instant::now();
    let mut hangs = MemoryStore::default();
    hangs.hangs = true;
    let mut node = Standalone::new("a", 1, settings(), hangs).unwrap();
    node.source(batch(MANIFESTS), now);
    node.view(alone(), now);
    assert_eq!(node.problems(), []);
    for _ in 0..60 {
        now += Duration::from_millis(100);
        node.tick(now);
    }
    let said = said_of(&node, "State folder memory");
    assert!(
        said.len() == 1 && said[0].contains("has not answered"),
        "{said:?}"
    );
}

#[test]
fn members_that_cannot_write_or_say_the_impossible_are_named() {
    use crate::agreement::message::{Message, Status};
    let mut now = Instant::now();
    let mut node = Standalone::new("c", 1, settings(), MemoryStore::default()).unwrap();
    let view = View {
        placer: Some("a".into()),
        known: 3,
        live: ["a", "b", "c"].map(Into::into).into(),
    };
    node.view(view, now);
    let yields = Status {
        yields: true,
        ..Status::default()
    };
    let mut leaps = Status::default();
    leaps.promised.round = (1 << 63) - 1;
    for (from, status) in [("a", yields), ("b", leaps.clone()), ("b", leaps)] {
        let bytes = Message::Status(status).encode();
        node.received(from.into(), bytes, now);
    }
    now += Duration::from_millis(100);
    node.tick(now);
    let said = [said_of(&node, "Node a"), said_of(&node, "Node b")].concat();
    assert!(
        said.len() == 2
            && said[0].contains("cannot save")
            && said[1].contains("9223372036854775807"),
        "{said:?}"
    );
    now += Duration::from_secs(11 * 60);
    node.tick(now);
    node.tick(now);
    assert_eq!(node.problems(), []);
}
