//! Which external addresses a node may take. Any tenant can write any address into `spec.externalIPs`, so every other owner of
//! the address has precedence:
//!
//! - An address of another node is served there and not here.
//! - An address of this node stays where it is. A port of it is taken only if neither the host nor an API server listens there.
//! - These are never taken: an address of an API server or a pod, or one in a range of pods; a ClusterIP or an address in their
//!   range; a load-balancer address of another Service; a gateway; and a host that is seen on the network and is not a member.

use std::net::{IpAddr, SocketAddr};

use ferrolb_api::ObjectKey;
use ferrolb_api::ownership::Owner;
use ferrolb_api::view::Protocol;

use super::Cause;
use crate::config::ExternalIps;
use crate::state::State;

/// The decision on an external address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is served here and must be made local.
    Bind,
    /// It is this node's own. It stays where it is and is served on free ports.
    Own,
    /// Another node owns it and serves it.
    Elsewhere,
    /// Nobody serves it.
    Refused(Cause),
}

/// Decides on an address that a Service names in `spec.externalIPs`.
pub(super) fn admit(state: &State, service: &ObjectKey, addr: IpAddr) -> Admission {
    if state.external_ips() == ExternalIps::Off {
        return Admission::Refused(Cause::Off);
    }
    let own = state.is_own_address(addr);
    if !own && state.is_foreign_address(addr) {
        return Admission::Elsewhere;
    }
    if state.external_ips() == ExternalIps::Pools && !state.is_in_a_pool(addr) {
        return Admission::Refused(Cause::OutsidePools);
    }
    if own {
        return Admission::Own;
    }
    let concerns = |owner: &Owner| match owner {
        Owner::LoadBalancer(key) => key != service,
        // Several Services may share an external address, each with ports of its own.
        Owner::External(_) => false,
        _ => true,
    };
    match state.ownership().owners(addr).find(concerns) {
        Some(Owner::Interface) => Admission::Own,
        Some(owner) => Admission::Refused(Cause::Owned(owner)),
        None if state.is_checked(addr) => Admission::Bind,
        None => Admission::Refused(Cause::Unchecked),
    }
}

/// Why a port on an address of this node cannot be taken.
pub(super) fn own_port(
    state: &State,
    addr: IpAddr,
    port: u16,
    protocol: Protocol,
) -> Option<Cause> {
    let mut api = state.ownership().api_ports(addr);
    if protocol == Protocol::Tcp && api.any(|p| p == port) {
        return Some(Cause::Owned(Owner::ApiServer));
    }
    match state.listeners() {
        None => Some(Cause::Unchecked),
        Some(listeners) => listeners
            .has(SocketAddr::new(addr, port), protocol)
            .then_some(Cause::Listener),
    }
}
