//! This node's view of the Kubernetes objects that decide on announcements. Pure: it holds no client.
//!
//! Services arrive with their assigned addresses. Each change names the addresses that it concerns, so that only those are
//! recomputed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Change;
use ferrolb_api::crd::{IpAddressPool, L2Advertisement};
use ferrolb_api::endpoints::EndpointIndex;
use ferrolb_api::legacy::LegacyConfig;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::ownership::{Owner, Ownership};
use ferrolb_api::view::service::Balancer;
use ferrolb_api::view::{Node, Service};
use ipnet::IpNet;

use crate::machine::Moved;

/// The addresses that must be recomputed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Dirty {
    /// These.
    Some(BTreeSet<IpAddr>),
    /// All of them: pools, advertisements, this node or its interfaces changed.
    All,
}

impl Default for Dirty {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

impl Dirty {
    /// Adds addresses.
    pub(crate) fn add(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        if let Self::Some(all) = self {
            all.extend(addresses);
        }
    }

    /// Takes at most `most` addresses out, the lowest first. `all` is what [`Dirty::All`] stands for.
    pub(crate) fn take(
        &mut self,
        most: usize,
        all: impl FnOnce() -> BTreeSet<IpAddr>,
    ) -> BTreeSet<IpAddr> {
        let mut part = match std::mem::take(self) {
            Self::Some(some) => some,
            Self::All => all(),
        };
        if let Some(next) = part.iter().nth(most).copied() {
            *self = Self::Some(part.split_off(&next));
        }
        part
    }

    /// Whether there is nothing to recompute.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Some(all) if all.is_empty())
    }
}

/// The objects, indexed by address where lookups need that.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// The `loadBalancerClass` of the Services to announce. `None`: Services without one.
    class: Option<String>,
    services: BTreeMap<ObjectKey, Arc<Service>>,
    by_address: BTreeMap<IpAddr, BTreeSet<ObjectKey>>,
    /// The addresses that came and went since somebody asked.
    moved: Moved,
    /// Endpoints by Service.
    pub(crate) endpoints: EndpointIndex,
    nodes: BTreeMap<String, Arc<Node>>,
    /// Nodes, members, subnets and gateways. Everything else is the allocator's to ask.
    ownership: Ownership,
    pools: BTreeMap<ObjectKey, Arc<IpAddressPool>>,
    advertisements: BTreeMap<ObjectKey, Arc<L2Advertisement>>,
    legacy: BTreeMap<ObjectKey, Arc<LegacyConfig>>,
}

impl State {
    /// An empty state for Services of this class.
    pub(crate) fn new(class: Option<String>) -> Self {
        Self {
            class,
            ..Self::default()
        }
    }

    /// Applies a change and marks what it concerns.
    pub(crate) fn apply(&mut self, change: Change, dirty: &mut Dirty) {
        match change {
            Change::Upsert(object) => self.upsert(object, dirty),
            Change::Remove(kind, key) => self.remove(kind, &key, dirty),
        }
    }

    fn upsert(&mut self, object: Object, dirty: &mut Dirty) {
        match object {
            Object::Service(service) => {
                let key = service.key.clone();
                self.unlink(&key, dirty);
                // The addresses of another class belong to another load balancer.
                if service.balancer(self.class.as_deref()) != Balancer::Ours {
                    self.services.remove(&key);
                    return;
                }
                for address in service.vips() {
                    let keys = self.by_address.entry(address).or_default();
                    if keys.is_empty() && !self.moved.removed.remove(&address) {
                        self.moved.added.insert(address);
                    }
                    keys.insert(key.clone());
                    dirty.add([address]);
                }
                self.services.insert(key, service);
            }
            Object::EndpointSlice(slice) => {
                for service in self.endpoints.upsert(slice) {
                    dirty.add(self.vips(&service));
                }
            }
            Object::Node(node) => {
                if self.nodes.get(&node.name) != Some(&node) {
                    let old = self.nodes.get(&node.name);
                    self.ownership.set_node(old.map(AsRef::as_ref), Some(&node));
                    self.nodes.insert(node.name.clone(), node);
                    *dirty = Dirty::All;
                }
            }
            Object::IpAddressPool(pool) => {
                self.pools.insert(pool.key.clone(), pool);
                *dirty = Dirty::All;
            }
            Object::L2Advertisement(advertisement) => {
                self.advertisements
                    .insert(advertisement.key.clone(), advertisement);
                *dirty = Dirty::All;
            }
            Object::LegacyConfig(config) => {
                self.legacy.insert(config.key.clone(), config);
                *dirty = Dirty::All;
            }
            Object::Pod(_)
            | Object::Namespace(_)
            | Object::ServiceCidr(_)
            | Object::ProxyConfig(_) => {}
        }
    }

    fn remove(&mut self, kind: Kind, key: &ObjectKey, dirty: &mut Dirty) {
        let gone = match kind {
            Kind::Service => {
                self.unlink(key, dirty);
                self.services.remove(key);
                false
            }
            Kind::EndpointSlice => {
                if let Some(service) = self.endpoints.remove(key) {
                    dirty.add(self.vips(&service));
                }
                false
            }
            Kind::Node => {
                let gone = self.nodes.remove(&key.name);
                self.ownership.set_node(gone.as_deref(), None);
                gone.is_some()
            }
            Kind::IpAddressPool => self.pools.remove(key).is_some(),
            Kind::L2Advertisement => self.advertisements.remove(key).is_some(),
            Kind::LegacyConfig => self.legacy.remove(key).is_some(),
            Kind::Pod | Kind::Namespace | Kind::ServiceCidr | Kind::ProxyConfig => false,
        };
        if gone {
            *dirty = Dirty::All;
        }
    }

    fn unlink(&mut self, key: &ObjectKey, dirty: &mut Dirty) {
        for address in self.vips(key) {
            if let Some(keys) = self.by_address.get_mut(&address) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_address.remove(&address);
                    if !self.moved.added.remove(&address) {
                        self.moved.removed.insert(address);
                    }
                }
            }
            dirty.add([address]);
        }
    }

    fn vips(&self, key: &ObjectKey) -> Vec<IpAddr> {
        self.services
            .get(key)
            .map(|s| s.vips().collect())
            .unwrap_or_default()
    }

    /// All addresses that Services have.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.by_address.keys().copied()
    }

    /// The addresses that came and went since the last call.
    pub(crate) fn take_moved(&mut self) -> Moved {
        std::mem::take(&mut self.moved)
    }

    /// Whether a Service has this address.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.by_address.contains_key(&address)
    }

    /// The Services that have this address, by key.
    pub(crate) fn services(&self, address: IpAddr) -> impl Iterator<Item = &Service> {
        self.by_address
            .get(&address)
            .into_iter()
            .flatten()
            .filter_map(|key| self.services.get(key))
            .map(AsRef::as_ref)
    }

    /// Sets the addresses at which the members listen, by address.
    pub(crate) fn set_members(&mut self, members: BTreeMap<IpAddr, String>, dirty: &mut Dirty) {
        if !self.ownership.set_members(members).is_empty() {
            *dirty = Dirty::All;
        }
    }

    /// Sets the subnets of this node's interfaces.
    pub(crate) fn set_subnets(&mut self, subnets: BTreeSet<IpNet>, dirty: &mut Dirty) {
        if !self.ownership.set_subnets(subnets).is_empty() {
            *dirty = Dirty::All;
        }
    }

    /// Sets the gateways in this node's routes.
    pub(crate) fn set_gateways(&mut self, gateways: &BTreeSet<IpAddr>, dirty: &mut Dirty) {
        if !self.ownership.set_gateways(gateways.clone()).is_empty() {
            *dirty = Dirty::All;
        }
    }

    /// To whom the address belongs, if nobody may announce it.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<Owner> {
        self.ownership.evicts(address)
    }

    /// The Node objects, by name.
    pub(crate) fn nodes(&self) -> &BTreeMap<String, Arc<Node>> {
        &self.nodes
    }

    /// The pool of an address, with the advertisements from the same kind of configuration.
    pub(crate) fn pool(&self, address: IpAddr) -> Option<(&IpAddressPool, Vec<&L2Advertisement>)> {
        let holds = |p: &&IpAddressPool| {
            p.ranges
                .iter()
                .any(|r| (r.first..=r.last).contains(&address))
        };
        // Of two pools of one name, the allocator leaves out the younger one.
        let older = |p: &&IpAddressPool| {
            let mut legacy = self.legacy.values().flat_map(|c| &c.pools);
            legacy.any(|l| l.key.name == p.key.name && l.seniority(true) < p.seniority(false))
        };
        let pools = self.pools.values().map(AsRef::as_ref);
        let mut pools = pools.filter(holds);
        if let Some(pool) = pools.find(|p| !older(p)) {
            let advertisements = self.advertisements.values();
            return Some((pool, advertisements.map(AsRef::as_ref).collect()));
        }
        // The legacy configuration itself defines how its pools are announced.
        let younger = |l: &&IpAddressPool| {
            let mut pools = self.pools.values();
            pools.any(|p| p.key.name == l.key.name && p.seniority(false) < l.seniority(true))
        };
        self.legacy.values().find_map(|c| {
            let mut pools = c.pools.iter().filter(holds);
            Some((pools.find(|l| !younger(l))?, vec![&c.advertisement]))
        })
    }
}
