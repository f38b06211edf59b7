//! The proxy's view of Services, endpoints, Nodes, pools, the KubeProxyConfiguration and the node's surroundings, and which
//! Services a change concerns.
//!
//! It makes no decisions and holds no client and no socket. Services arrive with their addresses already assigned.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Change;
use ferrolb_api::endpoints::EndpointIndex;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::ownership::{Ownership, Place};
use ferrolb_api::proxy_config::{NodePortAddresses, ProxyConfig};
use ferrolb_api::view::{EndpointSlice, Node, Service};
use ipnet::IpNet;

use crate::config::{Config, ExternalIps};
use crate::surroundings::is_link_local;

mod outside;
mod pools;
#[cfg(test)]
mod tests;

use outside::Outside;
use pools::Pools;

/// What must be recomputed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dirty {
    /// These Services.
    pub services: BTreeSet<ObjectKey>,
    /// What belongs to no Service: the ranges of Services and pods.
    pub globals: bool,
}

impl Dirty {
    /// Whether there is nothing to recompute.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && !self.globals
    }
}

/// Everything known.
#[derive(Debug, Clone)]
pub struct State {
    services: BTreeMap<ObjectKey, Arc<Service>>,
    endpoints: EndpointIndex,
    nodes: BTreeMap<String, Arc<Node>>,
    proxy: ProxyConfig,
    /// Its timeouts or limits changed.
    tuning: bool,
    own: String,
    own_addresses: BTreeSet<IpAddr>,
    ownership: Ownership,
    outside: Outside,
    pools: Pools,
    /// How many Services have node ports.
    node_ports: usize,
    external_ips: ExternalIps,
    dirty: Dirty,
}

impl State {
    /// Empty. The ranges are dirty.
    pub fn new(config: &Config) -> Self {
        let mut ownership = Ownership::new(&config.protected, &config.service_cidrs);
        ownership.set_cluster_ranges(&config.proxy.cluster_cidrs);
        Self {
            services: BTreeMap::new(),
            endpoints: EndpointIndex::default(),
            nodes: BTreeMap::new(),
            proxy: config.proxy.clone(),
            tuning: false,
            own: config.node.clone(),
            own_addresses: config.node_addresses.iter().copied().collect(),
            ownership,
            outside: Outside::default(),
            pools: Pools::default(),
            node_ports: 0,
            external_ips: config.external_ips,
            dirty: Dirty {
                globals: true,
                ..Dirty::default()
            },
        }
    }

    /// Applies a change and marks what it concerns as dirty. An object equal to the known one concerns nothing.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Upsert(Object::Service(service)) => {
                if self.services.get(&service.key) != Some(&service) {
                    self.set_service(service.key.clone(), Some(service));
                }
            }
            Change::Upsert(Object::EndpointSlice(slice)) => {
                if self.endpoints.get(&slice.key) != Some(&*slice) {
                    self.set_slice(&slice.key.clone(), Some(slice));
                }
            }
            Change::Upsert(Object::Node(node)) => {
                self.set_node(&node.name.clone(), Some(node));
            }
            Change::Upsert(Object::ServiceCidr(range)) => {
                self.set_service_cidr(&range.name, Some(&range.cidrs));
            }
            Change::Remove(Kind::ServiceCidr, key) => self.set_service_cidr(&key.name, None),
            Change::Upsert(Object::ProxyConfig(proxy)) => self.set_proxy(*proxy),
            Change::Upsert(Object::IpAddressPool(pool)) => {
                let places = self.pools.set(pool.key.clone(), Some(&pool.ranges));
                self.owners_changed(&places);
            }
            Change::Upsert(Object::LegacyConfig(config)) => {
                let places = self.pools.set_legacy(Some(config));
                self.owners_changed(&places);
            }
            Change::Remove(Kind::Service, key) => self.set_service(key, None),
            Change::Remove(Kind::EndpointSlice, key) => self.set_slice(&key, None),
            Change::Remove(Kind::Node, key) => self.set_node(&key.name, None),
            Change::Remove(Kind::IpAddressPool, key) => {
                let places = self.pools.set(key, None);
                self.owners_changed(&places);
            }
            Change::Remove(Kind::LegacyConfig, _) => {
                let places = self.pools.set_legacy(None);
                self.owners_changed(&places);
            }
            // If a KubeProxyConfiguration is removed, its settings stay: going back to defaults would move live traffic.
            Change::Remove(_, _) | Change::Upsert(_) => {}
        }
    }

    /// Whether timeouts or limits of the configuration changed since the last call.
    pub fn take_tuning(&mut self) -> bool {
        std::mem::take(&mut self.tuning)
    }

    /// What has become dirty since the last call.
    pub fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
    }

    /// Every Service and the ranges: the input of a full pass.
    pub fn everything(&self) -> Dirty {
        Dirty {
            services: self.services.keys().cloned().collect(),
            globals: true,
        }
    }

    /// A Service.
    pub fn service(&self, key: &ObjectKey) -> Option<&Service> {
        self.services.get(key).map(AsRef::as_ref)
    }

    /// The endpoints of every Service.
    pub fn endpoints(&self) -> &EndpointIndex {
        &self.endpoints
    }

    /// The KubeProxyConfiguration in force.
    pub fn proxy(&self) -> &ProxyConfig {
        &self.proxy
    }

    /// Name of this node.
    pub fn own_name(&self) -> &str {
        &self.own
    }

    /// The Node object of this node.
    pub fn own_node(&self) -> Option<&Node> {
        self.nodes.get(&self.own).map(AsRef::as_ref)
    }

    /// All Nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(AsRef::as_ref)
    }

    /// Addresses of this node.
    pub fn own_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let object = self.own_node().into_iter().flat_map(addresses);
        self.own_addresses
            .iter()
            .copied()
            .chain(object.filter(|a| !self.own_addresses.contains(a)))
    }

    /// Addresses of this node on which node ports are served: of its Node, and of its interfaces unless a Service has them.
    pub fn node_port_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let serve = &self.proxy.node_port_addresses;
        let own = self.own_addresses().filter(|a| serve.serve(*a, true));
        let more = self.ownership.interfaces();
        let more = more.filter(|a| !self.is_own_address(*a) && serve.serve(*a, false));
        own.chain(more.filter(|a| !is_link_local(*a) && !self.ownership.is_of_a_service(*a)))
    }

    /// Whether the addresses of the interfaces decide where a Service is served.
    pub fn serves_node_ports(&self) -> bool {
        self.node_ports > 0 && self.proxy.node_port_addresses != NodePortAddresses::Primary
    }

    /// Whether an address is this node's own.
    pub fn is_own_address(&self, addr: IpAddr) -> bool {
        self.own_addresses.contains(&addr)
            || self
                .own_node()
                .is_some_and(|n| addresses(n).any(|a| a == addr))
    }

    /// Whether another node owns an address.
    pub fn is_foreign_address(&self, addr: IpAddr) -> bool {
        !self.is_own_address(addr) && self.ownership.is_of_another_node(addr, &self.own)
    }

    /// The owners of addresses.
    pub fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// Which external addresses are served.
    pub fn external_ips(&self) -> ExternalIps {
        self.external_ips
    }

    /// Whether an address pool contains an address.
    pub fn is_in_a_pool(&self, addr: IpAddr) -> bool {
        self.pools.hold(addr)
    }

    fn set_service(&mut self, key: ObjectKey, new: Option<Arc<Service>>) {
        let old = match new.clone() {
            Some(service) => self.services.insert(key.clone(), service),
            None => self.services.remove(&key),
        };
        if old.is_none() && new.is_none() {
            return;
        }
        let on_nodes =
            |service: &Option<Arc<Service>>| service.as_ref().is_some_and(|s| s.has_node_ports());
        match (on_nodes(&old), on_nodes(&new)) {
            (false, true) => {
                self.node_ports += 1;
                if self.node_ports == 1 {
                    self.outside.look_again();
                }
            }
            (true, false) => self.node_ports -= 1,
            _ => {}
        }
        for place in self.ownership.set_service(old.as_deref(), new.as_deref()) {
            // A Service takes precedence only over Services that name its address as an external one.
            if let Place::Address(addr) = place {
                let users = self.ownership.external(addr);
                self.dirty.services.extend(users.cloned());
            }
        }
        self.forget_hosts(old.as_deref());
        if let Some(service) = &new {
            self.outside.named(old.as_deref(), service);
        }
        self.dirty.services.insert(key);
    }

    fn set_slice(&mut self, key: &ObjectKey, new: Option<Arc<EndpointSlice>>) {
        let places = self
            .ownership
            .set_slice(self.endpoints.get(key), new.as_deref());
        match new {
            Some(slice) => self.dirty.services.extend(self.endpoints.upsert(slice)),
            None => self.dirty.services.extend(self.endpoints.remove(key)),
        }
        self.owners_changed(&places);
    }

    fn set_node(&mut self, name: &str, new: Option<Arc<Node>>) {
        let old = match new {
            Some(node) => self.nodes.insert(name.to_owned(), node),
            None => self.nodes.remove(name),
        };
        let (old, new) = (old.as_deref(), self.nodes.get(name).map(AsRef::as_ref));
        let cidrs = |n: Option<&Node>| n.map(|n| n.pod_cidrs.clone()).unwrap_or_default();
        if cidrs(old) != cidrs(new) {
            self.dirty.globals = true;
        }
        let differ = |of: fn(&Node) -> BTreeSet<IpAddr>| old.map(of) != new.map(of);
        let moved = differ(|n| addresses(n).collect());
        let zone = |n: Option<&Node>| n.and_then(|n| n.zone.clone());
        let every = name == self.own && (moved || zone(old) != zone(new));
        let places = self.ownership.set_node(old, new);
        if every {
            self.dirty.globals |= moved;
            self.dirty.services.extend(self.services.keys().cloned());
            // Whatever this node's addresses are now, its surroundings must be read again.
            self.outside.look_again();
        } else {
            self.owners_changed(&places);
        }
    }

    fn set_service_cidr(&mut self, name: &str, nets: Option<&[IpNet]>) {
        let places = self.ownership.set_service_cidr(name, nets);
        self.dirty.globals |= !places.is_empty();
        self.owners_changed(&places);
    }

    fn set_proxy(&mut self, proxy: ProxyConfig) {
        if proxy != self.proxy {
            let tuning = |c: &ProxyConfig| (c.ipvs_timeouts, c.conntrack);
            self.tuning |= tuning(&proxy) != tuning(&self.proxy);
            self.ownership.set_cluster_ranges(&proxy.cluster_cidrs);
            self.proxy = proxy;
            self.outside.look_again();
            self.dirty = self.everything();
        }
    }

    /// Marks Services that use these addresses outside the cluster. Others do not depend on the owner of an address.
    fn owners_changed(&mut self, places: &[Place]) {
        for place in places {
            let users = self.ownership.outside(*place);
            self.dirty
                .services
                .extend(users.map(|(_, key)| key.clone()));
        }
    }
}

fn addresses(node: &Node) -> impl Iterator<Item = IpAddr> + '_ {
    node.internal_ips.iter().chain(&node.external_ips).copied()
}
