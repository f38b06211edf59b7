//! The status of every Service, kept from change to change. Pure.
//!
//! Whatever the parts of a node report marks the Services that it concerns, and only those are looked at again. So a status costs
//! what changed since the last one, however many Services there are.

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

/// What a node knows of every Service.
#[derive(Debug)]
pub(crate) struct Book {
    /// Name of this node.
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
    /// Addresses that somebody else claims too.
    conflicts: BTreeSet<IpAddr>,
    /// Services that are wholly in the kernel.
    programmed: BTreeSet<ObjectKey>,
    /// What the proxy says of Services that it has problems with.
    troubled: BTreeMap<ObjectKey, Arc<Proxied>>,
    /// Services whose status may be another one now.
    dirty: BTreeSet<ObjectKey>,
    /// Services whose endpoints must be counted again.
    recount: BTreeSet<ObjectKey>,
}

impl Book {
    /// An empty book of the node of this name.
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

    /// Takes in what a source says of endpoints. Services come with [`Book::renew`].
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

    /// Takes in what the speaker says of addresses.
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

    /// Takes in what the proxy says of Services.
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

    /// Notes that the authority may say something else of these Services.
    pub(crate) fn touch(&mut self, services: BTreeSet<ObjectKey>) {
        self.dirty.extend(services);
    }

    /// Renews what may have changed, by what the authority says of a Service; it says `None` of one that is gone. Returns the
    /// Services that are shown differently now, and those that are gone.
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
            // A Service that was made anew is another one, even if it looks the same.
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

    /// Every Service, as it was at the last [`Book::renew`].
    pub(crate) fn entries(&self) -> &Entries {
        &self.entries
    }

    /// How many addresses a member announces.
    pub(crate) fn announced(&self, member: &str) -> usize {
        self.announced.get(member).copied().unwrap_or_default()
    }

    /// Addresses that somebody else claims too.
    pub(crate) fn conflicts(&self) -> impl Iterator<Item = &Address> {
        let addresses = self.conflicts.iter();
        addresses.filter_map(|ip| self.addresses.get(ip).map(AsRef::as_ref))
    }

    /// What the proxy says is wrong with Services.
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
            let about = Unannounced {
                ip: orphan.ip,
                pool: standing.pool.as_deref(),
                node: &self.me,
                reason: orphan.reason,
            };
            (orphan.reason, about.sentence())
        };
        let mut status = status(key, standing, vips.collect(), programmed, endpoints, orphan);
        // What it is not given beside what works.
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
