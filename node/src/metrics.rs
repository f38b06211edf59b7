//! What a node counts, for Prometheus, and what else kube-proxy answers on the same port: its mode and the configuration in force.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::http::{HeaderValue, Method, StatusCode, header};
use ferrolb_api::problem::{Cause, Part, Problem, Subject};
use ferrolb_api::proxy_config::ProxyConfig;
use ferrolb_proxy::meter::Meter;
use ferrolb_source::cluster::requests::Requests;
use ferrolb_speaker::snapshot::{Snapshot, Status};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tracing::warn;

use self::configz::configz;
use crate::health::Questions;
use crate::http::{Port, Reply, open, plain};

mod configz;
#[cfg(test)]
mod tests;

/// Where kube-proxy answers if its configuration says nothing.
pub(crate) const USUAL: &str = "127.0.0.1:10249";
/// How long after an attempt to open the port the next one follows.
const AGAIN: Duration = Duration::from_secs(5);
/// The type of the text (OpenMetrics 1.0, which Prometheus reads).
const TEXT: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// What is counted on this node.
#[derive(Debug)]
pub(crate) struct Counted<'a> {
    /// By the proxy, if this node has one.
    pub(crate) meter: Option<&'a Meter>,
    /// By the speaker.
    pub(crate) speaker: watch::Receiver<Snapshot>,
    /// Questions about this node's health.
    pub(crate) questions: &'a Questions,
    /// Requests to the API server, if there is one.
    pub(crate) requests: Option<&'a Requests>,
}

/// What is shown at the port.
#[derive(Debug)]
struct Shown {
    registry: Registry,
    mode: &'static str,
    /// The configuration in force, as JSON.
    config: watch::Receiver<String>,
}

impl Shown {
    /// Everything that is counted.
    fn new(counted: Counted<'_>, mode: &'static str, config: watch::Receiver<String>) -> Self {
        let mut registry = Registry::default();
        registry.register(
            "ferrolb_build",
            "The version of the program",
            Info::new([("version", env!("CARGO_PKG_VERSION")), ("proxy", mode)]),
        );
        if let Some(meter) = counted.meter {
            meter.register(&mut registry);
        }
        counted.questions.register(&mut registry);
        if let Some(requests) = counted.requests {
            requests.register(&mut registry);
        }
        let ours = registry.sub_registry_with_prefix("ferrolb_speaker");
        ours.register_collector(Box::new(Speaker(counted.speaker)));
        Self {
            registry,
            mode,
            config,
        }
    }

    fn reply(&self, method: &Method, path: &str) -> Reply {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "");
        }
        let typed = |body: String, of: HeaderValue| {
            let mut reply = plain(StatusCode::OK, body);
            reply.headers_mut().insert(header::CONTENT_TYPE, of);
            let nosniff = HeaderValue::from_static("nosniff");
            let headers = reply.headers_mut();
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
            reply
        };
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        match path {
            "/metrics" => {
                let mut body = String::new();
                match prometheus_client::encoding::text::encode(&mut body, &self.registry) {
                    Ok(()) => typed(body, TEXT),
                    Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, ""),
                }
            }
            "/healthz" => typed("ok".to_owned(), text),
            "/proxyMode" => typed(self.mode.to_owned(), text),
            "/configz" => {
                let json = HeaderValue::from_static("application/json");
                let config = self.config.borrow().clone();
                typed(config, json)
            }
            _ => plain(StatusCode::NOT_FOUND, ""),
        }
    }
}

/// The port, open or not.
#[derive(Debug)]
pub(crate) struct Exporter {
    address: SocketAddr,
    healthz: Option<SocketAddr>,
    config: watch::Sender<String>,
    shown: Arc<Shown>,
    port: Result<Port, String>,
    next: Instant,
}

impl Exporter {
    /// Answers at this address. If it cannot be opened, [`Exporter::again`] tries again. The configuration is shown together with
    /// the two addresses in force.
    pub(crate) fn new(
        address: SocketAddr,
        healthz: Option<SocketAddr>,
        counted: Counted<'_>,
        mode: &'static str,
        config: &ProxyConfig,
    ) -> Self {
        let config = watch::Sender::new(configz(config, mode, address, healthz));
        let shown = Arc::new(Shown::new(counted, mode, config.subscribe()));
        let exporter = Self {
            address,
            healthz,
            port: try_open(address, &shown),
            config,
            shown,
            next: Instant::now() + AGAIN,
        };
        if let Some(problem) = exporter.problem() {
            warn!("{problem}");
        }
        exporter
    }

    /// Another configuration is in force.
    pub(crate) fn configured(&self, config: &ProxyConfig) {
        let config = configz(config, self.shown.mode, self.address, self.healthz);
        self.config.send_replace(config);
    }

    /// Tries again to open the port, now and then.
    pub(crate) fn again(&mut self, now: Instant) {
        if self.port.is_err() && now >= self.next {
            self.next = now + AGAIN;
            self.port = try_open(self.address, &self.shown);
        }
    }

    /// Why nobody can read the metrics.
    pub(crate) fn problem(&self) -> Option<Problem> {
        let why = self.port.as_ref().err()?;
        let text = format!(
            "there are no metrics, because this node cannot answer on {} ({why}): if kube-proxy still runs, stop it, or name another \
             address",
            self.address
        );
        let problem = Problem::new(Subject::part(Part::Proxy), Cause::Reported { text });
        Some(problem.field("--metrics-bind-address"))
    }
}

fn try_open(address: SocketAddr, shown: &Arc<Shown>) -> Result<Port, String> {
    let shown = Arc::clone(shown);
    open(address, move |method, path| shown.reply(method, path))
}

/// The counters in the speaker's snapshot, read when somebody asks.
#[derive(Debug)]
struct Speaker(watch::Receiver<Snapshot>);

impl Collector for Speaker {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // The speaker has to wait while its snapshot is borrowed.
        let snapshot = self.0.borrow().clone();
        let counters = snapshot.counters;
        for (name, help, count) in [
            ("arp_answered", "ARP requests answered", counters.answered),
            (
                "arp_withheld",
                "ARP requests not answered because this node had been paused",
                counters.withheld,
            ),
            (
                "arp_gratuitous",
                "Gratuitous ARP frames sent",
                counters.gratuitous,
            ),
            (
                "messages_received",
                "Datagrams accepted from members",
                counters.received,
            ),
            (
                "messages_dropped",
                "Datagrams dropped: not authentic, replayed, or from strangers",
                counters.dropped,
            ),
            (
                "failures",
                "Frames and datagrams that could not be sent",
                counters.failed,
            ),
        ] {
            let counter = ConstCounter::new(count);
            let place = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(place)?;
        }
        let alive = |m: &&ferrolb_speaker::snapshot::Member| m.status == Status::Alive;
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (name, help, value) in [
            (
                "announced_addresses",
                "Addresses that this node announces",
                number(snapshot.announced),
            ),
            (
                "members",
                "Nodes on which an agent runs or is meant to run",
                number(snapshot.members.len()),
            ),
            (
                "live_members",
                "Members that are heard, and this node",
                number(snapshot.members.iter().filter(alive).count()),
            ),
            (
                "settled",
                "Whether this node knows who announces what",
                snapshot.settled.into(),
            ),
            (
                "majority",
                "Whether more than half of the members are heard",
                snapshot.majority.into(),
            ),
            (
                "problems",
                "Problems that `ferrolb status` shows for the speaker",
                number(snapshot.problems.len()),
            ),
        ] {
            let gauge = ConstGauge::new(value);
            let place = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            gauge.encode(place)?;
        }
        let late = Duration::from_micros(counters.latest).as_secs_f64();
        let gauge = ConstGauge::new(late);
        let help = "The longest that the speaker kept a heartbeat waiting";
        let place =
            encoder.encode_descriptor("longest_delay_seconds", help, None, MetricType::Gauge)?;
        gauge.encode(place)
    }
}
