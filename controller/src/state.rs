//! What is known (Services and pools), and which Services a change affects. The only decision made here is which pools are in
//! force.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Change;
use ferrolb_api::crd::L2Advertisement;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::ownership::{Owner, Ownership, Place};
use ferrolb_api::problem::Problem;
use ferrolb_api::view::{Node, Service};
use ipnet::IpNet;

use crate::pool::eligible::Namespaces;
use crate::pool::{Offer, Pools};

mod doubt;

/// Configuration that does not come from objects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Handle only Services of this `loadBalancerClass`; `None`: only those without a class.
    pub class: Option<String>,
    /// Ranges for ClusterIPs; the family of the first one is the primary family. If empty, ClusterIPs are not managed here.
    pub service_cidrs: Vec<IpNet>,
    /// Where API servers answer.
    pub api_servers: Vec<SocketAddr>,
}

/// Which Services must be decided again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dirty {
    /// All Services: pools changed.
    pub all: bool,
    /// These Services.
    pub services: BTreeSet<ObjectKey>,
    /// Those that wait for any address: one of a pool has lost an owner.
    pub waiting: bool,
}

impl Dirty {
    /// All Services.
    pub fn everything() -> Self {
        Self {
            all: true,
            ..Self::default()
        }
    }

    /// Whether there is nothing to decide.
    pub fn is_empty(&self) -> bool {
        !self.all && !self.waiting && self.services.is_empty()
    }
}

/// Services, pools and settings.
#[derive(Debug, Clone, Default)]
pub struct State {
    settings: Settings,
    services: BTreeMap<ObjectKey, Arc<Service>>,
    offers: BTreeMap<(Kind, ObjectKey), Vec<Offer>>,
    pools: Pools,
    /// Only for warnings: what is announced is the speaker's to decide.
    advertisements: BTreeMap<ObjectKey, Arc<L2Advertisement>>,
    nodes: BTreeMap<String, Arc<Node>>,
    namespaces: Namespaces,
    /// Owners of addresses beside this load balancer. ClusterIPs are missing: who has which one is the allocator's decision.
    ownership: Ownership,
    /// Problems of refused pools, then warnings about the others.
    problems: Vec<Problem>,
    /// How many pools are refused.
    refused: usize,
    /// Pools that the source could not read, by name, with what is wrong.
    unreadable: BTreeMap<String, String>,
    /// The pools in each ConfigMap that could not be read.
    legacy: BTreeMap<ObjectKey, Vec<String>>,
    keep_absent: bool,
    /// Services whose removal was seen while absent ones are kept.
    removed: BTreeSet<ObjectKey>,
    dirty: Dirty,
}

impl State {
    /// Starts with nothing known.
    pub fn new(settings: Settings) -> Self {
        Self {
            ownership: Ownership::new(&settings.api_servers, &settings.service_cidrs),
            settings,
            ..Self::default()
        }
    }

    /// Applies one change. Kinds that are not relevant here are ignored.
    pub fn apply(&mut self, change: &Change) {
        self.apply_all([change]);
    }

    /// Applies changes that take effect together. Which pools are in force is decided once, so that of two new overlapping pools
    /// the same one is refused regardless of their order.
    pub fn apply_all<'a>(&mut self, changes: impl IntoIterator<Item = &'a Change>) {
        let mut changed = false;
        for change in changes {
            changed |= self.note(change);
        }
        if changed {
            self.renew_pools();
        }
    }

    /// Records a change; returns whether it affected the pools, or owners of addresses that may be in them.
    fn note(&mut self, change: &Change) -> bool {
        match change {
            Change::Upsert(Object::Service(service)) => {
                self.removed.remove(&service.key);
                self.dirty.services.insert(service.key.clone());
                let old = self
                    .services
                    .insert(service.key.clone(), Arc::clone(service));
                self.owns(&service.key, old.as_deref(), Some(service));
            }
            Change::Remove(Kind::Service, key) => {
                if let Some(old) = self.services.remove(key) {
                    self.owns(key, Some(&old), None);
                    self.dirty.services.insert(key.clone());
                    if self.keep_absent {
                        self.removed.insert(key.clone());
                    }
                }
            }
            Change::Upsert(Object::Node(node)) => {
                let old = self.nodes.insert(node.name.clone(), Arc::clone(node));
                let places = self.ownership.set_node(old.as_deref(), Some(node));
                return self.owners_moved(&places);
            }
            Change::Remove(Kind::Node, key) => {
                let old = self.nodes.remove(&key.name);
                let places = self.ownership.set_node(old.as_deref(), None);
                return self.owners_moved(&places);
            }
            Change::Upsert(Object::ServiceCidr(range)) => {
                let places = self
                    .ownership
                    .set_service_cidr(&range.name, Some(&range.cidrs));
                return self.owners_moved(&places);
            }
            Change::Remove(Kind::ServiceCidr, key) => {
                let places = self.ownership.set_service_cidr(&key.name, None);
                return self.owners_moved(&places);
            }
            Change::Upsert(Object::Namespace(namespace)) => {
                let labels = Some(namespace.labels.clone());
                self.dirty.all |=
                    self.namespaces.set(&namespace.name, labels) && self.pools.select_namespaces();
            }
            Change::Remove(Kind::Namespace, key) => {
                self.dirty.all |=
                    self.namespaces.set(&key.name, None) && self.pools.select_namespaces();
            }
            Change::Upsert(Object::L2Advertisement(advertisement)) => {
                let key = advertisement.key.clone();
                let old = self.advertisements.insert(key, Arc::clone(advertisement));
                return old.as_ref() != Some(advertisement);
            }
            Change::Remove(Kind::L2Advertisement, key) => {
                return self.advertisements.remove(key).is_some();
            }
            Change::Upsert(Object::IpAddressPool(pool)) => {
                let offer = Offer {
                    object: (Kind::IpAddressPool, pool.key.clone()),
                    field: "spec.addresses".to_owned(),
                    pool: Arc::clone(pool),
                };
                self.offers
                    .insert((Kind::IpAddressPool, pool.key.clone()), vec![offer]);
                return true;
            }
            Change::Upsert(Object::LegacyConfig(config)) => {
                let offers = config.pools.iter().enumerate().map(|(i, pool)| Offer {
                    object: (Kind::LegacyConfig, config.key.clone()),
                    field: format!("data.config.address-pools[{i}].addresses"),
                    pool: Arc::new(pool.clone()),
                });
                let mut offers: Vec<Offer> = offers.collect();
                let source = (Kind::LegacyConfig, config.key.clone());
                // Pools that could not be read keep their earlier form, unless the source already kept it.
                let before = self.offers.get(&source).into_iter().flatten();
                let lost = |o: &&Offer| {
                    let name = &o.pool.key.name;
                    config.broken.contains(name) && config.pools.iter().all(|p| p.key.name != *name)
                };
                offers.extend(before.filter(lost).cloned());
                self.offers.insert(source, offers);
                if self
                    .legacy
                    .insert(config.key.clone(), config.broken.clone())
                    .as_ref()
                    != Some(&config.broken)
                {
                    self.dirty.all = true;
                }
                return true;
            }
            Change::Remove(kind, key) => {
                if *kind == Kind::LegacyConfig && self.legacy.remove(key).is_some() {
                    self.dirty.all = true;
                }
                return self.offers.remove(&(*kind, key.clone())).is_some();
            }
            Change::Upsert(_) => {}
        }
        false
    }

    /// Records which external addresses a Service lists, and whether its ClusterIPs concern a pool.
    fn owns(&mut self, key: &ObjectKey, old: Option<&Service>, new: Option<&Service>) {
        fn external(service: Option<&Service>) -> &[IpAddr] {
            service.map_or(&[], |s| &s.external_ips)
        }
        fn cluster(service: Option<&Service>) -> &[IpAddr] {
            service.map_or(&[], |s| &s.cluster_ips)
        }
        let in_pool = |ip: &IpAddr| self.pools.containing(*ip).is_some();
        let (before, after) = (external(old), external(new));
        // It may list fewer addresses now, or share them on other terms.
        self.dirty.waiting |= before.iter().any(in_pool);
        if before != after {
            self.ownership.set_externals(key, before, after);
        }
        let (before, after) = (cluster(old), cluster(new));
        // Where ClusterIPs are given here, none of a pool is.
        if before != after && self.settings.service_cidrs.is_empty() {
            self.dirty.all |= before.iter().chain(after).any(in_pool);
        }
    }

    /// Sets the addresses at which the members listen, by address.
    pub fn set_members(&mut self, members: BTreeMap<IpAddr, String>) {
        let places = self.ownership.set_members(members);
        if self.owners_moved(&places) {
            self.renew_pools();
        }
    }

    /// Records who a node found to have an address, or that nobody has it.
    pub fn set_found(&mut self, ip: IpAddr, owner: Option<Owner>) {
        let places = self.ownership.set_found(ip, owner);
        if self.owners_moved(&places) {
            self.renew_pools();
        }
    }

    /// Notes that owners changed there; returns whether that concerns a pool.
    fn owners_moved(&mut self, places: &[Place]) -> bool {
        let concerned = places.iter().any(|place| self.pools.touches(place));
        self.dirty.all |= concerned;
        concerned
    }

    fn renew_pools(&mut self) {
        let offers: Vec<Offer> = self.offers.values().flatten().cloned().collect();
        let (pools, mut problems) = self.pools.renew(&offers);
        self.refused = problems.len();
        problems.extend(pools.warnings(&self.ownership));
        let advertisements = self.advertisements.values();
        problems.extend(advertisements.flat_map(|a| pools.unknown(a)));
        // Problems count too: while there are any, addresses outside the pools are left alone.
        self.dirty.all |= pools != self.pools || problems != self.problems;
        self.pools = pools;
        self.problems = problems;
    }

    /// Chooses whether assignments of Services never seen here are kept (`true`), or freed like those of deleted Services.
    ///
    /// Copies of the manifests reach the nodes at different times. A newly elected allocator may be the last node to see a
    /// Service that already has its address. It keeps such assignments for a while before it treats the Services as deleted.
    pub fn keep_absent(&mut self, keep: bool) {
        if self.keep_absent != keep {
            self.keep_absent = keep;
            self.removed.clear();
            self.dirty.all = true;
        }
    }

    /// Whether the assignment of an absent Service is kept.
    pub(crate) fn keeps(&self, absent: &ObjectKey) -> bool {
        self.keep_absent && !self.removed.contains(absent)
    }

    /// Settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// All Services.
    pub fn services(&self) -> &BTreeMap<ObjectKey, Arc<Service>> {
        &self.services
    }

    /// The labels of the namespaces.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// The pools in force.
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// Who owns addresses beside this load balancer, except for ClusterIPs.
    pub fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// Problems of the pools that were refused, and warnings about addresses in pools that belong to somebody else.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// What must be decided since the last call.
    pub fn take_dirty(&mut self) -> Dirty {
        mem::take(&mut self.dirty)
    }
}
