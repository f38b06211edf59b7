//! The address pools, for the single question of whether one of them contains an address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::crd::pool::AddressRange;
use ferrolb_api::legacy::LegacyConfig;
use ferrolb_api::ownership::Place;
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

/// The ranges of all pools.
#[derive(Debug, Clone, Default)]
pub(super) struct Pools {
    pools: BTreeMap<ObjectKey, Vec<AddressRange>>,
    legacy: Option<Arc<LegacyConfig>>,
}

impl Pools {
    /// Handles a new, changed or removed pool. Returns where addresses were added or removed.
    pub(super) fn set(&mut self, key: ObjectKey, new: Option<&[AddressRange]>) -> Vec<Place> {
        let old = match new {
            Some(ranges) => self.pools.insert(key, ranges.to_vec()),
            None => self.pools.remove(&key),
        };
        if old.as_deref() == new {
            return Vec::new();
        }
        let ranges = old.iter().flatten().chain(new.into_iter().flatten());
        ranges.flat_map(places).collect()
    }

    /// Handles MetalLB's older configuration when it is new, changed or removed. Invalid parts keep their previous value.
    pub(super) fn set_legacy(&mut self, mut new: Option<Arc<LegacyConfig>>) -> Vec<Place> {
        if let (Some(new), Some(old)) = (&mut new, &self.legacy) {
            Arc::make_mut(new).inherit(old);
        }
        let old = std::mem::replace(&mut self.legacy, new);
        if old == self.legacy {
            return Vec::new();
        }
        let pools = old.iter().chain(&self.legacy).flat_map(|c| &c.pools);
        pools.flat_map(|p| &p.ranges).flat_map(places).collect()
    }

    /// Whether a pool contains an address.
    pub(super) fn hold(&self, addr: IpAddr) -> bool {
        let legacy = self.legacy.iter().flat_map(|c| &c.pools);
        let legacy = legacy.flat_map(|p| &p.ranges);
        let mut all = self.pools.values().flatten().chain(legacy);
        all.any(|range| range.contains(addr))
    }
}

fn places(range: &AddressRange) -> Vec<Place> {
    let nets: Vec<IpNet> = match (range.first, range.last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => Ipv4Subnets::new(a, b, 0).map(IpNet::V4).collect(),
        (IpAddr::V6(a), IpAddr::V6(b)) => Ipv6Subnets::new(a, b, 0).map(IpNet::V6).collect(),
        _ => Vec::new(),
    };
    nets.into_iter().map(Place::Range).collect()
}
