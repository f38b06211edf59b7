//! Traffic that runs during a test, all from one process. Each stream is a thread in its own namespace. It sends requests, counts
//! the answers, and stops at the first loss.
//!
//! TCP retransmits lost packets by itself. So a stream of datagrams, each from a port of its own, is the strict check: each one
//! must be answered.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ferrolb_tests::client::{Ask, Flow, fresh_port, http, udp, udp_on};
use ferrolb_tests::netns::Netns;
use ferrolb_tests::wait;

/// The pause between two requests. The load must leave an emulated machine some time for what is tested.
const PACE: Duration = Duration::from_millis(10);
/// The same on a long-lived flow.
const FLOW_PACE: Duration = Duration::from_millis(50);

/// What a stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// HTTP requests, each on its own connection.
    Requests,
    /// Datagrams, each from its own port.
    Datagrams,
    /// One TCP connection.
    Flow,
    /// One UDP socket whose peer must stay the same.
    DatagramFlow,
}

impl Kind {
    fn is_long_lived(self) -> bool {
        matches!(self, Self::Flow | Self::DatagramFlow)
    }
}

/// Which client sends requests to which address, and how.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) name: &'static str,
    pub(crate) netns: Netns,
    pub(crate) kind: Kind,
    pub(crate) to: SocketAddr,
}

/// Running streams.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    running: Vec<Running>,
}

struct Running {
    stream: Stream,
    answers: Arc<AtomicU64>,
    thread: JoinHandle<Result<Duration, String>>,
}

/// How much was answered in total; nothing was lost.
#[derive(Clone, Copy)]
pub(crate) struct Tally {
    /// Requests and datagrams on connections of their own.
    pub(crate) requests: u64,
    /// Requests on long-lived flows.
    pub(crate) on_flows: u64,
    /// The longest wait for an answer.
    pub(crate) slowest: Duration,
}

impl Load {
    /// Starts all streams and waits until each has got one answer: then every flow is open.
    pub(crate) fn start(streams: Vec<Stream>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let run = |stream: Stream| {
            let answers = Arc::<AtomicU64>::default();
            let (counted, stopped, plan) =
                (Arc::clone(&answers), Arc::clone(&stop), stream.clone());
            let thread = stream
                .netns
                .thread(move || converse(&plan, &counted, &stopped));
            Running {
                stream,
                answers,
                thread,
            }
        };
        let running = streams.into_iter().map(run).collect();
        let load = Self { stop, running };
        load.pass(1);
        load
    }

    /// Waits until every stream has got `more` further answers. Panics if a stream has lost something.
    #[track_caller]
    pub(crate) fn pass(&self, more: u64) {
        let now = |running: &Running| running.answers.load(Ordering::Relaxed);
        let wanted: Vec<u64> = self.running.iter().map(|one| now(one) + more).collect();
        for (one, wanted) in self.running.iter().zip(wanted) {
            let name = one.stream.name;
            wait::expect(
                &format!("{name}: {more} more answers"),
                Duration::from_secs(20),
                || {
                    // A stream that has ended gets no more answers; the tally gives the reason.
                    if now(one) >= wanted || one.thread.is_finished() {
                        Ok(())
                    } else {
                        Err(now(one))
                    }
                },
            );
        }
        for one in &self.running {
            assert!(
                !one.thread.is_finished(),
                "{}: lost after {} answers",
                one.stream.name,
                now(one)
            );
        }
    }

    /// Requests on connections of their own that have been answered so far.
    pub(crate) fn requests(&self) -> u64 {
        let counted = self
            .running
            .iter()
            .filter(|one| !one.stream.kind.is_long_lived());
        counted.map(|one| one.answers.load(Ordering::Relaxed)).sum()
    }

    /// Ends the load. Panics with a list of what was lost, if anything.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let (mut slowest, mut lost) = (Duration::ZERO, Vec::new());
        let running = std::mem::take(&mut self.running);
        let (mut requests, mut on_flows) = (0, 0);
        for one in running {
            let name = one.stream.name;
            match one.thread.join().expect("a stream does not panic") {
                Ok(longest) => slowest = slowest.max(longest),
                Err(why) => lost.push(format!("{name}: {why}")),
            }
            let answers = one.answers.load(Ordering::Relaxed);
            if one.stream.kind.is_long_lived() {
                on_flows += answers;
            } else {
                requests += answers;
            }
        }
        assert!(lost.is_empty(), "{}", lost.join("\n"));
        Tally {
            requests,
            on_flows,
            slowest,
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // If a test fails, what the streams saw shows why.
        for one in self.running.drain(..) {
            let name = one.stream.name;
            if let Ok(Err(why)) = one.thread.join() {
                eprintln!("--- {name}: {why}");
            }
        }
    }
}

/// Sends requests until it is stopped. Returns the longest wait, or what was lost.
fn converse(plan: &Stream, answers: &AtomicU64, stop: &AtomicBool) -> Result<Duration, String> {
    let start = Instant::now();
    let count = || answers.load(Ordering::Relaxed);
    let failed = |error: std::io::Error| {
        let at = start.elapsed().as_secs_f32();
        format!(
            "{error} ({:?}) after {} answers, {at:.1} s",
            error.kind(),
            count()
        )
    };
    let mut question = questions(plan).map_err(failed)?;
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        question().map_err(failed)?;
        longest = longest.max(asked.elapsed());
        answers.fetch_add(1, Ordering::Relaxed);
        let long_lived = plan.kind.is_long_lived();
        std::thread::sleep(if long_lived { FLOW_PACE } else { PACE });
    }
    Ok(longest)
}

type Question = Box<dyn FnMut() -> std::io::Result<()>>;

/// A function that sends one request, with the state that it keeps between two requests.
fn questions(plan: &Stream) -> std::io::Result<Question> {
    let to = plan.to;
    let ask = || Ask {
        source_port: fresh_port(),
        ..Ask::default()
    };
    Ok(match plan.kind {
        Kind::Requests => Box::new(move || http(to, ask()).map(drop)),
        Kind::Datagrams => Box::new(move || udp(to, ask()).map(drop)),
        Kind::Flow => {
            let mut flow = Flow::open(to, ask())?;
            Box::new(move || flow.ping().map(drop))
        }
        Kind::DatagramFlow => {
            let ask = ask();
            let socket = UdpSocket::bind(("0.0.0.0", ask.source_port))?;
            socket.connect(to)?;
            let mut first = None;
            Box::new(move || {
                let answer = udp_on(&socket, ask)?;
                let known = first.get_or_insert_with(|| answer.clone());
                if (&known.pod, known.from) == (&answer.pod, answer.from) {
                    return Ok(());
                }
                let text = format!("answered by {} instead of {}", answer.text, known.text);
                Err(std::io::Error::other(text))
            })
        }
    })
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (requests, on_flows) = (self.requests, self.on_flows);
        let slowest = self.slowest.as_millis();
        write!(
            f,
            "{requests} requests and {on_flows} questions on long-lived flows, none lost, the slowest {slowest} ms"
        )
    }
}
