//! What each Service has carried, from the counters of IPVS.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ferrolb_api::ObjectKey;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::kernel::Traffic;

/// The most Services whose traffic is shown: each takes five lines. Of more, the first by name.
const MOST: usize = 1000;

/// Traffic by Service, as of the last audit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Carried(Arc<Mutex<BTreeMap<ObjectKey, Traffic>>>);

/// One counter of a Service: name, help, and how to get its value.
type OfService = (&'static str, &'static str, fn(&Traffic) -> u64);

const OF_SERVICES: [OfService; 5] = [
    ("connections", "Connections to a Service", |t| t.connections),
    ("packets_in", "Packets from clients of a Service", |t| {
        t.packets_in
    }),
    ("packets_out", "Packets to clients of a Service", |t| {
        t.packets_out
    }),
    ("bytes_in", "Bytes from clients of a Service", |t| {
        t.bytes_in
    }),
    ("bytes_out", "Bytes to clients of a Service", |t| {
        t.bytes_out
    }),
];

impl Carried {
    /// Takes in what each virtual server has carried, from one reading of the kernel.
    pub(crate) fn set<'a>(&self, all: impl Iterator<Item = (&'a ObjectKey, Traffic)>) {
        let mut sums: BTreeMap<ObjectKey, Traffic> = BTreeMap::new();
        for (key, traffic) in all {
            match sums.get_mut(key) {
                Some(sum) => *sum = sum.and(traffic),
                None => {
                    sums.insert(key.clone(), traffic);
                }
            }
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sums;
    }
}

impl Collector for Carried {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let carried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, help, value) in OF_SERVICES {
            let mut lines = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (key, traffic) in carried.iter().take(MOST) {
                let labels = [
                    ("namespace", key.namespace.as_str()),
                    ("service", key.name.as_str()),
                ];
                let line = lines.encode_family(&labels)?;
                ConstCounter::new(value(traffic)).encode(line)?;
            }
        }
        let left_out = carried.len().saturating_sub(MOST);
        let gauge = ConstGauge::new(i64::try_from(left_out).unwrap_or(i64::MAX));
        let help = "Services with traffic that are not shown, because there are too many";
        let line = encoder.encode_descriptor("services_left_out", help, None, MetricType::Gauge)?;
        gauge.encode(line)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use prometheus_client::registry::Registry;

    use super::*;

    fn text(carried: &Carried) -> String {
        let mut registry = Registry::with_prefix("ferrolb_ipvs");
        registry.register_collector(Box::new(carried.clone()));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    fn traffic(connections: u64) -> Traffic {
        Traffic {
            connections,
            bytes_out: u64::MAX - 1,
            ..Traffic::default()
        }
    }

    #[test]
    fn the_traffic_of_a_service_is_that_of_all_its_virtual_servers() {
        let carried = Carried::default();
        let (web, dns) = (
            ObjectKey::new("default", "web"),
            ObjectKey::new("dns", "web"),
        );
        carried.set([(&web, traffic(3)), (&dns, traffic(5)), (&web, traffic(4))].into_iter());
        let seen = text(&carried);
        for line in [
            "ferrolb_ipvs_connections_total{namespace=\"default\",service=\"web\"} 7",
            "ferrolb_ipvs_connections_total{namespace=\"dns\",service=\"web\"} 5",
            "ferrolb_ipvs_bytes_out_total{namespace=\"default\",service=\"web\"} 18446744073709551615",
            "ferrolb_ipvs_services_left_out 0",
        ] {
            assert!(seen.lines().any(|l| l == line), "{line} is not in\n{seen}");
        }
        // A Service that is gone has no lines any more.
        carried.set([(&dns, traffic(6))].into_iter());
        assert!(!text(&carried).contains("namespace=\"default\""));
    }

    #[test]
    fn the_lines_are_bounded_whatever_the_number_of_services() {
        let carried = Carried::default();
        let keys: Vec<ObjectKey> = (0..MOST + 7)
            .map(|n| ObjectKey::new("default", format!("svc-{n}")))
            .collect();
        carried.set(keys.iter().map(|key| (key, traffic(1))));
        let seen = text(&carried);
        let lines = seen
            .lines()
            .filter(|l| l.starts_with("ferrolb_ipvs_connections_total{"));
        assert_eq!(lines.count(), MOST);
        assert!(
            seen.contains("ferrolb_ipvs_services_left_out 7\n"),
            "{seen}"
        );
    }
}
