#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::time::Duration;

use ferrolb_api::object::{Kind, Object};
use ferrolb_api::source::{Batch, Change};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::{Programmed, ProxyError, run};
use crate::kernel::Op;
use crate::kernel::memory::MemoryKernel;
use crate::snapshot::Snapshot;
use crate::testing::{balanced, config, ip, node, served, service};

struct Running {
    kernel: MemoryKernel,
    changes: mpsc::Sender<Batch>,
    programmed: watch::Receiver<Programmed>,
    status: watch::Receiver<Snapshot>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ProxyError>>,
}

fn start(kernel: &MemoryKernel) -> Running {
    let (changes, receiver) = mpsc::channel(8);
    let (programmed_sender, programmed) = watch::channel(None);
    let (status_sender, status) = watch::channel(Snapshot::default());
    let (stop, stopped) = oneshot::channel();
    let mut config = config("A");
    config.audit = Duration::from_millis(50);
    config.retry = Duration::from_millis(1)..Duration::from_millis(10);
    let shutdown = async {
        let _ = stopped.await;
    };
    let running = run(
        kernel.clone(),
        config,
        receiver,
        programmed_sender,
        status_sender,
        shutdown,
    );
    Running {
        kernel: kernel.clone(),
        changes,
        programmed,
        status,
        stop,
        task: tokio::spawn(running),
    }
}

fn batch(changes: Vec<Change>) -> Batch {
    Batch {
        changes,
        problems: None, ..Batch::default()
    }
}

fn first() -> Batch {
    let mut changes = served(&balanced(service("web"), "198.51.100.8"), &["a1"]);
    changes.push(Change::Upsert(Object::Node(node("A", 0))));
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
    let status = running.status.borrow().clone();
    assert!(status.services["default/web"].programmed);
    assert_eq!(status.services.len(), 1);
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
    assert!(!running.status.borrow().services["default/web"].programmed);
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
