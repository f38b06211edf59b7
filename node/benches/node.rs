//! What a whole node costs: memory, an idle minute, one change, one status, and how late its speaker ever is while a first list of
//! Services comes in on a busy machine.
//!
//! It runs `ferrolb_node::run` itself, with a folder of manifests and without a proxy, in a network namespace of its own; needs root and
//! iproute2. `cargo bench -p ferrolb-node`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ferrolb_node::report::view::{NodeStatus, ServiceState};
use ferrolb_node::{Config, ProxyMode};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// Services that ask for a pool that is not there, for ever.
const PENDING: usize = 10;
/// Services in one file.
const TOGETHER: usize = 500;

/// The argument with which a process of this program becomes the node, followed by the folder.
const NODE: &str = "--node";

fn main() {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if let (Some(NODE), Some(folder)) = (first.as_deref(), arguments.next()) {
        node(Path::new(&folder));
        return;
    }
    let sizes = match first.and_then(|n| n.parse().ok()) {
        Some(one) => vec![one],
        None => vec![1_000, 10_000],
    };
    println!(
        "{:>8} {:>12} {:>12} {:>14} {:>12} {:>18}",
        "services", "resident", "idle", "one change", "one status", "latest heartbeat"
    );
    for services in sizes {
        measure(services);
    }
}

/// One node in a process of its own, so that its memory is its own.
fn measure(services: usize) {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::create_dir_all(at.join("manifests")).unwrap();
    write(at, "pool.yaml", &pool());
    let mut node = Command::new(std::env::current_exe().unwrap());
    let node = node.arg(NODE).arg(at).spawn().unwrap();
    let pid = Pid::from_raw(node.id().try_into().unwrap());
    let mut running = Running(node);
    report(at, &mut running.0, pid, services);
}

/// A node that ends with this, also where the measurement fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0.id().try_into().unwrap());
        // One that ended by itself is waited for already.
        if matches!(self.0.try_wait(), Ok(None)) && kill(pid, Signal::SIGTERM).is_ok() {
            let _ = self.0.wait();
        }
    }
}

fn node(at: &Path) {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: run as root");
    for words in [
        "link set lo up",
        "link add eth0 type veth peer name lan0",
        "addr add 172.16.0.1/12 dev eth0",
        "link set eth0 up",
        "link set lan0 up",
    ] {
        let done = Command::new("ip").args(words.split(' ')).status().unwrap();
        assert!(done.success(), "ip {words}");
    }
    let mut config = Config::new(at.join("state"));
    config.manifests = Some(at.join("manifests"));
    config.node_name = Some("bench".into());
    config.node_ip = vec!["172.16.0.1".parse().unwrap()];
    config.proxy = ProxyMode::None;
    config.socket = at.join("sock");
    ferrolb_source::memory::keep_little();
    ferrolb_node::run(&config).unwrap();
}

fn report(at: &Path, node: &mut Child, child: Pid, services: usize) {
    wait(node, "the node to settle", || {
        status(at).is_some_and(|s| s.settled)
    });
    // The first list, on two busy processors.
    let busy = Arc::new(AtomicBool::new(true));
    let spin = |busy: Arc<AtomicBool>| move || while busy.load(Ordering::Relaxed) {};
    let spinners = [(); 2].map(|()| std::thread::spawn(spin(Arc::clone(&busy))));
    for first in (0..services).step_by(TOGETHER) {
        let mut text = String::new();
        for index in first..(first + TOGETHER).min(services) {
            text.push_str(&service(index, ""));
            text.push_str(&slice(index, 2));
        }
        write(at, &format!("services-{first:05}.yaml"), &text);
    }
    let mut text = String::new();
    for index in services..services + PENDING {
        text.push_str(&service(
            index,
            "  annotations: {metallb.io/address-pool: not-there}\n",
        ));
    }
    write(at, "pending.yaml", &text);
    let announced = |s: &NodeStatus| {
        let serving = s.services.iter();
        serving.filter(|s| s.state == ServiceState::Serving).count()
    };
    wait(node, "every Service to serve", || {
        status(at).is_some_and(|s| announced(&s) >= services)
    });
    busy.store(false, Ordering::Relaxed);
    for spinner in spinners {
        spinner.join().unwrap();
    }
    let latest = status(at).unwrap().speaker.latest;
    std::thread::sleep(Duration::from_secs(5));
    let resident = resident(child);
    let idle_for = Duration::from_secs(20);
    let before = cpu(child);
    std::thread::sleep(idle_for);
    let idle = (cpu(child) - before).as_secs_f64() / idle_for.as_secs_f64();
    // One endpoint comes and goes; the file is one of its own.
    const CHANGES: u32 = 20;
    let extra = |endpoints| service(services + PENDING, "") + &slice(services + PENDING, endpoints);
    write(at, "one.yaml", &extra(2));
    std::thread::sleep(Duration::from_secs(2));
    let (before, began) = (cpu(child), Instant::now());
    for n in 0..CHANGES {
        write(at, "one.yaml", &extra(2 + (n as usize) % 2));
        std::thread::sleep(Duration::from_millis(500));
    }
    let spent = (cpu(child) - before).as_secs_f64() - idle * began.elapsed().as_secs_f64();
    let change = spent.max(0.0) / f64::from(CHANGES);
    const ASKED: u32 = 10;
    let before = cpu(child);
    for _ in 0..ASKED {
        status(at).unwrap();
    }
    let asked = (cpu(child) - before).as_secs_f64() / f64::from(ASKED);
    println!(
        "{services:>8} {:>8.0} MiB {:>10.2} % {:>11.2} ms {:>9.1} ms {:>15.1} ms",
        resident,
        idle * 100.0,
        change * 1e3,
        asked * 1e3,
        latest as f64 / 1e3,
    );
}

fn status(at: &Path) -> Option<NodeStatus> {
    let mut text = String::new();
    let mut stream = UnixStream::connect(at.join("sock")).ok()?;
    stream.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn wait(node: &mut Child, what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        let ended = node.try_wait().unwrap();
        assert_eq!(ended, None, "waiting for {what}");
        assert!(
            began.elapsed() < Duration::from_secs(300),
            "waiting for {what}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Resident memory of a process, in MiB (proc(5), statm; pages of 4 KiB).
fn resident(process: Pid) -> f64 {
    let statm = std::fs::read_to_string(format!("/proc/{process}/statm")).unwrap();
    let pages: f64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096.0 / f64::from(1 << 20)
}

/// User and system time of a process, of threads that ended too (clock_getcpuclockid(3)).
fn cpu(process: Pid) -> Duration {
    let clock = clock_getcpuclockid(process).unwrap();
    clock.now().unwrap().into()
}

/// As a whole or not at all, as an editor does it.
fn write(at: &Path, name: &str, text: &str) {
    let draft = at.join("draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(draft, at.join("manifests").join(name)).unwrap();
}

fn pool() -> String {
    "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: lan, namespace: metallb-system}\n\
     spec: {addresses: [172.17.0.0-172.17.255.255]}\n---\n\
     apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: lan, namespace: metallb-system}\n"
        .to_owned()
}

fn service(index: usize, annotations: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: svc-{index}\n  namespace: bench\n{annotations}spec:\n  type: LoadBalancer\n  \
         selector: {{app: app-{index}}}\n  ports: [{{name: http, port: 80, targetPort: 8080}}]\n"
    )
}

fn slice(index: usize, endpoints: usize) -> String {
    let mut text = format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: svc-{index}-x\n  namespace: bench\n  \
         labels: {{kubernetes.io/service-name: svc-{index}}}\naddressType: IPv4\nports: [{{name: http, port: 8080, protocol: TCP}}]\nendpoints:\n"
    );
    for n in 0..endpoints {
        let ip = std::net::Ipv4Addr::from_bits(0x0af4_0000 + u32::try_from(index * 4 + n).unwrap());
        writeln!(
            text,
            "- {{addresses: [{ip}], nodeName: bench, conditions: {{ready: true}}}}"
        )
        .unwrap();
    }
    text
}
