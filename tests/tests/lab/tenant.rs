//! A tenant with Services of many ports and endpoints, beside somebody who asks for the status all the time: the addresses of
//! everybody else are answered throughout, by the same nodes.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ferrolb_tests::arp::{Heard, Questions};
use ferrolb_tests::cluster::Cluster;
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::node::{Node, PodLinks};
use ferrolb_tests::rows::ADDRESSES;
use ferrolb_tests::wait;

const SERVICES: usize = 20;
const PORTS: usize = 1000;
const SLICES: usize = 5;
const ENDPOINTS: usize = 1000;
const CHANGES: usize = 2;

const PACE: Duration = Duration::from_millis(20);
/// A cache that was just filled keeps an entry for much longer than this.
const SILENCE: Duration = Duration::from_secs(2);
const WHILE: Duration = Duration::from_secs(120);

/// One Service of the tenant. Each version has one endpoint less than the one before it, and its first slice names other nodes.
fn service(number: usize, version: usize) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: big-{number}, namespace: tenant}}\n\
         spec:\n  type: LoadBalancer\n  selector: {{app: big-{number}}}\n  ports:\n"
    );
    let mut ports = String::new();
    for port in 0..PORTS {
        writeln!(
            text,
            "  - {{name: p{port}, port: {}, targetPort: {}}}",
            1000 + port,
            20_000 + port
        )
        .unwrap();
        writeln!(ports, "- {{name: p{port}, port: {}}}", 20_000 + port).unwrap();
    }
    for slice in 0..SLICES {
        write!(
            text,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata:\n  name: big-{number}-{slice}\n  namespace: tenant\n  labels: {{kubernetes.io/service-name: big-{number}}}\n\
             addressType: IPv4\nports:\n{ports}endpoints:\n"
        )
        .unwrap();
        let (less, moved) = if slice == 0 {
            (version, version)
        } else {
            (0, 0)
        };
        for endpoint in 0..ENDPOINTS - less {
            writeln!(
                text,
                "- {{addresses: [10.{}.{}.{}], nodeName: node-{}}}",
                100 + number,
                slice * 4 + endpoint / 250,
                1 + endpoint % 250,
                1 + (endpoint + moved) % 3
            )
            .unwrap();
        }
    }
    text
}

/// Asks a node for its status all the time until `stop`; returns how often it answered.
fn ask(socket: &std::path::Path, stop: &AtomicBool) -> usize {
    let mut answered = 0;
    while !stop.load(Ordering::Relaxed) {
        let read = std::os::unix::net::UnixStream::connect(socket).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            std::io::copy(&mut stream, &mut std::io::sink())
        });
        answered += usize::from(read.is_ok_and(|bytes| bytes > 0));
    }
    answered
}

/// Waits until every node counts all endpoints of this version for each of the tenant's Services.
fn wait_for(version: usize, cluster: &Cluster) {
    let expected = vec![SLICES * ENDPOINTS - version; SERVICES];
    for node in &cluster.nodes {
        let what = format!("{} has version {version} of the tenant", node.name);
        wait::expect(&what, WHILE, || {
            let counts = endpoints(node, cluster)?;
            if counts == expected {
                Ok(())
            } else {
                Err(format!("{counts:?}"))
            }
        });
    }
}

/// How many endpoints a node counts for each of the tenant's Services that it lists.
fn endpoints(node: &Node, cluster: &Cluster) -> Result<Vec<usize>, String> {
    let status = node.status(&cluster.setup)?;
    let services = status["services"].as_array().cloned().unwrap_or_default();
    let counts = services
        .iter()
        .filter(|s| s["namespace"] == "tenant")
        .map(|s| s["endpoints"]["total"].as_u64().unwrap_or_default());
    Ok(counts.map(|n| usize::try_from(n).unwrap()).collect())
}

/// The longest time in which questions were asked and none was answered.
pub(crate) fn longest_silence(heard: &Heard) -> Duration {
    let mut longest = Duration::ZERO;
    let mut unanswered: Option<Instant> = None;
    let mut answers = heard.answers.iter().map(|(at, _)| *at).peekable();
    for asked in &heard.asked {
        while let Some(at) = answers.next_if(|at| at <= asked) {
            let since = unanswered.take();
            longest = longest
                .max(since.map_or(Duration::ZERO, |since| at.saturating_duration_since(since)));
        }
        unanswered.get_or_insert(*asked);
    }
    let end = answers.next().or(heard.asked.last().copied());
    let open = unanswered
        .zip(end)
        .map(|(since, end)| end.saturating_duration_since(since));
    longest.max(open.unwrap_or_default())
}

#[test]
fn a_silence_begins_with_a_question_and_ends_with_the_next_answer() {
    let begin = Instant::now();
    let at = |ms: u64| begin + Duration::from_millis(ms);
    for (asked, answers, expected) in [
        (vec![0, 20, 40], vec![1, 22, 41], 2),
        (vec![0, 20, 40, 3000], vec![1, 2500, 3001], 2480),
        (vec![0, 20, 4000], vec![1], 3980),
        (vec![0, 20, 4000], vec![], 4000),
    ] {
        let heard = Heard {
            asked: asked.into_iter().map(at).collect(),
            answers: answers
                .into_iter()
                .map(|ms| (at(ms), String::new()))
                .collect(),
        };
        assert_eq!(longest_silence(&heard), Duration::from_millis(expected));
    }
}

#[test]
fn a_tenant_with_many_ports_and_a_loop_of_status_silence_nobody() {
    need!(
        "a_tenant_with_many_ports_and_a_loop_of_status_silence_nobody",
        Need::Root,
        Need::Ferrolb,
        Need::CoreDns,
        Need::Tool("nginx"),
        Need::Tool("arping")
    );
    let mut cluster = Cluster::new("none", PodLinks::Routed);
    cluster.start();
    cluster.settle(&ADDRESSES).unwrap();
    let questions = ADDRESSES.map(|address| Questions::start(&cluster.client, address, PACE));
    let stop = Arc::new(AtomicBool::new(false));
    let sockets = cluster.nodes.iter().map(|node| node.socket(&cluster.setup));
    let asking: Vec<_> = sockets
        .map(|socket| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || ask(&socket, &stop))
        })
        .collect();
    for version in 0..=CHANGES {
        for number in 0..SERVICES {
            let file = format!("big-{number}.yaml");
            cluster.manifests.write(&file, &service(number, version));
        }
        wait_for(version, &cluster);
    }
    stop.store(true, Ordering::Relaxed);
    for asking in asking {
        let answered = asking.join().unwrap();
        assert!(answered > 10, "status was answered {answered} times");
    }
    let heard = questions.map(Questions::finish);
    for (address, heard) in ADDRESSES.iter().zip(&heard) {
        let silence = longest_silence(heard);
        println!(
            "{address}: {} questions, {} ms of silence at most",
            heard.asked.len(),
            silence.as_millis()
        );
        let mut owners: Vec<&str> = heard.answers.iter().map(|(_, mac)| mac.as_str()).collect();
        owners.dedup();
        assert_eq!(owners.len(), 1, "{address} moved: {owners:?}");
        assert!(
            silence < SILENCE * wait::slowness(),
            "{address}: {silence:?} of silence"
        );
    }
}
