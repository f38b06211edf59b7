//! Services that ask for a scheduler which the kernel lacks.

use ferrolb_api::view::Service;

use super::*;

/// A Service that asks for `lc`.
fn wishing() -> Service {
    let mut web = balanced(service("web"), "198.51.100.8");
    web.cluster_ips = vec![ip("10.96.0.1")];
    web.annotations.scheduler = Some("lc".parse());
    web
}

/// It with one endpoint, and the node.
fn first_of(web: &Service) -> Batch {
    let mut changes = served(web, &["a1"]);
    changes.push(Change::Upsert(Object::Node(node("A", 0).into())));
    batch(changes)
}

/// The scheduler of every virtual server.
fn schedulers(kernel: &MemoryKernel) -> BTreeSet<String> {
    let held = &kernel.lock().held;
    let servers = held.servers.values();
    servers
        .map(|(server, _)| server.scheduler.clone())
        .collect()
}

#[tokio::test]
async fn a_scheduler_that_the_kernel_lacks_leaves_the_service_the_usual_one_until_it_is_there() {
    let kernel = MemoryKernel::new([ip("A")]);
    kernel.lock().lacks.insert("lc".to_owned());
    let mut running = start(&kernel);
    let web = wishing();
    running.changes.send(first_of(&web)).await.unwrap();
    wait(&mut running, &["10.96.0.1", "198.51.100.8"]).await;
    let status = Arc::clone(&running.services()["default/web"]);
    assert!(status.programmed);
    let (reason, problem) = status.refusal().unwrap();
    assert_eq!(reason.to_string(), "NoScheduler");
    assert_eq!(
        format!("{}: {}", problem.field, problem.message()),
        "metadata.annotations[ferrolb.io/scheduler]: the kernel of this node has no IPVS scheduler lc, so rr is used: load it with \
         `modprobe ip_vs_lc`, or name another one"
    );
    assert_eq!(schedulers(&kernel), BTreeSet::from(["rr".to_owned()]));
    assert_eq!(running.status.borrow().errors, Vec::<String>::new());
    // A change of its endpoints asks for the missing scheduler no more.
    let before = kernel.lock().log.len();
    running
        .changes
        .send(batch(served(&web, &["a1", "a2"])))
        .await
        .unwrap();
    while kernel
        .lock()
        .held
        .servers
        .values()
        .any(|(_, reals)| reals.len() < 2)
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // An audit tries it on the first virtual server alone.
    let asked = |op: &Op| {
        matches!(op, Op::SetVirtualServer(s) if s.id == VirtualServerId::Address {
            addr: ip("198.51.100.8"), port: 80, protocol: Default::default()
        })
    };
    let log = kernel.lock().log[before..].to_vec();
    assert_eq!(log.iter().filter(|op| asked(op)).count(), 0, "{log:?}");
    // The module is loaded: an audit finds out.
    kernel.lock().lacks.clear();
    running.without_problems().await;
    assert_eq!(schedulers(&kernel), BTreeSet::from(["lc".to_owned()]));
    assert!(running.services()["default/web"].programmed);
}

#[tokio::test]
async fn a_usual_scheduler_that_the_kernel_lacks_is_an_error_and_not_a_matter_of_the_service() {
    let kernel = MemoryKernel::new([ip("A")]);
    kernel
        .lock()
        .lacks
        .extend(["lc".to_owned(), "rr".to_owned()]);
    let mut running = start(&kernel);
    running.changes.send(first_of(&wishing())).await.unwrap();
    let seen = running.status.wait_for(|s| s.passed).await.unwrap().clone();
    assert!(
        seen.errors
            .iter()
            .any(|e| e.starts_with("the kernel has no IPVS scheduler rr: load it with")),
        "{seen:?}"
    );
    assert!(!running.services()["default/web"].programmed);
    kernel.lock().lacks.remove("rr");
    wait(&mut running, &["10.96.0.1", "198.51.100.8"]).await;
    assert_eq!(schedulers(&kernel), BTreeSet::from(["rr".to_owned()]));
}

#[tokio::test]
async fn a_scheduler_that_services_lacked_and_that_becomes_the_usual_one_is_an_error() {
    let kernel = MemoryKernel::new([ip("A")]);
    kernel.lock().lacks.insert("lc".to_owned());
    // Only an error brings the next audit forward.
    let mut running = start_with(&kernel, |config| config.audit = Duration::from_secs(3600));
    running.changes.send(first_of(&wishing())).await.unwrap();
    wait(&mut running, &["10.96.0.1", "198.51.100.8"]).await;
    let config = ProxyConfig {
        scheduler: "lc".parse().unwrap(),
        ..crate::testing::proxy_config()
    };
    let config = Change::Upsert(Object::ProxyConfig(Box::new(config)));
    running.changes.send(batch(vec![config])).await.unwrap();
    let seen = running.status.wait_for(|s| !s.errors.is_empty());
    let seen = tokio::time::timeout(Duration::from_secs(20), seen).await;
    let errors = seen.expect("in time").unwrap().errors.clone();
    assert!(
        errors.len() == 1 && errors[0].starts_with("the kernel has no IPVS scheduler lc"),
        "{errors:?}"
    );
    kernel.lock().lacks.clear();
    running.without_problems().await;
    let gone = running.status.wait_for(|s| s.errors.is_empty());
    tokio::time::timeout(Duration::from_secs(20), gone)
        .await
        .expect("in time")
        .unwrap();
    assert_eq!(schedulers(&kernel), BTreeSet::from(["lc".to_owned()]));
}
