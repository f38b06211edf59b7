//! The pools in force: which addresses exist, and which Services may use them.
//!
//! Pools come from IPAddressPool objects and from the ConfigMap of MetalLB 0.9. Every address belongs to at most one pool: if two
//! pools overlap, one is refused. A pool in force takes precedence over a new one; otherwise the lower name wins. So a mistake in
//! a new pool never takes an address from a Service that has it. Of two pools of one name the older one is in force.

pub mod eligible;
pub mod range;
pub mod sharing;
mod warning;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::crd::IpAddressPool;
use ferrolb_api::object::Kind;
use ferrolb_api::ownership::Place;
use ferrolb_api::problem::{Cause, Consequence, Problem, Subject};

/// A pool as an object defines it, with what messages about it must name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The object that defines it.
    pub(crate) object: (Kind, ObjectKey),
    /// The field with its addresses.
    pub(crate) field: String,
    /// The pool.
    pub(crate) pool: Arc<IpAddressPool>,
}

/// A valid set of pools: names are unique, ranges never overlap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pools {
    by_name: BTreeMap<String, Offer>,
    /// First address of a range -> its last address and its pool's name.
    by_start: BTreeMap<IpAddr, (IpAddr, String)>,
    /// Pools that are not in force because of a mistake.
    refused: Vec<Arc<IpAddressPool>>,
}

impl Pools {
    /// Whether there is no pool.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The pool of that name.
    pub fn get(&self, name: &str) -> Option<&IpAddressPool> {
        self.by_name.get(name).map(|o| &*o.pool)
    }

    /// All pools, by name.
    pub fn iter(&self) -> impl Iterator<Item = &IpAddressPool> {
        self.by_name.values().map(|o| &*o.pool)
    }

    /// The pool that contains this address.
    pub fn containing(&self, ip: IpAddr) -> Option<&IpAddressPool> {
        let (_, (last, name)) = self.by_start.range(..=ip).next_back()?;
        (ip <= *last).then(|| self.get(name)).flatten()
    }

    /// Whether a pool selects namespaces by their labels.
    pub(crate) fn select_namespaces(&self) -> bool {
        let mut allocations = self.iter().filter_map(|p| p.allocation.as_ref());
        allocations.any(|a| !a.namespace_selectors.is_empty())
    }

    /// Whether a pool has an address there.
    pub(crate) fn touches(&self, place: &Place) -> bool {
        let (first, last) = match place {
            Place::Address(ip) => (*ip, *ip),
            Place::Range(net) => (net.network(), net.broadcast()),
        };
        let before = self.by_start.range(..=last).next_back();
        before.is_some_and(|(start, (end, _))| start.is_ipv4() == last.is_ipv4() && *end >= first)
    }

    /// Whether a pool of that name that contains this address was refused, and no pool of that name in force contains it. Which
    /// of two overlapping pools is in force depends on which came first, so a refusal is no reason to withdraw an address that
    /// the other pool supplied.
    pub(crate) fn refused(&self, name: &str, ip: IpAddr) -> bool {
        if self.containing(ip).is_some_and(|p| p.key.name == name) {
            return false;
        }
        let mut of_name = self.refused.iter().filter(|p| p.key.name == name);
        of_name.any(|p| p.ranges.iter().any(|r| r.first <= ip && ip <= r.last))
    }

    /// The pools in force after `offers` replace the earlier offers, and the problems of those refused.
    pub(crate) fn renew(&self, offers: &[Offer]) -> (Self, Vec<Problem>) {
        let in_force = |o: &Offer| {
            self.by_name
                .get(&o.pool.key.name)
                .is_some_and(|old| old == o)
        };
        let mut order: Vec<&Offer> = offers.iter().collect();
        let seniority = |o: &Offer| o.pool.seniority(o.object.0 == Kind::LegacyConfig);
        let mut first: BTreeMap<&str, (Option<i64>, bool)> = BTreeMap::new();
        for offer in offers {
            let name = offer.pool.key.name.as_str();
            let first = first.entry(name).or_insert_with(|| seniority(offer));
            *first = seniority(offer).min(*first);
        }
        let younger = |o: &Offer| first.get(o.pool.key.name.as_str()) != Some(&seniority(o));
        order.sort_by_key(|o| (younger(o), !in_force(o), &o.pool.key.name, &o.object.1));
        let mut next = Self::default();
        let mut problems = Vec::new();
        for offer in order {
            let Err(text) = next.add(offer) else {
                continue;
            };
            next.refused.push(Arc::clone(&offer.pool));
            let name = &offer.pool.key.name;
            // The last valid form of the pool from the same object stays in force, unless something else took its place.
            let last_good = self.by_name.get(name).filter(|o| o.object == offer.object);
            let kept = last_good.is_some_and(|o| next.add(o).is_ok());
            let (kind, key) = offer.object.clone();
            let cause = Cause::Pool { text };
            problems.push(
                Problem::new(Subject::object_of(kind, key), cause)
                    .field(offer.field.clone())
                    .so(if kept {
                        Consequence::Kept
                    } else {
                        Consequence::Unused
                    }),
            );
        }
        (next, problems)
    }

    fn add(&mut self, offer: &Offer) -> Result<(), String> {
        let name = &offer.pool.key.name;
        if let Some(other) = self.by_name.get(name) {
            return Err(format!(
                "pool {name} is defined in {} {} already: give one of them another name",
                other.object.0, other.object.1
            ));
        }
        if offer.pool.ranges.is_empty() {
            return Err(format!("pool {name} has no addresses: add a range to it"));
        }
        let mut starts = self.by_start.clone();
        for range in &offer.pool.ranges {
            let (first, last) = (range.first, range.last);
            if first > last || first.is_ipv4() != last.is_ipv4() {
                return Err(format!(
                    "range {first}-{last} of pool {name} is backwards or mixes families: write the lower address first"
                ));
            }
            if let Some((f, (l, other))) = starts.range(..=last).next_back()
                && *l >= first
            {
                return Err(format!(
                    "range {first}-{last} of pool {name} overlaps {f}-{l} of pool {other}: take the common addresses out of one"
                ));
            }
            starts.insert(first, (last, name.clone()));
        }
        self.by_start = starts;
        self.by_name.insert(name.clone(), offer.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
