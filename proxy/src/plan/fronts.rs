//! On which addresses a Service wants to be served, and which of them it may have if no other Service wants them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ferrolb_api::Family;
use ferrolb_api::view::{Service, ServicePort};

use super::admission::{self, Admission};
use super::{Cause, FrontKey, Reach};
use crate::state::State;

/// More addresses times ports than any user needs. Anything beyond is refused.
pub(super) const MOST: usize = 10_000;

/// A front that a Service wants.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) key: FrontKey,
    pub(super) reach: Reach,
    /// The address must be made local on this node.
    pub(super) bind: bool,
    /// Why it cannot be had, independent of other Services.
    pub(super) refused: Option<Cause>,
}

/// What a Service wants for each of its ports, the strongest kind first. No key appears twice among the wishes that are not
/// refused: the first port has it.
pub(super) fn wishes(state: &State, service: &Service) -> Vec<Vec<Wish>> {
    if !service.is_proxied() {
        return Vec::new();
    }
    let externals: Vec<(IpAddr, Admission)> = service
        .external_ips
        .iter()
        .map(|addr| (*addr, admission::admit(state, &service.key, *addr)))
        .collect();
    let mut wanted = Wanted {
        state,
        seen: BTreeSet::new(),
        count: 0,
    };
    let ports = service.ports.iter();
    ports
        .map(|port| wanted.port(service, port, &externals))
        .collect()
}

struct Wanted<'a> {
    state: &'a State,
    seen: BTreeSet<FrontKey>,
    count: usize,
}

impl Wanted<'_> {
    fn port(
        &mut self,
        service: &Service,
        port: &ServicePort,
        externals: &[(IpAddr, Admission)],
    ) -> Vec<Wish> {
        let mut out = Vec::new();
        if port.port == 0 {
            return out;
        }
        for addr in &service.cluster_ips {
            self.add(&mut out, port, (*addr, port.port), Reach::ClusterIp, None);
        }
        if service.is_load_balancer() {
            for addr in service.vips() {
                // The node that owns the address serves it. Serving it here would cut that node off.
                if !self.state.is_foreign_address(addr) {
                    self.add(&mut out, port, (addr, port.port), Reach::LoadBalancer, None);
                }
            }
        }
        let on_nodes = service.has_node_ports();
        if let Some(number) = port.node_port.filter(|n| on_nodes && *n != 0) {
            let state = self.state;
            let served = state.node_port_addresses();
            for addr in served.filter(|a| service.has_family(Family::of(*a))) {
                self.add(&mut out, port, (addr, number), Reach::NodePort, None);
            }
        }
        for (addr, admission) in externals {
            let at = (*addr, port.port);
            match admission {
                Admission::Elsewhere => {}
                Admission::Bind => self.add(&mut out, port, at, Reach::External, None),
                Admission::Refused(cause) => {
                    self.add(&mut out, port, at, Reach::External, Some(cause.clone()));
                }
                Admission::Own => {
                    let cause = admission::own_port(self.state, *addr, port.port, port.protocol);
                    self.add(&mut out, port, at, Reach::External, cause);
                }
            }
        }
        out
    }

    fn add(
        &mut self,
        out: &mut Vec<Wish>,
        port: &ServicePort,
        (addr, number): (IpAddr, u16),
        reach: Reach,
        mut refused: Option<Cause>,
    ) {
        let key = (addr, number, port.protocol);
        if addr.is_unspecified() || addr.is_loopback() || addr.is_multicast() {
            return;
        }
        if self.seen.contains(&key) {
            return;
        }
        self.count += 1;
        if self.count > MOST {
            // One more shows that there were too many.
            if self.count > MOST + 1 {
                return;
            }
            refused = Some(Cause::TooMany);
        }
        if refused.is_none() {
            self.seen.insert(key);
        }
        let own = self.state.is_own_address(addr)
            || (reach == Reach::External && self.state.is_interface_address(addr));
        out.push(Wish {
            key,
            reach,
            bind: reach != Reach::NodePort && !own,
            refused,
        });
    }
}
