//! What the search for an address looks at: who holds which address here, the pools, and who owns addresses beside this load
//! balancer.

use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_api::ownership::Owner;

use super::cluster::ClusterIps;
use super::index::Index;
use crate::pool::sharing::Terms;
use crate::state::State;

/// What every search looks at.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) index: &'a Index,
    pub(super) cluster: &'a ClusterIps,
    pub(super) state: &'a State,
}

impl Ground<'_> {
    /// The owner that keeps the address from a Service that asks for any. A Service that lists it as external address is no obstacle
    /// if the two may share it.
    pub(super) fn bars(&self, ip: IpAddr, key: &ObjectKey, terms: &Terms) -> Option<Owner> {
        let shares = |other: &ObjectKey| {
            let other = self.state.services().get(other);
            other.is_some_and(|s| terms.clash(&Terms::of(s)).is_none())
        };
        let mut owners = self.state.ownership().bars(ip, key);
        let owner = owners.find(|o| !matches!(o, Owner::External(other) if shares(other)));
        owner.or_else(|| self.cluster_ip(ip))
    }

    /// The owner that keeps the address from a Service that asks for this one. External addresses do not: any tenant may list one,
    /// and the pool is the administrator's.
    pub(super) fn refuses(&self, ip: IpAddr, key: &ObjectKey) -> Option<Owner> {
        let mut owners = self.state.ownership().bars(ip, key);
        let owner = owners.find(|o| !matches!(o, Owner::External(_)));
        owner.or_else(|| self.cluster_ip(ip))
    }

    /// The owner that takes the address from a Service that has it.
    pub(super) fn evicts(&self, ip: IpAddr) -> Option<Owner> {
        let owner = self.state.ownership().evicts(ip);
        owner.or_else(|| self.cluster_ip(ip))
    }

    fn cluster_ip(&self, ip: IpAddr) -> Option<Owner> {
        self.cluster.holder(ip).cloned().map(Owner::ClusterIp)
    }
}
