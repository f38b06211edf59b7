//! Plans as IPVS virtual servers, addresses on `kube-ipvs0` and nftables elements. Each plan is lowered separately ([`service`]).
//! This module combines the results and counts how many Services need an address or an element.
//!
//! It makes no decision that a plan could contain. It knows nothing about the kernel's state, except that it does not reuse a
//! mark that is still in use there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::{Bound, Range};
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::scheduler::Scheduler;

use crate::kernel::rule::Key;
use crate::kernel::{Element, Observed, VirtualServer, VirtualServerId};
use crate::plan::ranges::FamilyRanges;
use crate::plan::{Plans, ServicePlan};

mod class;
pub mod ipvs;
pub mod marks;
pub mod nft;
pub mod service;

use ipvs::Wanted;
use marks::Marks;
use nft::Item;
use service::{LoweredService, Schedulers};

/// What a change may have affected. A diff compares only this.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Touched {
    /// Service addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Virtual servers.
    pub servers: BTreeSet<VirtualServerId>,
    /// Keys of elements, by set.
    pub elements: BTreeMap<&'static str, BTreeSet<Vec<Key>>>,
    /// Services that were recomputed.
    pub services: BTreeSet<ObjectKey>,
}

impl Touched {
    /// Adds everything of a Service.
    fn service(&mut self, service: &LoweredService) {
        self.addresses.extend(&service.addresses);
        self.servers.extend(service.servers.keys());
        self.items(&service.elements);
    }

    /// Adds some elements.
    fn items<'a>(&mut self, items: impl IntoIterator<Item = &'a Item>) {
        for (set, element) in items {
            self.element(set, element);
        }
    }

    /// Adds one element.
    pub fn element(&mut self, set: &'static str, element: &Element) {
        let keys = self.elements.entry(set).or_default();
        if !keys.contains(&element.key) {
            keys.insert(element.key.clone());
        }
    }
}

/// Everything that should be in the kernel.
#[derive(Debug, Clone)]
pub struct Lowered {
    services: BTreeMap<ObjectKey, LoweredService>,
    users: BTreeMap<IpAddr, BTreeSet<ObjectKey>>,
    elements: BTreeMap<&'static str, BTreeMap<Element, usize>>,
    owners: BTreeMap<VirtualServerId, ObjectKey>,
    globals: BTreeSet<Item>,
    marks: Marks,
    /// Services that lack a mark.
    unmarked: BTreeSet<ObjectKey>,
    /// Schedulers that the kernel lacks, by name. Services that ask for one get the usual one.
    lacking: BTreeSet<&'static str>,
}

impl Lowered {
    /// Empty. Marks come from this range.
    pub fn new(marks: Range<u32>) -> Self {
        Self {
            services: BTreeMap::new(),
            users: BTreeMap::new(),
            elements: BTreeMap::new(),
            owners: BTreeMap::new(),
            globals: BTreeSet::new(),
            marks: Marks::new(marks),
            unmarked: BTreeSet::new(),
            lacking: BTreeSet::new(),
        }
    }

    /// Notes which schedulers the kernel turned out to lack, or that none is known to be lacking. Returns the Services that must
    /// be lowered again.
    pub fn set_lacking(
        &mut self,
        plans: &Plans,
        lacking: BTreeSet<&'static str>,
    ) -> BTreeSet<ObjectKey> {
        let before = std::mem::replace(&mut self.lacking, lacking);
        let changed: BTreeSet<&str> = before
            .symmetric_difference(&self.lacking)
            .copied()
            .collect();
        if changed.is_empty() {
            return BTreeSet::new();
        }
        let concerned =
            |plan: &Arc<ServicePlan>| plan.scheduler.is_some_and(|s| changed.contains(s.name));
        let keys = self.services.keys();
        let keys = keys.filter(|key| plans.get(key).is_some_and(concerned));
        keys.cloned().collect()
    }

    /// A virtual server with a scheduler that some Service asks for and the kernel lacks.
    pub fn trial(&self, scheduler: &str) -> Option<VirtualServer> {
        let mut all = self.services.values();
        all.find_map(|service| {
            let (wanted, _) = service
                .lacks
                .filter(|(wanted, _)| wanted.name == scheduler)?;
            let mut servers = service.servers.values();
            let server =
                servers.find(|s| matches!(s.server.id, VirtualServerId::Address { .. }))?;
            Some(ipvs::with(server.server.clone(), wanted))
        })
    }

    /// The schedulers that the kernel lacks.
    pub fn lacking(&self) -> &BTreeSet<&'static str> {
        &self.lacking
    }

    /// Remembers the marks that a predecessor assigned. Call it before the first [`Lowered::update`].
    pub fn adopt(&mut self, held: &Observed) {
        self.marks.adopt(held);
    }

    /// Every port with an adopted mark has asked for it by now, so the remaining found marks are free.
    pub fn adopted(&mut self) {
        self.marks.settled();
    }

    /// Lowers the plans of these Services again, and of those that lack a mark if one is free again.
    pub fn update(
        &mut self,
        plans: &Plans,
        mut keys: BTreeSet<ObjectKey>,
        usual: Scheduler,
        held: &Observed,
        touched: &mut Touched,
    ) {
        if !self.unmarked.is_empty() && self.marks.any_free(held) {
            keys.extend(self.unmarked.iter().cloned());
        }
        // A port that lost its mark must not keep another port from finding its own.
        let mut outputs = Vec::new();
        let schedulers = Schedulers {
            usual,
            lacking: &self.lacking,
        };
        for key in &keys {
            let output = match plans.get(key) {
                Some(plan) => Some(service::lower(key, plan, schedulers, &mut self.marks, held)),
                None => {
                    self.marks.keep(key, &BTreeSet::new());
                    None
                }
            };
            outputs.push((key, output));
        }
        // All old outputs are removed before a new one is added, because a key may move from one Service to another.
        for key in &keys {
            if let Some(old) = self.services.remove(key) {
                touched.service(&old);
                self.forget(key, &old);
            }
        }
        for (key, output) in outputs {
            if let Some(output) = output {
                touched.service(&output);
                self.add(key, &output);
                self.services.insert(key.clone(), output);
            }
        }
        touched.services.extend(keys);
    }

    /// Sets the ranges that belong to no Service.
    pub fn set_ranges(&mut self, ranges: &[FamilyRanges], touched: &mut Touched) {
        let globals: BTreeSet<Item> = ranges.iter().flat_map(nft::globals).collect();
        let old = std::mem::replace(&mut self.globals, globals.clone());
        touched.items(old.iter().chain(&globals));
        self.forget_items(&old);
        self.add_items(&globals);
    }

    /// Everything that should be there.
    pub fn everything(&self) -> Touched {
        let mut all = Touched::default();
        for service in self.services.values() {
            all.service(service);
        }
        all.items(&self.globals);
        all.services = self.services.keys().cloned().collect();
        all
    }

    /// Whether an address should be local on this node.
    pub fn has_address(&self, addr: IpAddr) -> bool {
        self.users.contains_key(&addr)
    }

    /// The Services on an address.
    pub fn users(&self, addr: IpAddr) -> impl Iterator<Item = &ObjectKey> {
        self.users.get(&addr).into_iter().flatten()
    }

    /// A virtual server and its real servers.
    pub fn server(&self, id: &VirtualServerId) -> Option<&Wanted> {
        self.services.get(self.owners.get(id)?)?.servers.get(id)
    }

    /// The Service of a virtual server.
    pub fn owner(&self, id: &VirtualServerId) -> Option<&ObjectKey> {
        self.owners.get(id)
    }

    /// The virtual server after the given one, in a circle. `None` if there is none.
    pub fn server_after(&self, id: Option<&VirtualServerId>) -> Option<VirtualServerId> {
        let after = id.and_then(|id| {
            let mut rest = self.owners.range((Bound::Excluded(*id), Bound::Unbounded));
            rest.next()
        });
        after
            .or_else(|| self.owners.first_key_value())
            .map(|(id, _)| *id)
    }

    /// The element with a key.
    pub fn element(&self, set: &str, key: &[Key]) -> Option<&Element> {
        let first = Element {
            key: key.to_vec(),
            value: None,
        };
        let (element, _) = self.elements.get(set)?.range(first..).next()?;
        (element.key == key).then_some(element)
    }

    /// What a Service needs in the kernel.
    pub fn service(&self, key: &ObjectKey) -> Option<&LoweredService> {
        self.services.get(key)
    }

    fn add(&mut self, key: &ObjectKey, service: &LoweredService) {
        if !service.unmarked.is_empty() {
            self.unmarked.insert(key.clone());
        }
        for addr in &service.addresses {
            self.users.entry(*addr).or_default().insert(key.clone());
        }
        for id in service.servers.keys() {
            self.owners.insert(*id, key.clone());
        }
        self.add_items(&service.elements);
    }

    fn forget(&mut self, key: &ObjectKey, service: &LoweredService) {
        self.unmarked.remove(key);
        for addr in &service.addresses {
            if let Some(users) = self.users.get_mut(addr) {
                users.remove(key);
                if users.is_empty() {
                    self.users.remove(addr);
                }
            }
        }
        for id in service.servers.keys() {
            self.owners.remove(id);
        }
        self.forget_items(&service.elements);
    }

    fn add_items(&mut self, items: &BTreeSet<Item>) {
        for (set, element) in items {
            let elements = self.elements.entry(set).or_default();
            *elements.entry(element.clone()).or_default() += 1;
        }
    }

    fn forget_items(&mut self, items: &BTreeSet<Item>) {
        for (set, element) in items {
            let Some(elements) = self.elements.get_mut(set) else {
                continue;
            };
            if let Some(count) = elements.get_mut(element) {
                *count -= 1;
                if *count == 0 {
                    elements.remove(element);
                }
            }
        }
    }
}
