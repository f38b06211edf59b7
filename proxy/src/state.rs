//! What the proxy knows: Services, endpoints, Nodes and the KubeProxyConfiguration, and which Services a change concerns.
//!
//! It decides nothing and holds no client and no socket. Services arrive with their assigned addresses already in them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Change;
use ferrolb_api::endpoints::EndpointIndex;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::proxy_config::ProxyConfig;
use ferrolb_api::view::{Node, Service};

use crate::config::Config;

#[cfg(test)]
mod tests;

/// What has to be decided anew.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dirty {
    /// These Services.
    pub services: BTreeSet<ObjectKey>,
    /// What belongs to no Service: the ranges of Services and pods.
    pub globals: bool,
}

impl Dirty {
    /// Nothing has to be decided.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && !self.globals
    }
}

/// Everything known.
#[derive(Debug, Clone)]
pub struct State {
    services: BTreeMap<ObjectKey, Arc<Service>>,
    endpoints: EndpointIndex,
    nodes: BTreeMap<String, Node>,
    proxy: ProxyConfig,
    own: String,
    own_addresses: BTreeSet<IpAddr>,
    dirty: Dirty,
}

impl State {
    /// Nothing known yet; the ranges are dirty.
    pub fn new(config: &Config) -> Self {
        Self {
            services: BTreeMap::new(),
            endpoints: EndpointIndex::default(),
            nodes: BTreeMap::new(),
            proxy: config.proxy.clone(),
            own: config.node.clone(),
            own_addresses: config.node_addresses.iter().copied().collect(),
            dirty: Dirty {
                globals: true,
                ..Dirty::default()
            },
        }
    }

    /// Takes a change; what it concerns becomes dirty. An object equal to the known one concerns nothing.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Upsert(Object::Service(service)) => {
                if self.services.get(&service.key) != Some(&service) {
                    self.dirty.services.insert(service.key.clone());
                    self.services.insert(service.key.clone(), service);
                }
            }
            Change::Upsert(Object::EndpointSlice(slice)) => {
                let owner = slice.service_key();
                if !self.endpoints.of(&owner).any(|known| *known == *slice) {
                    let touched = self.endpoints.upsert(slice);
                    self.dirty.services.extend(touched);
                }
            }
            Change::Upsert(Object::Node(node)) => self.set_node(node),
            Change::Upsert(Object::ProxyConfig(proxy)) => self.set_proxy(*proxy),
            Change::Remove(Kind::Service, key) => {
                if self.services.remove(&key).is_some() {
                    self.dirty.services.insert(key);
                }
            }
            Change::Remove(Kind::EndpointSlice, key) => {
                self.dirty.services.extend(self.endpoints.remove(&key));
            }
            Change::Remove(Kind::Node, key) => {
                if let Some(old) = self.nodes.remove(&key.name) {
                    self.node_changed(Some(&old), None);
                }
            }
            // A KubeProxyConfiguration that goes away leaves its settings: going back to defaults would move live traffic.
            Change::Remove(_, _) | Change::Upsert(_) => {}
        }
    }

    /// What has become dirty since the last call.
    pub fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
    }

    /// Every Service and the ranges: what a full pass decides.
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
        self.nodes.get(&self.own)
    }

    /// All Nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// Addresses of this node.
    pub fn own_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let object = self.own_node().into_iter().flat_map(addresses);
        self.own_addresses
            .iter()
            .copied()
            .chain(object.filter(|a| !self.own_addresses.contains(a)))
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
        !self.is_own_address(addr)
            && self
                .nodes
                .values()
                .any(|n| n.name != self.own && addresses(n).any(|a| a == addr))
    }

    fn set_node(&mut self, node: Node) {
        let new = node.clone();
        let old = self.nodes.insert(node.name.clone(), node);
        self.node_changed(old.as_ref(), Some(&new));
    }

    fn node_changed(&mut self, old: Option<&Node>, new: Option<&Node>) {
        let cidrs = |n: Option<&Node>| n.map(|n| n.pod_cidrs.clone()).unwrap_or_default();
        if cidrs(old) != cidrs(new) {
            self.dirty.globals = true;
        }
        let (before, after) = (address_set(old), address_set(new));
        let own = [old, new].into_iter().flatten().any(|n| n.name == self.own);
        let zone = |n: Option<&Node>| n.and_then(|n| n.zone.clone());
        if own && (before != after || zone(old) != zone(new)) {
            self.dirty.services.extend(self.services.keys().cloned());
        } else if before != after {
            let moved: BTreeSet<IpAddr> = before.symmetric_difference(&after).copied().collect();
            let concerned = self.services.values().filter(|s| {
                s.external_ips.iter().any(|a| moved.contains(a))
                    || s.vips().any(|a| moved.contains(&a))
            });
            self.dirty.services.extend(concerned.map(|s| s.key.clone()));
        }
    }

    fn set_proxy(&mut self, proxy: ProxyConfig) {
        if proxy != self.proxy {
            self.proxy = proxy;
            self.dirty = self.everything();
        }
    }
}

fn addresses(node: &Node) -> impl Iterator<Item = IpAddr> + '_ {
    node.internal_ips.iter().chain(&node.external_ips).copied()
}

fn address_set(node: Option<&Node>) -> BTreeSet<IpAddr> {
    node.into_iter().flat_map(addresses).collect()
}
