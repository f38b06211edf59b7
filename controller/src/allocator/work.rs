//! One Service while it is being decided: what it has, what it requests, and how the two compare.

use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::ownership::Owner;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::Service;
use ferrolb_api::view::service::Balancer;

use super::ground::Ground;
use super::place::{Seeker, satisfied};
use super::request::{Request, Source};
use crate::assignment::Assignment;
use crate::desired::Outcome;
use crate::pool::Pools;
use crate::pool::sharing::Terms;
use crate::state::State;

/// A Service being decided.
pub(super) struct Work {
    pub(super) service: Arc<Service>,
    pub(super) terms: Arc<Terms>,
    pub(super) old: Assignment,
    pub(super) cluster_ips: Vec<IpAddr>,
    pub(super) cluster_problem: Option<Outcome>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) pool: Option<String>,
    /// Another Service that has one of its addresses, and why the two may not share it.
    pub(super) clash: Option<(Reason, ObjectKey)>,
    /// One of its addresses that belongs to somebody else now.
    pub(super) evicted: Option<(IpAddr, Owner)>,
    pub(super) stand: Stand,
}

/// The state of a Service's load-balancer addresses.
pub(super) enum Stand {
    /// It gets none, for this reason.
    None(Outcome),
    /// It has what it should have.
    Good,
    /// It needs addresses. If it has found none so far, the reason.
    Seeking(Request, Option<Outcome>),
    /// It keeps its current addresses (possibly none) until its request or the pools change.
    Refused(Outcome),
}

impl Work {
    pub(super) fn new(service: Arc<Service>, old: Assignment) -> Self {
        Self {
            terms: Arc::new(Terms::of(&service)),
            service,
            old,
            cluster_ips: Vec::new(),
            cluster_problem: None,
            addresses: Vec::new(),
            pool: None,
            clash: None,
            evicted: None,
            stand: Stand::Good,
        }
    }

    /// The seeker for this Service, if it needs an address.
    pub(super) fn seeker<'a>(&'a self, key: &'a ObjectKey) -> Option<Seeker<'a>> {
        let Stand::Seeking(request, _) = &self.stand else {
            return None;
        };
        Some(Seeker {
            key,
            service: &self.service,
            terms: &self.terms,
            request,
            old: &self.addresses,
        })
    }

    /// Records why it has found none.
    pub(super) fn still_seeks(&mut self, outcome: Option<Outcome>) {
        if let Stand::Seeking(_, why) = &mut self.stand {
            *why = outcome;
        }
    }

    fn balancer(&self, state: &State) -> Balancer {
        self.service.balancer(state.settings().class.as_deref())
    }

    /// Whether it is a load balancer of another class.
    pub(super) fn is_anothers(&self, state: &State) -> bool {
        self.balancer(state) == Balancer::Other
    }

    /// Why a Service of this type or class gets no load-balancer address at all.
    pub(super) fn refusal_of_type(&self, state: &State) -> Option<Outcome> {
        match self.balancer(state) {
            Balancer::Ours => None,
            Balancer::None => Some(Outcome::new(
                Reason::NotLoadBalancer,
                "",
                "is no load balancer: it gets no external address",
            )),
            Balancer::Other => {
                let class = self.service.load_balancer_class.as_deref();
                Some(Outcome::new(
                    Reason::OtherClass,
                    "spec.loadBalancerClass",
                    match class {
                        Some(c) => format!("is left to the load balancer of class {c}"),
                        None => {
                            "has no load balancer class: it is left to the default load balancer"
                                .to_owned()
                        }
                    },
                ))
            }
        }
    }

    /// Compares what the Service has with what it requests.
    pub(super) fn judge(&mut self, ground: Ground<'_>) {
        let state = ground.state;
        if let Some(refusal) = self.refusal_of_type(state) {
            self.stand = Stand::None(refusal);
            return;
        }
        let pools = state.pools();
        let evicted = |ip: &IpAddr| {
            pools.containing(*ip)?;
            Some((*ip, ground.evicts(*ip)?))
        };
        self.evicted = self.addresses.iter().find_map(evicted);
        let good = self.evicted.is_none();
        self.stand = match Request::of(&self.service, &self.cluster_ips) {
            Err(refusal) => Stand::Refused(refusal),
            Ok(request) if self.pool_is_refused(&request, pools) => {
                let pool = self.pool.as_deref().unwrap_or_default();
                Stand::Refused(Outcome::new(
                    Reason::OutsidePools,
                    "",
                    format!("its pool {pool} is refused: correct the pool"),
                ))
            }
            Ok(request)
                if good
                    && satisfied(
                        &request,
                        &self.service,
                        &self.addresses,
                        pools,
                        state.namespaces(),
                    ) =>
            {
                self.pool = self
                    .addresses
                    .first()
                    .and_then(|ip| pools.containing(*ip))
                    .map(|p| p.key.name.clone());
                match &self.clash {
                    None => Stand::Good,
                    Some((reason, holder)) => Stand::Refused(Outcome::new(
                        *reason,
                        "",
                        format!(
                            "it has an address that Service {holder} has too, and they may not share it: change or delete one of them"
                        ),
                    )),
                }
            }
            Ok(request) => match self.left_alone(&request, state) {
                Some(outcome) => Stand::Refused(outcome),
                None => Stand::Seeking(request, None),
            },
        };
    }

    /// Whether its addresses came from a pool that is now refused, and it requests nothing else.
    fn pool_is_refused(&self, request: &Request, pools: &Pools) -> bool {
        let Some(name) = self.pool.as_deref() else {
            return false;
        };
        let other = match &request.source {
            Source::Addresses(asked, _) => {
                asked.len() != self.addresses.len()
                    || !asked.iter().all(|ip| self.addresses.contains(ip))
            }
            Source::Pool(asked) => asked != name,
            Source::Any => false,
        };
        let mut addresses = self.addresses.iter();
        !other && !self.addresses.is_empty() && addresses.all(|ip| pools.refused(name, *ip))
    }

    /// Leaves an address outside all pools alone while there is no pool, or a pool is invalid: the address may come from a pool
    /// that an administrator is just correcting.
    fn left_alone(&self, request: &Request, state: &State) -> Option<Outcome> {
        let pools = state.pools();
        let outside = self
            .addresses
            .iter()
            .any(|ip| pools.containing(*ip).is_none());
        if !outside || matches!(request.source, Source::Addresses(..)) {
            return None;
        }
        if pools.is_empty() {
            return Some(Outcome::new(
                Reason::NoPool,
                "",
                format!(
                    "{}, because nodes announce addresses of pools only",
                    state.no_pool()
                ),
            ));
        }
        state.has_doubtful_pools().then(|| {
            Outcome::new(
                Reason::OutsidePools,
                "",
                "its address is in no pool, so that nodes do not announce it, and a pool is refused or cannot be read: correct the pool",
            )
        })
    }
}
