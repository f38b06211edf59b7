//! The status of every Service, kept up to date change by change. Pure.
//!
//! Each report from a part of the node marks the Services that it affects, and only those are evaluated again. So the cost of a
//! status depends on what changed since the last one, not on the number of Services.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Change;
use ferrolb_api::delta::Delta;
use ferrolb_api::endpoints::EndpointIndex;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::problem::Problem;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::Service;
use ferrolb_proxy::snapshot::ServiceStatus as Proxied;
use ferrolb_speaker::snapshot::Address;

use super::service::{Programmed, count, status};
use super::unannounced::Unannounced;
use super::view::{AddressStatus, EndpointCount, ServiceState, ServiceStatus};
use crate::authority::Standing;

/// One Service in the book.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// The Service with its addresses, as the status shows it.
    pub(crate) service: Arc<Service>,
    /// Its status.
    pub(crate) status: Arc<ServiceStatus>,
}

/// Services by namespace and name.
pub(crate) type Entries = BTreeMap<ObjectKey, Entry>;

/// What a node knows about every Service.
#[derive(Debug)]
pub(crate) struct Book {
    /// The name of this node.
    me: String,
    /// Whether this node has a proxy, which programs the addresses.
    has_proxy: bool,
    slices: EndpointIndex,
    entries: Entries,
    /// Services by their load-balancer addresses.
    by_address: BTreeMap<IpAddr, BTreeSet<ObjectKey>>,
    addresses: BTreeMap<IpAddr, Arc<Address>>,
    /// How many addresses each member announces.
    announced: BTreeMap<String, usize>,
    /// Addresses that another host claims too.
    conflicts: BTreeSet<IpAddr>,
    /// Services that are completely programmed in the kernel.
    programmed: BTreeSet<ObjectKey>,
    /// Services with which the proxy has a problem, and what it reports about them.
    troubled: BTreeMap<ObjectKey, Arc<Proxied>>,
    /// Services whose status may have changed.
    dirty: BTreeSet<ObjectKey>,
    /// Services whose endpoints must be counted again.
    recount: BTreeSet<ObjectKey>,
}

impl Book {
    /// An empty book for the node of this name.
    pub(crate) fn new(me: &str, has_proxy: bool) -> Self {
        Self {
            me: me.to_owned(),
            has_proxy,
            slices: EndpointIndex::default(),
            entries: BTreeMap::new(),
            by_address: BTreeMap::new(),
            addresses: BTreeMap::new(),
            announced: BTreeMap::new(),
            conflicts: BTreeSet::new(),
            programmed: BTreeSet::new(),
            troubled: BTreeMap::new(),
            dirty: BTreeSet::new(),
            recount: BTreeSet::new(),
        }
    }

    /// Takes in a source's changes of endpoints. Changes of Services come with [`Book::renew`].
    pub(crate) fn source(&mut self, changes: &[Change]) {
        for change in changes {
            let concerned = match change {
                Change::Upsert(Object::EndpointSlice(slice)) => {
                    self.slices.upsert(Arc::clone(slice))
                }
                Change::Remove(Kind::EndpointSlice, slice) => {
                    self.slices.remove(slice).into_iter().collect()
                }
                _ => continue,
            };
            self.dirty.extend(concerned.iter().cloned());
            self.recount.extend(concerned);
        }
    }

    /// Takes in the speaker's news of addresses.
    pub(crate) fn addresses(&mut self, changes: Delta<IpAddr, Arc<Address>>) {
        for (ip, new) in changes {
            let owner = |a: &Arc<Address>| a.owner.clone();
            if let Some(name) = self.addresses.get(&ip).and_then(owner)
                && let Some(count) = self.announced.get_mut(&name)
            {
                *count -= 1;
                if *count == 0 {
                    self.announced.remove(&name);
                }
            }
            if let Some(name) = new.as_ref().and_then(owner) {
                *self.announced.entry(name).or_default() += 1;
            }
            match new.as_ref().is_some_and(|a| a.conflict.is_some()) {
                true => self.conflicts.insert(ip),
                false => self.conflicts.remove(&ip),
            };
            match new {
                Some(address) => self.addresses.insert(ip, address),
                None => self.addresses.remove(&ip),
            };
            let users = self.by_address.get(&ip).into_iter().flatten();
            self.dirty.extend(users.cloned());
        }
    }

    /// Takes in the proxy's news of Services.
    pub(crate) fn proxied(&mut self, changes: Delta<ObjectKey, Arc<Proxied>>) {
        for (key, status) in changes {
            let programmed = status.as_ref().is_some_and(|s| s.programmed);
            let mut changed = match programmed {
                true => self.programmed.insert(key.clone()),
                false => self.programmed.remove(&key),
            };
            let troubled = status.filter(|s| !s.problems.is_empty());
            changed |= self.troubled.get(&key) != troubled.as_ref();
            match troubled {
                Some(status) => self.troubled.insert(key.clone(), status),
                None => self.troubled.remove(&key),
            };
            if changed {
                self.dirty.insert(key);
            }
        }
    }

    /// Notes that the authority's answer for these Services may have changed.
    pub(crate) fn touch(&mut self, services: BTreeSet<ObjectKey>) {
        self.dirty.extend(services);
    }

    /// Evaluates again what may have changed. `standing` is the authority's answer for a Service, or `None` if the Service is
    /// gone. Returns the Services whose status changed, and those that are gone.
    pub(crate) fn renew(
        &mut self,
        standing: impl Fn(&ObjectKey) -> Option<Standing>,
    ) -> Delta<ObjectKey, Arc<ServiceStatus>> {
        let mut changed = Delta::new();
        for key in std::mem::take(&mut self.dirty) {
            let recount = self.recount.remove(&key);
            let Some(standing) = standing(&key) else {
                if let Some(gone) = self.entries.remove(&key) {
                    self.unlink(&key, &gone.service);
                    changed.insert(key, None);
                }
                continue;
            };
            let old = self.entries.get(&key).cloned();
            let endpoints = match &old {
                Some(old) if !recount && is_same(&old.service, &standing.service) => {
                    old.status.endpoints
                }
                _ => count(&self.slices, &key, &standing.service, Some(&self.me)),
            };
            let status = self.status(&key, &standing, endpoints);
            // A Service that was deleted and created again is a different one, even if it looks the same.
            let same =
                |old: &Entry| *old.status == status && old.service.uid == standing.service.uid;
            let shown = old.as_ref().filter(|old| same(old));
            let status = match shown {
                Some(old) => Arc::clone(&old.status),
                None => {
                    let status = Arc::new(status);
                    changed.insert(key.clone(), Some(Arc::clone(&status)));
                    status
                }
            };
            if let Some(old) = &old {
                self.unlink(&key, &old.service);
            }
            for ip in standing.service.vips() {
                self.by_address.entry(ip).or_default().insert(key.clone());
            }
            let service = standing.service;
            self.entries.insert(key, Entry { service, status });
        }
        changed
    }

    /// Every Service, as of the last [`Book::renew`].
    pub(crate) fn entries(&self) -> &Entries {
        &self.entries
    }

    /// How many addresses a member announces.
    pub(crate) fn announced(&self, member: &str) -> usize {
        self.announced.get(member).copied().unwrap_or_default()
    }

    /// Addresses that another host claims too.
    pub(crate) fn conflicts(&self) -> impl Iterator<Item = &Address> {
        let addresses = self.conflicts.iter();
        addresses.filter_map(|ip| self.addresses.get(ip).map(AsRef::as_ref))
    }

    /// The problems that the proxy reports with Services.
    pub(crate) fn proxy_problems(&self) -> impl Iterator<Item = &Problem> {
        self.troubled.values().flat_map(|s| &s.problems)
    }

    fn unlink(&mut self, key: &ObjectKey, service: &Service) {
        for ip in service.vips() {
            if let Some(users) = self.by_address.get_mut(&ip) {
                users.remove(key);
                if users.is_empty() {
                    self.by_address.remove(&ip);
                }
            }
        }
    }

    fn status(
        &self,
        key: &ObjectKey,
        standing: &Standing,
        endpoints: EndpointCount,
    ) -> ServiceStatus {
        let vips = standing.service.vips().map(|ip| {
            let about = self.addresses.get(&ip);
            let own = about.filter(|a| a.owner.as_deref() == Some(&self.me));
            AddressStatus {
                ip,
                node: about.and_then(|a| a.owner.clone()),
                interfaces: own.map(|a| a.interfaces.clone()).unwrap_or_default(),
                reason: about.map_or(Reason::NotSettled, |a| a.reason),
            }
        });
        let programmed = match self.has_proxy {
            false => Programmed::Unasked("another proxy serves it"),
            true if self.programmed.contains(key) => Programmed::Yes,
            true => Programmed::No,
        };
        let orphan = |orphan: &AddressStatus| {
            let known = self.addresses.get(&orphan.ip);
            let about = Unannounced {
                ip: orphan.ip,
                pool: standing.pool.as_deref(),
                node: &self.me,
                reason: orphan.reason,
                owned: known.and_then(|a| a.owned.as_ref()),
                advertised: known.map(|a| &a.advertised),
            };
            (orphan.reason, about.sentence())
        };
        let mut status = status(key, standing, vips.collect(), programmed, endpoints, orphan);
        // The Service works, but the proxy refused a part of what it asks for.
        if status.state == ServiceState::Serving
            && let Some((reason, problem)) = self.troubled.get(key).and_then(|s| s.refusal())
        {
            status.state = ServiceState::Refused;
            status.reason = reason;
            status.message = format!("{}: {}", problem.field, problem.message());
        }
        status
    }
}

fn is_same(a: &Arc<Service>, b: &Arc<Service>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}
