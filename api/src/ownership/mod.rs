//! Who owns an address? This is the only place that answers the question. Every component asks it before it uses an address: the
//! proxy before it takes an external address, an allocator before it assigns one, a speaker before it announces one.
//!
//! The module is pure. Objects and facts come in as values. Each change returns the places whose owners it may have changed, so
//! the work is proportional to the change. The caller decides which owners keep it from using an address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::ObjectKey;
use crate::view::{EndpointSlice, Node, Service};

mod balancing;
pub mod neighbour;
mod owner;
pub mod ranges;
#[cfg(test)]
mod tests;

use neighbour::LinkAddress;
pub use owner::{Owner, Place};
use ranges::Ranges;

/// The Service whose endpoints are the API servers.
const API_SERVICE: (&str, &str) = ("default", "kubernetes");

/// What a Service uses an address for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    ClusterIp,
    LoadBalancer,
    External,
}

/// Everything known about addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ownership {
    services: BTreeMap<IpAddr, BTreeSet<(Use, ObjectKey)>>,
    service_ranges: Ranges,
    /// By ServiceCIDR object, those of the ranges that it names.
    service_cidrs: BTreeMap<String, BTreeSet<IpNet>>,
    nodes: BTreeMap<IpAddr, BTreeSet<String>>,
    members: BTreeMap<IpAddr, String>,
    pods: BTreeMap<IpAddr, usize>,
    node_ranges: Ranges,
    cluster_ranges: Ranges,
    api_servers: BTreeMap<(IpAddr, u16), usize>,
    gateways: BTreeSet<IpAddr>,
    interfaces: BTreeSet<IpAddr>,
    /// Subnets of this machine.
    subnets: BTreeSet<IpNet>,
    hosts: BTreeMap<IpAddr, LinkAddress>,
    /// What nodes found out about single addresses.
    found: BTreeMap<IpAddr, Owner>,
    /// Addresses listed in any Service's `spec.externalIPs`.
    externals: BTreeSet<IpAddr>,
}

impl Ownership {
    /// Starts with only the addresses of the API servers and the ranges of ClusterIPs.
    pub fn new(api_servers: &[SocketAddr], service_ranges: &[IpNet]) -> Self {
        let mut new = Self::default();
        for server in api_servers {
            count(
                &mut new.api_servers,
                (server.ip().to_canonical(), server.port()),
            );
        }
        for net in service_ranges {
            new.service_ranges.add(*net);
        }
        new
    }

    /// The owners of an address, strongest first.
    pub fn owners(&self, addr: IpAddr) -> impl Iterator<Item = Owner> + '_ {
        let nodes = self.nodes.get(&addr).into_iter().flatten();
        let member = self.members.get(&addr);
        let member = member.filter(|name| nodes.clone().all(|node| node != *name));
        let api = self.api_ports(addr).next().map(|_| Owner::ApiServer);
        let range = self.service_ranges.containing(addr);
        let pod = self.pods.contains_key(&addr).then_some(Owner::Pod);
        let pod_range = self.node_ranges.containing(addr);
        let pod_range = pod_range.or_else(|| self.cluster_ranges.containing(addr));
        let gateway = self.gateways.contains(&addr).then_some(Owner::Gateway);
        let interface = self.interfaces.contains(&addr).then_some(Owner::Interface);
        let subnet = self.edge(addr);
        let host = self.hosts.get(&addr).cloned().map(Owner::Host);
        let found = self.found.get(&addr).cloned();
        let users = |what| self.users(addr, what).cloned();
        nodes
            .chain(member)
            .cloned()
            .map(Owner::Node)
            .chain(api)
            .chain(users(Use::ClusterIp).map(Owner::ClusterIp))
            .chain(range.map(Owner::ServiceRange))
            .chain(users(Use::LoadBalancer).map(Owner::LoadBalancer))
            .chain(pod)
            .chain(pod_range.map(Owner::PodRange))
            .chain(gateway)
            .chain(interface)
            .chain(subnet)
            .chain(host)
            .chain(found)
            .chain(users(Use::External).map(Owner::External))
    }

    /// Whether a Node other than `own` has the address.
    pub fn is_of_another_node(&self, addr: IpAddr, own: &str) -> bool {
        let names = self.nodes.get(&addr);
        names.is_some_and(|names| names.iter().any(|name| name != own))
    }

    /// Whether any Node has the address.
    pub fn is_of_a_node(&self, addr: IpAddr) -> bool {
        self.nodes.contains_key(&addr)
    }

    /// The ports on which API servers listen at an address.
    pub fn api_ports(&self, addr: IpAddr) -> impl Iterator<Item = u16> + '_ {
        let ports = self.api_servers.range((addr, 0)..=(addr, u16::MAX));
        ports.map(|((_, port), _)| *port)
    }

    /// The Services that list an address in `spec.externalIPs`.
    pub fn external(&self, addr: IpAddr) -> impl Iterator<Item = &ObjectKey> {
        self.users(addr, Use::External)
    }

    /// All addresses listed in `spec.externalIPs`.
    pub fn externals(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.externals.iter().copied()
    }

    /// Whether any Service lists an address in `spec.externalIPs`.
    pub fn names_external(&self) -> bool {
        !self.externals.is_empty()
    }

    /// The host that has an address, as last set with [`Ownership::set_host`].
    pub fn host(&self, addr: IpAddr) -> Option<&LinkAddress> {
        self.hosts.get(&addr)
    }

    /// All addresses within a place that are listed in `spec.externalIPs` or assigned by a load balancer, each with its Services.
    pub fn outside(&self, place: Place) -> impl Iterator<Item = (IpAddr, &ObjectKey)> {
        let (first, last) = match place {
            Place::Address(addr) => (addr, addr),
            Place::Range(net) => (net.network(), net.broadcast()),
        };
        let within = self.services.range(first..=last);
        within.flat_map(|(addr, users)| {
            let outside = users.iter().filter(|(what, _)| *what != Use::ClusterIp);
            outside.map(|(_, key)| (*addr, key))
        })
    }

    /// Records that a Service was added, changed or deleted. The result does not include external addresses: listing one there
    /// displaces no owner.
    pub fn set_service(&mut self, old: Option<&Service>, new: Option<&Service>) -> Vec<Place> {
        let Some(service) = old.or(new) else {
            return Vec::new();
        };
        self.set_uses(&service.key, &uses(old), &uses(new))
    }

    /// Records only the external addresses of a Service. For an allocator, which itself decides on all others.
    pub fn set_externals(&mut self, service: &ObjectKey, old: &[IpAddr], new: &[IpAddr]) {
        let uses = |all: &[IpAddr]| all.iter().map(|a| (*a, Use::External)).collect();
        self.set_uses(service, &uses(old), &uses(new));
    }

    fn set_uses(
        &mut self,
        service: &ObjectKey,
        before: &BTreeSet<(IpAddr, Use)>,
        after: &BTreeSet<(IpAddr, Use)>,
    ) -> Vec<Place> {
        for (addr, what) in before.difference(after) {
            if let Some(users) = self.services.get_mut(addr) {
                users.remove(&(*what, service.clone()));
                if users.is_empty() {
                    self.services.remove(addr);
                }
            }
            self.note_external(*addr);
        }
        for (addr, what) in after.difference(before) {
            let users = self.services.entry(*addr).or_default();
            users.insert((*what, service.clone()));
            self.note_external(*addr);
        }
        let changed = before.symmetric_difference(after);
        changed.filter_map(|(a, what)| heeded(*a, *what)).collect()
    }

    /// Records that a Node was added, changed or deleted.
    pub fn set_node(&mut self, old: Option<&Node>, new: Option<&Node>) -> Vec<Place> {
        let mut places = Vec::new();
        let (before, after) = (addresses(old), addresses(new));
        if let Some(name) = old.or(new).map(|node| node.name.clone()) {
            for addr in before.difference(&after) {
                if let Some(names) = self.nodes.get_mut(addr) {
                    names.remove(&name);
                    if names.is_empty() {
                        self.nodes.remove(addr);
                    }
                }
                places.push(Place::Address(*addr));
            }
            for addr in after.difference(&before) {
                self.nodes.entry(*addr).or_default().insert(name.clone());
                places.push(Place::Address(*addr));
            }
        }
        let ranges = |node: Option<&Node>| -> BTreeSet<IpNet> {
            let cidrs = node.into_iter().flat_map(|n| &n.pod_cidrs);
            cidrs.copied().collect()
        };
        let (before, after) = (ranges(old), ranges(new));
        for net in before.difference(&after) {
            self.node_ranges.remove(*net);
        }
        for net in after.difference(&before) {
            self.node_ranges.add(*net);
        }
        places.extend(
            before
                .symmetric_difference(&after)
                .copied()
                .map(Place::Range),
        );
        places
    }

    /// Records that an EndpointSlice was added, changed or deleted. Endpoints that name a node are pods; those of the Service
    /// `default/kubernetes` are API servers. All other endpoints are hosts outside of the cluster and are ignored.
    pub fn set_slice(
        &mut self,
        old: Option<&EndpointSlice>,
        new: Option<&EndpointSlice>,
    ) -> Vec<Place> {
        let (before, after) = (pods(old), pods(new));
        let mut changed: BTreeSet<IpAddr> = BTreeSet::new();
        for addr in before.difference(&after) {
            if uncount(&mut self.pods, addr) {
                changed.insert(*addr);
            }
        }
        for addr in after.difference(&before) {
            if count(&mut self.pods, *addr) {
                changed.insert(*addr);
            }
        }
        let (before, after) = (api_servers(old), api_servers(new));
        for server in before.difference(&after) {
            if uncount(&mut self.api_servers, server) {
                changed.insert(server.0);
            }
        }
        for server in after.difference(&before) {
            if count(&mut self.api_servers, *server) {
                changed.insert(server.0);
            }
        }
        changed.into_iter().map(Place::Address).collect()
    }

    /// Sets the ranges of all pods, if they are configured.
    pub fn set_cluster_ranges(&mut self, nets: &[IpNet]) -> Vec<Place> {
        let mut new = Ranges::default();
        nets.iter().for_each(|net| new.add(*net));
        let old = std::mem::replace(&mut self.cluster_ranges, new);
        let (before, after) = (old.nets(), self.cluster_ranges.nets());
        before
            .symmetric_difference(&after)
            .copied()
            .map(Place::Range)
            .collect()
    }

    /// Records that a ServiceCIDR was added, changed or deleted.
    pub fn set_service_cidr(&mut self, name: &str, nets: Option<&[IpNet]>) -> Vec<Place> {
        let after: BTreeSet<IpNet> = nets.into_iter().flatten().map(IpNet::trunc).collect();
        let before = match after.is_empty() {
            true => self.service_cidrs.remove(name),
            false => self.service_cidrs.insert(name.to_owned(), after.clone()),
        };
        let before = before.unwrap_or_default();
        for net in before.difference(&after) {
            self.service_ranges.remove(*net);
        }
        for net in after.difference(&before) {
            self.service_ranges.add(*net);
        }
        let moved = before.symmetric_difference(&after);
        moved.copied().map(Place::Range).collect()
    }

    /// The ranges of ClusterIPs.
    pub fn service_ranges(&self) -> BTreeSet<IpNet> {
        self.service_ranges.nets()
    }

    /// Sets the gateways in this machine's routes.
    pub fn set_gateways(&mut self, gateways: BTreeSet<IpAddr>) -> Vec<Place> {
        replace(&mut self.gateways, gateways)
    }

    /// Sets the addresses on this machine's interfaces.
    pub fn set_interfaces(&mut self, addresses: BTreeSet<IpAddr>) -> Vec<Place> {
        replace(&mut self.interfaces, addresses)
    }

    /// The addresses on this machine's interfaces.
    pub fn interfaces(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.interfaces.iter().copied()
    }

    /// Whether any Service has the address, as ClusterIP, load-balancer address or external address.
    pub fn is_of_a_service(&self, addr: IpAddr) -> bool {
        self.services.contains_key(&addr)
    }

    /// Sets the subnets of this machine. A prefix that leaves no room for a network address (RFC 3021) has none.
    pub fn set_subnets(&mut self, subnets: BTreeSet<IpNet>) -> Vec<Place> {
        let old = std::mem::replace(&mut self.subnets, subnets);
        let changed = old.symmetric_difference(&self.subnets);
        changed.copied().map(Place::Range).collect()
    }

    /// Sets the addresses at which the members listen. They are nodes, with or without a Node object.
    pub fn set_members(&mut self, members: BTreeMap<IpAddr, String>) -> Vec<Place> {
        let old = std::mem::replace(&mut self.members, members);
        let (old, new) = (&old, &self.members);
        let both: BTreeSet<&IpAddr> = old.keys().chain(new.keys()).collect();
        let changed = both.into_iter().filter(|a| old.get(*a) != new.get(*a));
        changed.copied().map(Place::Address).collect()
    }

    /// Records that a host has this address, or that none does.
    pub fn set_host(&mut self, addr: IpAddr, host: Option<LinkAddress>) -> Vec<Place> {
        let old = match host.clone() {
            Some(link) => self.hosts.insert(addr, link),
            None => self.hosts.remove(&addr),
        };
        let changed = old != host;
        changed
            .then_some(Place::Address(addr))
            .into_iter()
            .collect()
    }

    /// Records what a node found out about this address, or that it is nobody's.
    pub fn set_found(&mut self, addr: IpAddr, owner: Option<Owner>) -> Vec<Place> {
        let old = match owner.clone() {
            Some(owner) => self.found.insert(addr, owner),
            None => self.found.remove(&addr),
        };
        let changed = old != owner;
        changed
            .then_some(Place::Address(addr))
            .into_iter()
            .collect()
    }

    /// The subnet of this machine that has the address at one of its ends.
    fn edge(&self, addr: IpAddr) -> Option<Owner> {
        let roomy = |net: &&IpNet| net.prefix_len() + 1 < net.max_prefix_len();
        self.subnets.iter().filter(roomy).find_map(|net| match net {
            _ if addr == net.network() => Some(Owner::Network(net.trunc())),
            IpNet::V4(v4) if addr == v4.broadcast() => Some(Owner::Broadcast(net.trunc())),
            _ => None,
        })
    }

    fn note_external(&mut self, addr: IpAddr) {
        if self.external(addr).next().is_some() {
            self.externals.insert(addr);
        } else {
            self.externals.remove(&addr);
        }
    }

    fn users(&self, addr: IpAddr, what: Use) -> impl Iterator<Item = &ObjectKey> {
        let users = self.services.get(&addr).into_iter().flatten();
        users.filter(move |(w, _)| *w == what).map(|(_, key)| key)
    }
}

fn heeded(addr: IpAddr, what: Use) -> Option<Place> {
    (what != Use::External).then_some(Place::Address(addr))
}

fn uses(service: Option<&Service>) -> BTreeSet<(IpAddr, Use)> {
    let Some(service) = service else {
        return BTreeSet::new();
    };
    let vips = service.vips().filter(|_| service.is_load_balancer());
    let of = |addresses: &[IpAddr], what| {
        let all: Vec<_> = addresses.iter().map(|a| (*a, what)).collect();
        all
    };
    of(&service.cluster_ips, Use::ClusterIp)
        .into_iter()
        .chain(vips.map(|a| (a, Use::LoadBalancer)))
        .chain(of(&service.external_ips, Use::External))
        .collect()
}

fn addresses(node: Option<&Node>) -> BTreeSet<IpAddr> {
    let both = node
        .into_iter()
        .flat_map(|n| n.internal_ips.iter().chain(&n.external_ips));
    both.copied().collect()
}

fn is_api(slice: &EndpointSlice) -> bool {
    (slice.key.namespace.as_str(), slice.service.as_str()) == API_SERVICE
}

fn pods(slice: Option<&EndpointSlice>) -> BTreeSet<IpAddr> {
    let endpoints = slice.into_iter().filter(|s| !is_api(s));
    let endpoints = endpoints.flat_map(|s| &s.endpoints);
    let pods = endpoints.filter(|e| e.node.is_some());
    pods.map(|e| e.address).collect()
}

fn api_servers(slice: Option<&EndpointSlice>) -> BTreeSet<(IpAddr, u16)> {
    let slices = slice.into_iter().filter(|s| is_api(s));
    slices
        .flat_map(|s| {
            let all = s.endpoints.iter();
            all.flat_map(|e| s.ports.iter().map(|p| (e.address, p.port)))
        })
        .collect()
}

/// Adds one to the count; returns whether it was the first.
fn count<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) -> bool {
    let n = counts.entry(key).or_default();
    *n += 1;
    *n == 1
}

/// Subtracts one from the count; returns whether it was the last.
fn uncount<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) -> bool {
    match counts.get_mut(key) {
        Some(n) if *n > 1 => {
            *n -= 1;
            false
        }
        Some(_) => counts.remove(key).is_some(),
        None => false,
    }
}

fn replace(set: &mut BTreeSet<IpAddr>, new: BTreeSet<IpAddr>) -> Vec<Place> {
    let old = std::mem::replace(set, new);
    let changed = old.symmetric_difference(set);
    changed.copied().map(Place::Address).collect()
}
