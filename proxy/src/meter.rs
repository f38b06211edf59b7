//! What the proxy counts. The names, and the bounds of the histograms, are kube-proxy's where it counts the same thing, so that its
//! dashboards and alerts go on working.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ferrolb_api::change::Change;
use ferrolb_api::object::Kind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets, linear_buckets};
use prometheus_client::registry::Registry;

mod traffic;

use traffic::Carried;

/// Which policy keeps clients from the endpoints of other nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Policy {
    traffic_policy: &'static str,
}

/// Handles to the proxy's metrics; clones share them.
#[derive(Debug, Clone)]
pub struct Meter {
    all: Histogram,
    full: Histogram,
    partial: Histogram,
    last: Gauge<f64, AtomicU64>,
    queued: Gauge<f64, AtomicU64>,
    endpoint_changes: Counter,
    service_changes: Counter,
    endpoint_pending: Gauge,
    service_pending: Gauge,
    no_local_endpoints: Family<Policy, Gauge>,
    operations: Counter,
    refused: Counter,
    repairs: Counter,
    unprogrammed: Gauge,
    lacking: Gauge,
    /// What each Service has carried.
    pub(crate) carried: Carried,
    programming: Histogram,
    /// When this began to count, in milliseconds since 1970 UTC.
    began: i64,
}

impl Default for Meter {
    fn default() -> Self {
        // A millisecond to 16 seconds.
        let durations = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        Self {
            all: durations(),
            full: durations(),
            partial: durations(),
            last: Gauge::default(),
            queued: Gauge::default(),
            endpoint_changes: Counter::default(),
            service_changes: Counter::default(),
            endpoint_pending: Gauge::default(),
            service_pending: Gauge::default(),
            no_local_endpoints: Family::default(),
            operations: Counter::default(),
            refused: Counter::default(),
            repairs: Counter::default(),
            unprogrammed: Gauge::default(),
            lacking: Gauge::default(),
            carried: Carried::default(),
            // kube-proxy's: a quarter of a second to five minutes.
            programming: Histogram::new(
                linear_buckets(0.25, 0.25, 2)
                    .chain(linear_buckets(1.0, 1.0, 59))
                    .chain(linear_buckets(60.0, 5.0, 12))
                    .chain(linear_buckets(120.0, 30.0, 7)),
            ),
            began: milliseconds(),
        }
    }
}

/// Milliseconds since 1970 UTC.
fn milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

/// Seconds since 1970 UTC.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

impl Meter {
    /// Makes the metrics known.
    pub fn register(&self, registry: &mut Registry) {
        let kube = registry.sub_registry_with_prefix("kubeproxy");
        for (name, help, durations) in [
            (
                "sync_proxy_rules_duration_seconds",
                "How long a pass took",
                &self.all,
            ),
            (
                "sync_full_proxy_rules_duration_seconds",
                "How long a pass over everything took",
                &self.full,
            ),
            (
                "sync_partial_proxy_rules_duration_seconds",
                "How long a pass over what changed took",
                &self.partial,
            ),
        ] {
            kube.register(name, help, durations.clone());
        }
        for (name, help, gauge) in [
            (
                "sync_proxy_rules_last_timestamp_seconds",
                "When the last pass ended that left nothing undone",
                &self.last,
            ),
            (
                "sync_proxy_rules_last_queued_timestamp_seconds",
                "When the last change arrived",
                &self.queued,
            ),
        ] {
            kube.register(name, help, gauge.clone());
        }
        kube.register(
            "network_programming_duration_seconds",
            "From the change of a Pod or Service until it was in the kernel",
            self.programming.clone(),
        );
        kube.register(
            "sync_proxy_rules_endpoint_changes",
            "Changes of EndpointSlices",
            self.endpoint_changes.clone(),
        );
        kube.register(
            "sync_proxy_rules_service_changes",
            "Changes of Services",
            self.service_changes.clone(),
        );
        for (name, help, gauge) in [
            (
                "sync_proxy_rules_endpoint_changes_pending",
                "Changes of EndpointSlices that no pass has taken in",
                &self.endpoint_pending,
            ),
            (
                "sync_proxy_rules_service_changes_pending",
                "Changes of Services that no pass has taken in",
                &self.service_pending,
            ),
        ] {
            kube.register(name, help, gauge.clone());
        }
        kube.register(
            "sync_proxy_rules_no_local_endpoints_total",
            "Services with a Local traffic policy and without endpoints on this node",
            self.no_local_endpoints.clone(),
        );
        let ours = registry.sub_registry_with_prefix("ferrolb_proxy");
        ours.register(
            "kernel_operations",
            "Operations that were sent to the kernel",
            self.operations.clone(),
        );
        ours.register(
            "kernel_refusals",
            "Passes in which the kernel refused an operation",
            self.refused.clone(),
        );
        ours.register(
            "repairs",
            "How often something was repaired that somebody else removed",
            self.repairs.clone(),
        );
        ours.register(
            "unprogrammed_services",
            "Services that are not completely in the kernel",
            self.unprogrammed.clone(),
        );
        ours.register(
            "missing_schedulers",
            "IPVS schedulers that Services ask for and the kernel lacks",
            self.lacking.clone(),
        );
        registry
            .sub_registry_with_prefix("ferrolb_ipvs")
            .register_collector(Box::new(self.carried.clone()));
    }

    /// Changes arrived.
    pub(crate) fn changes(&self, changes: &[Change]) {
        self.queued.set(now());
        for change in changes {
            let kind = match change {
                Change::Upsert(object) => object.kind(),
                Change::Remove(kind, _) => *kind,
            };
            match kind {
                Kind::Service => {
                    self.service_changes.inc();
                    self.service_pending.inc();
                }
                Kind::EndpointSlice => {
                    self.endpoint_changes.inc();
                    self.endpoint_pending.inc();
                }
                _ => {}
            }
        }
    }

    /// A pass took in everything that arrived.
    pub(crate) fn taken_in(&self) {
        self.service_pending.set(0);
        self.endpoint_pending.set(0);
    }

    /// A pass ended. `whole`: it was a pass over everything.
    pub(crate) fn pass(&self, took: Duration, whole: bool, operations: usize, complete: bool) {
        let took = took.as_secs_f64();
        self.all.observe(took);
        if whole {
            self.full.observe(took);
        } else {
            self.partial.observe(took);
        }
        self.operations
            .inc_by(u64::try_from(operations).unwrap_or(u64::MAX));
        if complete {
            self.last.set(now());
        } else {
            self.refused.inc();
        }
    }

    /// What these changes of slices were triggered by is in the kernel now. What happened before this began to count says nothing
    /// about this process.
    pub(crate) fn programmed(&self, triggered: impl IntoIterator<Item = i64>) {
        let now = milliseconds();
        for at in triggered.into_iter().filter(|at| *at >= self.began) {
            let took = u64::try_from(now.saturating_sub(at)).unwrap_or_default();
            self.programming
                .observe(Duration::from_millis(took).as_secs_f64());
        }
    }

    /// Something that somebody else removed is repaired.
    pub(crate) fn repair(&self) {
        self.repairs.inc();
    }

    /// How many Services and schedulers are missing in the kernel.
    pub(crate) fn missing(&self, services: usize, schedulers: usize) {
        set(&self.unprogrammed, services);
        set(&self.lacking, schedulers);
    }

    /// How many Services have no endpoint on this node that their policy lets clients reach: those from inside, those from
    /// outside.
    pub(crate) fn no_local_endpoints(&self, internal: usize, external: usize) {
        for (traffic_policy, count) in [("internal", internal), ("external", external)] {
            let policy = Policy { traffic_policy };
            set(&self.no_local_endpoints.get_or_create(&policy), count);
        }
    }
}

fn set(gauge: &Gauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use ferrolb_api::ObjectKey;

    use super::*;

    fn text(meter: &Meter) -> String {
        let mut registry = Registry::default();
        meter.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn the_time_until_a_change_is_programmed_counts_from_what_triggered_it() {
        let meter = Meter::default();
        // One from before the start, one from now, one of a clock that is ahead.
        meter.programmed([meter.began - 1, meter.began, i64::MAX]);
        let seen = text(&meter);
        for line in [
            "kubeproxy_network_programming_duration_seconds_count 2",
            "kubeproxy_network_programming_duration_seconds_bucket{le=\"0.25\"} 2",
            "kubeproxy_network_programming_duration_seconds_bucket{le=\"300.0\"} 2",
        ] {
            assert!(seen.lines().any(|l| l == line), "{line} is not in\n{seen}");
        }
        let buckets = seen
            .lines()
            .filter(|l| l.contains("programming_duration_seconds_bucket"));
        assert_eq!(buckets.count(), 2 + 59 + 12 + 7 + 1);
    }

    #[test]
    fn changes_are_pending_until_a_pass_takes_them_in() {
        let meter = Meter::default();
        let gone = |kind| Change::Remove(kind, ObjectKey::new("a", "b"));
        let of = |what: &str, count| {
            format!("kubeproxy_sync_proxy_rules_{what}_changes_pending {count}")
        };
        meter.changes(&[
            gone(Kind::Service),
            gone(Kind::Service),
            gone(Kind::EndpointSlice),
            gone(Kind::Node),
        ]);
        for line in [of("service", 2), of("endpoint", 1)] {
            assert!(text(&meter).lines().any(|l| l == line), "{line}");
        }
        meter.taken_in();
        for line in [of("service", 0), of("endpoint", 0)] {
            assert!(text(&meter).lines().any(|l| l == line), "{line}");
        }
    }

    #[test]
    fn passes_are_counted_by_what_they_went_over() {
        let meter = Meter::default();
        meter.pass(Duration::from_millis(3), true, 10, true);
        meter.pass(Duration::from_millis(1), false, 2, false);
        let seen = text(&meter);
        for line in [
            "kubeproxy_sync_proxy_rules_duration_seconds_count 2",
            "kubeproxy_sync_full_proxy_rules_duration_seconds_count 1",
            "kubeproxy_sync_full_proxy_rules_duration_seconds_bucket{le=\"0.002\"} 0",
            "kubeproxy_sync_full_proxy_rules_duration_seconds_bucket{le=\"0.004\"} 1",
            "kubeproxy_sync_partial_proxy_rules_duration_seconds_count 1",
            "ferrolb_proxy_kernel_operations_total 12",
            "ferrolb_proxy_kernel_refusals_total 1",
        ] {
            assert!(seen.lines().any(|l| l == line), "{line} is not in\n{seen}");
        }
    }
}
