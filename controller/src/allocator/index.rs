//! Which Services hold which load-balancer address, and where the next free or shareable address is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::crd::IpAddressPool;
use ferrolb_api::ownership::Owner;
use ferrolb_api::reason::Reason;

use super::request::Family;
use crate::pool::range::{Runs, is_buggy};
use crate::pool::sharing::Terms;

/// The terms of a holder. `None` for a Service that is known only from its assignment or belongs to another load balancer; no new
/// Service shares with it.
type Holder = Option<Arc<Terms>>;

/// Holders by address.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By name. A list and not a map, because almost every address has one holder.
    holders: BTreeMap<IpAddr, Vec<(ObjectKey, Holder)>>,
    taken: Runs,
    /// Sharing key -> addresses that have a holder with this key.
    shared: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Addresses that Services request by name but do not have. Other Services get them only if nothing else is left.
    pub(super) wanted: BTreeMap<IpAddr, BTreeSet<ObjectKey>>,
}

impl Index {
    pub(super) fn insert(&mut self, ips: &[IpAddr], key: &ObjectKey, terms: Holder) {
        for ip in ips {
            if let Some(name) = terms.as_ref().and_then(|t| t.key.as_ref()) {
                self.shared.entry(name.clone()).or_default().insert(*ip);
            }
            self.taken.insert(*ip);
            let holders = self.holders.entry(*ip).or_default();
            match find(holders, key) {
                Ok(at) => holders[at].1 = terms.clone(),
                Err(at) => {
                    holders.reserve_exact(usize::from(holders.is_empty()));
                    holders.insert(at, (key.clone(), terms.clone()));
                }
            }
        }
    }

    pub(super) fn remove(&mut self, ips: &[IpAddr], key: &ObjectKey) {
        for ip in ips {
            let Some(holders) = self.holders.get_mut(ip) else {
                continue;
            };
            let Ok(at) = find(holders, key) else {
                continue;
            };
            let (_, gone) = holders.remove(at);
            let name = gone.as_ref().and_then(|t| t.key.as_ref());
            let still = |h: &Holder| h.as_ref().and_then(|t| t.key.as_ref()) == name;
            if let Some(name) = name
                && !holders.iter().any(|(_, h)| still(h))
                && let Some(addresses) = self.shared.get_mut(name)
            {
                addresses.remove(ip);
                if addresses.is_empty() {
                    self.shared.remove(name);
                }
            }
            if holders.is_empty() {
                self.holders.remove(ip);
                self.taken.remove(*ip);
            }
        }
    }

    /// Whether anybody holds the address.
    pub(super) fn holds(&self, ip: IpAddr) -> bool {
        self.holders.contains_key(&ip)
    }

    /// Who holds these addresses beside the Service.
    pub(super) fn others(&self, ips: &[IpAddr], key: &ObjectKey) -> Vec<ObjectKey> {
        let holders = ips.iter().filter_map(|ip| self.holders.get(ip));
        let holders = holders.flatten().map(|(holder, _)| holder);
        holders.filter(|holder| *holder != key).cloned().collect()
    }

    /// Why the Service may not have the address beside those who hold it, and who is in its way.
    pub(super) fn clash(
        &self,
        ip: IpAddr,
        key: &ObjectKey,
        terms: &Terms,
    ) -> Option<(Reason, &ObjectKey)> {
        self.holders
            .get(&ip)
            .into_iter()
            .flatten()
            .filter(|(holder, _)| holder != key)
            .find_map(|(holder, theirs)| {
                let reason = theirs
                    .as_ref()
                    .map_or(Some(Reason::AddressInUse), |t| terms.clash(t));
                reason.map(|r| (r, holder))
            })
    }

    /// The same check among existing assignments. Services that are not known yet are no obstacle: their assignments were agreed
    /// on together with this one. Neither is what another load balancer shows: it was already there beside it.
    pub(super) fn clash_of(
        &self,
        ips: &[IpAddr],
        key: &ObjectKey,
        terms: &Terms,
    ) -> Option<(Reason, &ObjectKey)> {
        let holders = ips.iter().filter_map(|ip| self.holders.get(ip)).flatten();
        holders
            .filter(|(holder, _)| holder != key)
            .find_map(|(holder, theirs)| Some((terms.clash(theirs.as_ref()?)?, holder)))
    }

    /// The lowest address of a family in the pool that is free or that the Service may share; ranges are searched in order.
    /// `spare`: skip addresses that others request by name. `bars`: the owner that keeps the Service from having an address.
    pub(super) fn find(
        &self,
        pool: &IpAddressPool,
        family: Family,
        key: &ObjectKey,
        terms: &Terms,
        spare: bool,
        bars: impl Fn(IpAddr) -> Option<Owner>,
    ) -> Option<IpAddr> {
        let usable = |ip: IpAddr| {
            let asked_for = |by: &BTreeSet<ObjectKey>| by.iter().any(|k| k != key);
            let buggy = pool.avoid_buggy_ips && is_buggy(ip);
            if buggy || spare && self.wanted.get(&ip).is_some_and(asked_for) {
                return Err(ip);
            }
            match bars(ip) {
                None => Ok(()),
                Some(Owner::ServiceRange(net) | Owner::PodRange(net)) => Err(net.broadcast()),
                Some(_) => Err(ip),
            }
        };
        pool.ranges
            .iter()
            .filter(|r| Family::of(r.first) == family)
            .find_map(|r| {
                let free = self.taken.first_free(r.first, r.last, usable);
                let until = free.unwrap_or(r.last);
                let shareable = terms
                    .key
                    .as_ref()
                    .and_then(|k| self.shared.get(k))
                    .and_then(|a| {
                        a.range(r.first..=until)
                            .copied()
                            .find(|ip| usable(*ip).is_ok() && self.clash(*ip, key, terms).is_none())
                    });
                shareable.or(free)
            })
    }
}

/// Where the Service is among the holders, or would be.
fn find(holders: &[(ObjectKey, Holder)], key: &ObjectKey) -> Result<usize, usize> {
    holders.binary_search_by(|(holder, _)| holder.cmp(key))
}
