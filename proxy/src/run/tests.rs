#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::{Batch, Change};
use ferrolb_api::delta;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::proxy_config::ProxyConfig;
use ferrolb_api::view::TrafficPolicy;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Programmed, ProxyError, STOP_WITHIN, run};
use crate::config::Config;
use crate::kernel::memory::{Memory, MemoryKernel};
use crate::kernel::{Family, Mended, Op, VirtualServerId};
use crate::snapshot::{ServiceStatus, Snapshot};
use crate::testing::{balanced, config, ip, node, served, service};

mod schedulers;

struct Running {
    kernel: MemoryKernel,
    changes: mpsc::Sender<Batch>,
    programmed: watch::Receiver<Programmed>,
    status: watch::Receiver<Snapshot>,
    reported: delta::Receiver<ObjectKey, Arc<ServiceStatus>>,
    services: BTreeMap<String, Arc<ServiceStatus>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ProxyError>>,
}

impl Running {
    /// The status of every Service, by what was reported so far.
    fn services(&mut self) -> &BTreeMap<String, Arc<ServiceStatus>> {
        for (key, status) in self.reported.take() {
            match status {
                Some(status) => self.services.insert(key.to_string(), status),
                None => self.services.remove(&key.to_string()),
            };
        }
        &self.services
    }

    /// Waits until no Service has a problem.
    async fn without_problems(&mut self) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.services().values().any(|s| !s.problems.is_empty()) {
            let changed = tokio::time::timeout_at(end, self.reported.changed());
            changed.await.expect("in time");
        }
    }
}

fn start(kernel: &MemoryKernel) -> Running {
    start_with(kernel, |_| {})
}

fn start_with(kernel: &MemoryKernel, set: impl FnOnce(&mut Config)) -> Running {
    let (changes, receiver) = mpsc::channel(8);
    let (programmed_sender, programmed) = watch::channel(None);
    let (status_sender, status) = watch::channel(Snapshot::default());
    let (services_sender, reported) = delta::channel();
    let (stop, stopped) = oneshot::channel();
    let mut config = config("A");
    config.audit = Duration::from_millis(50);
    config.retry = Duration::from_millis(1)..Duration::from_millis(10);
    set(&mut config);
    let shutdown = async {
        let _ = stopped.await;
    };
    let running = run(
        kernel.clone(),
        config,
        receiver,
        programmed_sender,
        status_sender,
        services_sender,
        shutdown,
    );
    Running {
        kernel: kernel.clone(),
        changes,
        programmed,
        status,
        reported,
        services: BTreeMap::new(),
        stop,
        task: tokio::spawn(running),
    }
}

fn batch(changes: Vec<Change>) -> Batch {
    Batch {
        changes,
        problems: None,
        ..Batch::default()
    }
}

fn first() -> Batch {
    let mut changes = served(&balanced(service("web"), "198.51.100.8"), &["a1"]);
    changes.push(Change::Upsert(Object::Node(node("A", 0).into())));
    batch(changes)
}

async fn wait(running: &mut Running, wanted: &[&str]) {
    let wanted: BTreeSet<_> = wanted.iter().map(|a| ip(a)).collect();
    let seen = running.programmed.wait_for(|p| p.as_ref() == Some(&wanted));
    tokio::time::timeout(Duration::from_secs(20), seen)
        .await
        .expect("in time")
        .unwrap();
}

#[tokio::test]
async fn addresses_are_told_once_they_are_programmed_and_withdrawn_when_gone() {
    let mut running = start(&MemoryKernel::new([ip("A")]));
    running.changes.send(first()).await.unwrap();
    wait(&mut running, &["198.51.100.8"]).await;
    let empty = balanced(service("empty"), "198.51.100.9");
    running
        .changes
        .send(batch(served(&empty, &[])))
        .await
        .unwrap();
    wait(&mut running, &["198.51.100.8", "198.51.100.9"]).await;
    let gone = Change::Remove(Kind::Service, empty.key);
    running.changes.send(batch(vec![gone])).await.unwrap();
    wait(&mut running, &["198.51.100.8"]).await;
    let services = running.services();
    assert!(services["default/web"].programmed);
    assert_eq!(services.len(), 1);
}

#[tokio::test]
async fn nothing_is_removed_before_the_first_batch() {
    let kernel = MemoryKernel::new([ip("A")]);
    kernel.lock().held.addresses.insert(ip("198.51.100.1"));
    let running = start(&kernel);
    running.stop.send(()).unwrap();
    running.task.await.unwrap().unwrap();
    assert_eq!(kernel.lock().log, []);
}

#[tokio::test]
async fn a_stop_leaves_everything_and_the_next_start_changes_nothing() {
    let kernel = MemoryKernel::new([ip("A")]);
    let mut running = start(&kernel);
    running.changes.send(first()).await.unwrap();
    wait(&mut running, &["198.51.100.8"]).await;
    running.stop.send(()).unwrap();
    running.task.await.unwrap().unwrap();
    let held = kernel.lock().held.clone();
    kernel.lock().log.clear();
    let mut running = start(&kernel);
    running.changes.send(first()).await.unwrap();
    wait(&mut running, &["198.51.100.8"]).await;
    assert_eq!(kernel.lock().log, []);
    assert_eq!(kernel.lock().held, held);
}

#[tokio::test]
async fn an_address_is_not_told_while_the_kernel_refuses_a_part_of_it() {
    let kernel = MemoryKernel::new([ip("A")]);
    kernel.lock().refuse = Some(|op| matches!(op, Op::SetRealServer(..)));
    let mut running = start(&kernel);
    running.changes.send(first()).await.unwrap();
    wait(&mut running, &[]).await;
    assert!(!running.status.borrow().errors.is_empty());
    assert!(!running.services()["default/web"].programmed);
    kernel.lock().refuse = None;
    wait(&mut running, &["198.51.100.8"]).await;
    assert!(running.status.borrow().errors.is_empty());
}

#[tokio::test]
async fn an_audit_repairs_what_somebody_flushed() {
    let kernel = MemoryKernel::new([ip("A")]);
    let mut running = start(&kernel);
    running.changes.send(first()).await.unwrap();
    wait(&mut running, &["198.51.100.8"]).await;
    let held = kernel.lock().held.clone();
    running.kernel.lock().flush_servers();
    running.kernel.lock().flush_table();
    let repaired = async {
        while kernel.lock().held != held {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), repaired)
        .await
        .expect("repaired in time");
}

/// A proxy with audits an hour apart, on a paused clock.
async fn watched() -> (MemoryKernel, Running) {
    let kernel = MemoryKernel::new([ip("A")]);
    let mut running = start_with(&kernel, |config| {
        config.audit = Duration::from_secs(3600);
        config.retry = Duration::from_millis(100)..Duration::from_secs(30);
    });
    running.changes.send(first()).await.unwrap();
    wait(&mut running, &["198.51.100.8"]).await;
    (kernel, running)
}

#[tokio::test(start_paused = true)]
async fn a_foreign_flush_is_repaired_within_a_second() {
    let flushes: [fn(&mut Memory); 4] = [
        Memory::flush_servers,
        Memory::flush_table,
        Memory::delete_link,
        |memory| memory.held.addresses.clear(),
    ];
    for flush in flushes {
        let (kernel, _running) = watched().await;
        let held = kernel.lock().held.clone();
        flush(&mut kernel.lock());
        let start = Instant::now();
        while kernel.lock().held != held {
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert!(start.elapsed() <= Duration::from_secs(1), "not repaired");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn addresses_are_withdrawn_until_their_flushed_servers_are_back() {
    let (kernel, mut running) = watched().await;
    let start = Instant::now();
    kernel.lock().refuse = Some(|op| matches!(op, Op::SetVirtualServer(..)));
    kernel.lock().flush_servers();
    wait(&mut running, &[]).await;
    assert!(start.elapsed() <= Duration::from_secs(1));
    assert!(!running.status.borrow().errors.is_empty());
    kernel.lock().refuse = None;
    wait(&mut running, &["198.51.100.8"]).await;
    assert!(running.status.borrow().errors.is_empty());
}

#[tokio::test(start_paused = true)]
async fn addresses_are_withdrawn_and_told_again_by_a_repair_that_succeeds() {
    for flush in [
        Memory::flush_servers,
        Memory::flush_table,
        Memory::delete_link,
    ] {
        let (kernel, mut running) = watched().await;
        running.programmed.mark_unchanged();
        flush(&mut kernel.lock());
        // Both reports may come before the test reads one. One change notification is enough.
        running.programmed.changed().await.unwrap();
        wait(&mut running, &["198.51.100.8"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_setting_that_somebody_changed_is_reported_until_an_audit_finds_it_right() {
    let (kernel, mut running) = watched().await;
    kernel.lock().meddled.push(Mended {
        what: "sysctl net/ipv4/vs/conntrack".into(),
        was: "0".into(),
        is: "1".into(),
    });
    let told = running
        .status
        .wait_for(|s| !s.errors.is_empty())
        .await
        .unwrap()
        .clone();
    assert!(
        told.errors[0].starts_with("sysctl net/ipv4/vs/conntrack was 0 and is 1 again"),
        "{told:?}"
    );
    let mends = kernel.lock().mends;
    running
        .status
        .wait_for(|s| s.errors.is_empty())
        .await
        .unwrap();
    assert!(kernel.lock().mends > mends);
    assert_eq!(
        running.programmed.borrow().as_ref().map(BTreeSet::len),
        Some(1)
    );
}

#[tokio::test(start_paused = true)]
async fn timeouts_that_change_while_it_runs_are_followed_at_once() {
    let (kernel, running) = watched().await;
    let mends = kernel.lock().mends;
    let timeouts = [900, 120, 300].map(Duration::from_secs);
    let changed = ProxyConfig {
        ipvs_timeouts: timeouts,
        ..ProxyConfig::default()
    };
    let change = Change::Upsert(Object::ProxyConfig(Box::new(changed)));
    running.changes.send(batch(vec![change])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let memory = kernel.lock();
    assert_eq!(
        memory.tuned.as_ref().map(|c| c.ipvs_timeouts),
        Some(timeouts)
    );
    assert_eq!(memory.mends, mends + 1);
}

#[tokio::test(start_paused = true)]
async fn an_untouched_kernel_is_not_read_between_audits() {
    let (kernel, running) = watched().await;
    let reads = kernel.lock().reads;
    tokio::time::sleep(Duration::from_secs(1800)).await;
    assert_eq!(kernel.lock().reads, reads);
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn damage_that_cannot_be_repaired_is_tried_ever_more_rarely() {
    let (kernel, mut running) = watched().await;
    kernel.lock().refuse = Some(|op| matches!(op, Op::AddAddress(..)));
    kernel.lock().delete_link();
    wait(&mut running, &[]).await;
    let reads = kernel.lock().reads;
    tokio::time::sleep(Duration::from_secs(1800)).await;
    let tried = kernel.lock().reads - reads;
    assert!((50..300).contains(&tried), "{tried} times in half an hour");
}

#[tokio::test]
async fn a_local_service_without_a_mark_is_told_and_gets_the_next_free_one() {
    let kernel = MemoryKernel::new([ip("A")]);
    let mut running = start_with(&kernel, |config| config.marks = 7..8);
    let local = |name: &str, vip: &str| {
        let mut service = balanced(service(name), vip);
        service.external_policy = TrafficPolicy::Local;
        service
    };
    let (one, two) = (local("one", "198.51.100.8"), local("two", "198.51.100.9"));
    let mut changes = served(&one, &["a1", "b1"]);
    changes.extend(served(&two, &["a1", "b1"]));
    changes.push(Change::Upsert(Object::Node(node("A", 0).into())));
    running.changes.send(batch(changes)).await.unwrap();
    wait(&mut running, &["198.51.100.8", "198.51.100.9"]).await;
    let services = running.services();
    let [problem] = services["default/two"].problems.as_slice() else {
        panic!("{services:?}");
    };
    let text = problem.to_string();
    assert!(text.contains("Service default/two"), "{text}");
    assert!(text.contains("port 80/TCP"), "{text}");
    assert!(services["default/one"].problems.is_empty());
    let gone = Change::Remove(Kind::Service, one.key);
    running.changes.send(batch(vec![gone])).await.unwrap();
    running.without_problems().await;
    let mark = VirtualServerId::Fwmark {
        mark: 7,
        family: Family::V4,
    };
    assert!(kernel.lock().held.servers.contains_key(&mark));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_proxy_in_time_though_the_kernel_does_not_answer() {
    let (kernel, mut running) = watched().await;
    kernel.lock().hangs = true;
    let more = served(&balanced(service("more"), "198.51.100.9"), &["a1"]);
    running.changes.send(batch(more)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let start = Instant::now();
    running.stop.send(()).unwrap();
    (&mut running.task).await.unwrap().unwrap();
    assert!(start.elapsed() <= STOP_WITHIN, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_operation_without_an_answer_counts_for_nothing_until_the_kernel_is_read() {
    let swallows: [fn(&Op) -> bool; 3] = [
        |op| matches!(op, Op::SetRealServer(..)),
        |op| matches!(op, Op::AddElement(..)),
        |op| matches!(op, Op::AddAddress(..)),
    ];
    for swallow in swallows {
        let (kernel, mut running) = watched().await;
        kernel.lock().swallow = Some(swallow);
        let more = served(&balanced(service("more"), "198.51.100.9"), &["a1"]);
        running.changes.send(batch(more)).await.unwrap();
        let reads = kernel.lock().reads;
        let told = running.status.wait_for(|s| !s.errors.is_empty());
        told.await.unwrap();
        wait(&mut running, &["198.51.100.8"]).await;
        kernel.lock().swallow = None;
        let start = Instant::now();
        wait(&mut running, &["198.51.100.8", "198.51.100.9"]).await;
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{:?}",
            start.elapsed()
        );
        assert!(kernel.lock().reads > reads);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_meets_an_uncertain_record_is_compared_with_a_fresh_one() {
    let (kernel, mut running) = watched().await;
    let web = balanced(service("web"), "198.51.100.8");
    // An endpoint is removed, which is done but not answered. Then the removal is reverted before an audit is due.
    kernel.lock().swallow = Some(|op| matches!(op, Op::DelRealServer(..)));
    running
        .changes
        .send(batch(served(&web, &["a1", "a2"])))
        .await
        .unwrap();
    let held = |kernel: &MemoryKernel, count: usize| {
        let memory = kernel.lock();
        memory
            .held
            .servers
            .values()
            .any(|(_, reals)| reals.len() == count)
    };
    while !held(&kernel, 2) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running
        .changes
        .send(batch(served(&web, &["a1"])))
        .await
        .unwrap();
    while held(&kernel, 2) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running
        .changes
        .send(batch(served(&web, &["a1", "a2"])))
        .await
        .unwrap();
    let start = Instant::now();
    while !held(&kernel, 2) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(
            start.elapsed() < Duration::from_millis(60),
            "the endpoint is missing"
        );
    }
    wait(&mut running, &["198.51.100.8"]).await;
}

fn external(name: &str, addr: &str) -> Batch {
    let mut service = service(name);
    service.external_ips = vec![ip(addr)];
    batch(served(&service, &["a1"]))
}

#[tokio::test(start_paused = true)]
async fn nobody_looks_around_while_no_service_names_an_external_address() {
    let (kernel, mut running) = watched().await;
    // Between the second audit and the third.
    tokio::time::sleep(Duration::from_secs(9000)).await;
    assert_eq!(kernel.lock().looks, 0);
    running
        .changes
        .send(external("outside", "203.0.113.5"))
        .await
        .unwrap();
    wait(&mut running, &["198.51.100.8", "203.0.113.5"]).await;
    assert_eq!(kernel.lock().looks, 1);
    // Once for each audit, and not for changes that do not affect it.
    tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
    assert_eq!(kernel.lock().looks, 4);
    running.changes.send(first()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(kernel.lock().looks, 4);
}

#[tokio::test]
async fn an_external_address_waits_until_the_surroundings_could_be_read() {
    let kernel = MemoryKernel::new([ip("A")]);
    let around = kernel.lock().around.take();
    let mut running = start(&kernel);
    let mut changes = first().changes;
    changes.extend(external("outside", "203.0.113.5").changes);
    running.changes.send(batch(changes)).await.unwrap();
    wait(&mut running, &["198.51.100.8"]).await;
    let services = running.services();
    let [problem] = services["default/outside"].problems.as_slice() else {
        panic!("{services:?}");
    };
    assert_eq!(problem.field, "spec.externalIPs[0]");
    kernel.lock().around = around;
    wait(&mut running, &["198.51.100.8", "203.0.113.5"]).await;
    running.without_problems().await;
}

#[tokio::test]
async fn what_a_pass_went_over_and_how_long_a_change_took_is_counted() {
    let kernel = MemoryKernel::new([ip("A")]);
    let mut meter = crate::meter::Meter::default();
    let mut running = start_with(&kernel, |config| meter = config.meter.clone());
    running.changes.send(first()).await.unwrap();
    wait(&mut running, &["198.51.100.8"]).await;
    let web = balanced(service("web"), "198.51.100.8");
    let mut changes = served(&web, &["a1", "a2"]);
    let Change::Upsert(Object::EndpointSlice(slice)) = &mut changes[1] else {
        panic!("{changes:?}");
    };
    Arc::make_mut(slice).triggered = Some(i64::MAX);
    running.changes.send(batch(changes)).await.unwrap();
    let text = || {
        let mut registry = prometheus_client::registry::Registry::default();
        meter.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    };
    let lines = [
        "kubeproxy_network_programming_duration_seconds_count 1",
        "kubeproxy_sync_partial_proxy_rules_duration_seconds_count 1",
        "kubeproxy_sync_proxy_rules_endpoint_changes_total 2",
        "kubeproxy_sync_proxy_rules_service_changes_total 2",
        "ferrolb_proxy_unprogrammed_services 0",
    ];
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let seen = text();
        if lines.iter().all(|line| seen.lines().any(|l| l == *line)) {
            break;
        }
        assert!(Instant::now() < end, "{seen}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
