//! Which addresses a load balancer leaves to their owners, and which of them a pool names all the same.
//!
//! Some owners use the address now, and nobody can use it beside them: a Service that has such an address loses it. All other
//! owners only keep newcomers away. A range may never use the address, and an endpoint or an external address is what any tenant may
//! write.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Owner, Ownership, Use};
use crate::ObjectKey;
use crate::crd::AddressRange;

impl Ownership {
    /// The owners that keep this address from being given to the Service. Load-balancer addresses of other Services are left to the
    /// allocator, which knows who may share them.
    pub fn bars(&self, addr: IpAddr, service: &ObjectKey) -> impl Iterator<Item = Owner> {
        self.owners(addr).filter(move |owner| match owner {
            Owner::LoadBalancer(_) => false,
            Owner::External(key) => key != service,
            _ => true,
        })
    }

    /// The owner that takes this address from any Service that has it.
    pub fn evicts(&self, addr: IpAddr) -> Option<Owner> {
        self.owners(addr).find(Owner::is_exclusive)
    }

    /// What a range of load-balancer addresses contains that no Service gets, each with its owner: single addresses, and the range
    /// itself if it overlaps another one.
    pub fn within(&self, range: &AddressRange) -> impl Iterator<Item = (String, Owner)> {
        let span = range.first..=range.last;
        let overlaps = |net: &IpNet| {
            let same_family = net.addr().is_ipv4() == range.first.is_ipv4();
            same_family && net.network() <= range.last && net.broadcast() >= range.first
        };
        let services = self.service_ranges.nets().into_iter();
        let pods = self.node_ranges.nets().into_iter();
        let pods = pods.chain(self.cluster_ranges.nets()).filter(overlaps);
        let ranges = services.filter(overlaps).map(Owner::ServiceRange);
        let ranges: Vec<Owner> = ranges.chain(pods.map(Owner::PodRange)).collect();

        let is_cluster_ip = |users: &BTreeSet<(Use, ObjectKey)>| {
            let mut users = users.iter();
            users.any(|(what, _)| *what == Use::ClusterIp)
        };
        let cluster_ips = self.services.range(span.clone());
        let cluster_ips = cluster_ips.filter(|(_, users)| is_cluster_ip(users));
        let edges = self.subnets.iter();
        let edges = edges.flat_map(|net| [net.network(), net.broadcast()]);
        let single: BTreeSet<IpAddr> = self
            .nodes
            .range(span.clone())
            .map(|(addr, _)| *addr)
            .chain(self.members.range(span.clone()).map(|(addr, _)| *addr))
            .chain(cluster_ips.map(|(addr, _)| *addr))
            .chain(self.hosts.range(span.clone()).map(|(addr, _)| *addr))
            .chain(self.found.range(span.clone()).map(|(addr, _)| *addr))
            .chain(self.api_servers.keys().map(|(addr, _)| *addr))
            .chain(self.gateways.iter().chain(&self.interfaces).copied())
            .chain(edges)
            .filter(|addr| span.contains(addr))
            .collect();
        let single = single
            .into_iter()
            .filter_map(|addr| Some((addr.to_string(), self.evicts(addr)?)));
        let ranges = ranges.into_iter().map(|o| (range.to_string(), o));
        ranges.chain(single)
    }
}

impl Owner {
    /// Whether the owner uses the address now, so that nobody can use it beside it.
    fn is_exclusive(&self) -> bool {
        match self {
            Self::Node(_)
            | Self::ApiServer
            | Self::ClusterIp(_)
            | Self::Gateway
            | Self::Interface
            | Self::Network(_)
            | Self::Broadcast(_)
            | Self::Host(_) => true,
            Self::ServiceRange(_)
            | Self::LoadBalancer(_)
            | Self::Pod
            | Self::PodRange(_)
            | Self::External(_) => false,
        }
    }
}
