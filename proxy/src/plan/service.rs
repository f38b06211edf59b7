//! The plan for one Service: a pure function of the Service, its endpoints, the owners of addresses, and the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferrolb_api::traffic::choices::Choices;
use ferrolb_api::traffic::{Selection, refusal};
use ferrolb_api::view::{Service, TrafficPolicy};
use ferrolb_api::{Family, ObjectKey};
use ipnet::IpNet;

use super::backends::{self, backends};
use super::fronts::Wish;
use super::ranges::merged;
use super::{
    Cause, Clients, Front, FrontKey, Masquerade, PortPlan, Reach, Served, ServicePlan, Standing,
    Targets,
};
use crate::state::State;

impl Reach {
    /// The policy that applies to it.
    pub fn policy(self, service: &Service) -> TrafficPolicy {
        match self {
            Self::ClusterIp => service.internal_policy,
            _ => service.external_policy,
        }
    }

    /// Whether this node and its pods reach all endpoints there, while clients from outside reach only those on this node.
    fn short_cuts(self, service: &Service) -> bool {
        self != Self::ClusterIp && service.external_policy == TrafficPolicy::Local
    }
}

/// Plans one Service. `holder` returns the Service that has a key which several want.
pub(super) fn plan<'h>(
    state: &State,
    service: &Service,
    wishes: &[Vec<Wish>],
    holder: impl Fn(&FrontKey) -> Option<(&'h ObjectKey, Reach)>,
) -> ServicePlan {
    let node = state.own_name();
    let zone = state.own_node().and_then(|n| n.zone.as_deref());
    let slices = state.endpoints().of(&service.key);
    let families: Vec<FamilyPlan<'_>> = Family::ALL
        .into_iter()
        .filter(|family| {
            let mut all = wishes.iter().flatten();
            all.any(|w| w.refused.is_none() && Family::of(w.key.0) == *family)
        })
        .map(|family| FamilyPlan {
            family,
            choices: Choices::new(slices.clone(), service, family, node, zone),
            sources: sources(service, family),
        })
        .collect();
    let mut out = ServicePlan {
        affinity: service.affinity_seconds,
        scheduler: match &service.annotations.scheduler {
            Some(Ok(scheduler)) => Some(*scheduler),
            _ => None,
        },
        ..ServicePlan::default()
    };
    let mut planner = Planner {
        state,
        service,
        families,
        sets: BTreeMap::new(),
        out: &mut out,
    };
    for (index, wanted) in wishes.iter().enumerate() {
        planner.port(index, wanted, &holder);
    }
    limit(&mut out, node);
    out
}

/// What the ports of a Service share in one family.
struct FamilyPlan<'a> {
    family: Family,
    choices: Choices<'a>,
    sources: Option<Arc<[IpNet]>>,
}

struct Planner<'a, 'o> {
    state: &'a State,
    service: &'a Service,
    families: Vec<FamilyPlan<'a>>,
    /// Sets of the plan by family and choice. A set that no served port uses is not created.
    sets: BTreeMap<(Family, usize), usize>,
    out: &'o mut ServicePlan,
}

impl Planner<'_, '_> {
    fn port<'h>(
        &mut self,
        index: usize,
        wanted: &[Wish],
        holder: &impl Fn(&FrontKey) -> Option<(&'h ObjectKey, Reach)>,
    ) {
        let Some(port) = self.service.ports.get(index) else {
            return;
        };
        if wanted.is_empty() {
            return;
        }
        let fronts: Vec<Front> = wanted
            .iter()
            .map(|wish| {
                let clash = || match holder(&wish.key) {
                    Some((other, reach)) if *other != self.service.key => Some(Cause::Clash {
                        holder: other.clone(),
                        reach,
                    }),
                    _ => None,
                };
                let standing = match wish.refused.clone().or_else(clash) {
                    Some(cause) => Standing::Refused(cause),
                    None => Standing::Served(self.served(index, wish)),
                };
                Front {
                    addr: wish.key.0,
                    port: wish.key.1,
                    reach: wish.reach,
                    policy: wish.reach.policy(self.service),
                    standing,
                }
            })
            .collect();
        let served = |family| {
            let mut served = fronts.iter().filter(|f| f.served().is_some());
            served.any(|f| Family::of(f.addr) == family)
        };
        let mut targets = Vec::new();
        for of_family in self.families.iter().filter(|f| served(f.family)) {
            let family = of_family.family;
            let Some(chosen) = of_family.choices.ports().get(index) else {
                continue;
            };
            let set = *self.sets.entry((family, chosen.choice)).or_insert_with(|| {
                let selection = of_family.choices.shared().get(chosen.choice);
                let made = selection.map(|s| backends(self.state, s));
                self.out.backends.push(made.unwrap_or_default());
                self.out.backends.len() - 1
            });
            targets.push(Targets {
                family,
                set,
                numbers: chosen.numbers.clone(),
            });
        }
        self.out.ports.push(PortPlan {
            name: port.name.clone(),
            port: port.port,
            protocol: port.protocol,
            fronts,
            targets,
        });
    }

    fn served(&self, index: usize, wish: &Wish) -> Served {
        let (service, reach) = (self.service, wish.reach);
        let family = Family::of(wish.key.0);
        let of_family = self.families.iter().find(|f| f.family == family);
        let nobody = Selection::default();
        let selection = of_family.and_then(|f| {
            let chosen = f.choices.ports().get(index)?;
            f.choices.shared().get(chosen.choice)
        });
        let clients = match refusal(selection.unwrap_or(&nobody), reach.policy(service)) {
            None => Clients::Served,
            Some(ferrolb_api::reason::Reason::NoLocalEndpoint) => Clients::Dropped,
            Some(_) => Clients::Rejected,
        };
        let masquerade = match reach {
            Reach::ClusterIp if self.state.proxy().masquerade_all => Masquerade::Everybody,
            Reach::ClusterIp => Masquerade::Outsiders,
            // Pods of other nodes use their own node's proxy, except for an address that this node alone has.
            _ if reach.short_cuts(service) && !wish.bind => Masquerade::NodeAndFar,
            _ if reach.short_cuts(service) => Masquerade::Node,
            _ => Masquerade::Everybody,
        };
        Served {
            bind: wish.bind,
            clients,
            inside_reaches_all: reach.short_cuts(service),
            masquerade,
            sources: of_family
                .filter(|_| reach == Reach::LoadBalancer)
                .and_then(|f| f.sources.clone()),
        }
    }
}

/// The source ranges of a family. Ranges of the other family do not affect it. No ranges of its own family means no limit, as in
/// kube-proxy.
fn sources(service: &Service, family: Family) -> Option<Arc<[IpNet]>> {
    let ranges = merged(service.source_ranges.iter().copied(), family);
    (!ranges.is_empty()).then(|| ranges.into())
}

/// Limits endpoints times fronts.
fn limit(plan: &mut ServicePlan, node: &str) {
    let mut fronts = vec![0_usize; plan.backends.len()];
    for port in &plan.ports {
        for targets in &port.targets {
            let served = port.fronts.iter().filter(|f| f.served().is_some());
            let of_family = served.filter(|f| Family::of(f.addr) == targets.family);
            if let Some(count) = fronts.get_mut(targets.set) {
                *count += of_family.count();
            }
        }
    }
    let all: usize = fronts
        .iter()
        .zip(&plan.backends)
        .map(|(n, b)| n * b.len())
        .sum();
    if all <= backends::MOST {
        return;
    }
    let each = (backends::MOST / fronts.iter().sum::<usize>().max(1)).max(1);
    let mut limited = false;
    for set in &mut plan.backends {
        limited |= backends::limit(set, each, node);
    }
    plan.limited_to = limited.then_some(each);
}
