//! The allocator: decides Services incrementally, one batch of changes at a time, using an index of the holders of addresses.
//!
//! A batch runs in the same order as a full pass, but only for the affected Services and for those that could not be served
//! before:
//!
//! 1. Free the addresses of deleted Services.
//! 2. Assign ClusterIPs.
//! 3. Adopt existing assignments, Services with unchanged terms first: if a Service changes its ports so that it clashes with
//!    another, the changed one has to move.
//! 4. Place the Services that lack something, or whose request or pools changed: requested addresses first, then requested
//!    pools, then the rest, each ordered by key. Repeat while this frees something. A Service whose request cannot be met keeps
//!    what it has.
//!
//! No search walks a pool, and unchanged Services are not visited. A change of pools triggers a full pass.

mod cluster;
mod ground;
mod index;
mod place;
mod request;
mod seek;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cluster::ClusterIps;
use ferrolb_api::ObjectKey;
use ferrolb_api::ownership::Place;
use ferrolb_api::reason::Reason;
use ground::Ground;
use index::Index;
use ipnet::IpNet;
use place::keeps;
use request::{Source, list};
use work::{Stand, Work};

use crate::assignment::{Assignment, Assignments};
use crate::desired::{Desired, Outcome};
use crate::state::{Dirty, State};

/// Assignments, with the index that makes incremental decisions cheap.
#[derive(Debug)]
pub struct Allocator {
    assignments: Assignments,
    outcomes: BTreeMap<ObjectKey, Outcome>,
    index: Index,
    cluster: ClusterIps,
    /// The index does not contain the assignments yet.
    fresh: bool,
    /// Unserved Services that are retried in every batch: they request addresses by name, or lack a ClusterIP.
    retry: BTreeSet<ObjectKey>,
    /// Unserved Services that would accept any address; retried when one is freed.
    retry_when_freed: BTreeSet<ObjectKey>,
    /// An address was freed since the last pass.
    freed: bool,
}

impl Allocator {
    /// Starts from these assignments. The first [`Allocator::decide`] is a full pass.
    pub fn new(existing: Assignments) -> Self {
        Self {
            assignments: existing,
            outcomes: BTreeMap::new(),
            index: Index::default(),
            cluster: ClusterIps::default(),
            fresh: true,
            retry: BTreeSet::new(),
            retry_when_freed: BTreeSet::new(),
            freed: false,
        }
    }

    /// Continues from these assignments, on which the members agreed. If they differ from the allocator's own, the next
    /// [`Allocator::decide`] is a full pass.
    pub fn rebase(&mut self, agreed: &Assignments) {
        if *agreed != self.assignments {
            self.assignments.clone_from(agreed);
            self.fresh = true;
        }
    }

    /// Takes over what somebody else decided for a Service: who follows an API learns from it what was given. Decide that
    /// Service next, and those that this returns: they hold one of its addresses too.
    pub fn observe(&mut self, key: &ObjectKey, given: Option<Assignment>) -> Vec<ObjectKey> {
        let none = Assignment::default();
        let old = self.assignments.get(key).unwrap_or(&none);
        let new = given.as_ref().unwrap_or(&none);
        if old.addresses != new.addresses {
            self.freed |= !old.addresses.is_empty();
        }
        let others = self.index.others(&new.addresses, key);
        // What it holds in the indexes goes with the old assignment, since the next pass does not know of that one any more.
        self.index.remove(&old.addresses, key);
        self.cluster.remove(&old.cluster_ips, key);
        match given {
            Some(given) => self.assignments.insert(key.clone(), given),
            None => self.assignments.remove(key),
        };
        others
    }

    /// Who has what.
    pub fn assignments(&self) -> &Assignments {
        &self.assignments
    }

    /// The outcome for every Service.
    pub fn outcomes(&self) -> &BTreeMap<ObjectKey, Outcome> {
        &self.outcomes
    }

    /// Assignments and outcomes, with the problems.
    pub fn desired(&self, state: &State) -> Desired {
        let of_services = self.outcomes.iter().filter_map(|(k, o)| o.problem(k));
        Desired {
            assignments: self.assignments.clone(),
            outcomes: self.outcomes.clone(),
            problems: state
                .problems()
                .iter()
                .cloned()
                .chain(of_services)
                .collect(),
        }
    }

    /// Decides everything that is dirty. Returns the Services whose assignment or outcome changed.
    pub fn decide(&mut self, state: &State, dirty: &Dirty) -> BTreeSet<ObjectKey> {
        let moving = dirty.services.union(&self.retry);
        // The ClusterIP in a pool that one of these leaves concerns any Service.
        let all = dirty.all || self.fresh || moving.clone().any(|key| self.crosses(key, state));
        let scope: BTreeSet<ObjectKey> = if all {
            self.index = Index::default();
            self.cluster = ClusterIps::default();
            let known = state.services().keys();
            known
                .chain(self.assignments.keys())
                .chain(self.outcomes.keys())
                .cloned()
                .collect()
        } else if dirty.is_empty() && !self.freed {
            return BTreeSet::new();
        } else {
            moving.cloned().collect()
        };
        self.fresh = false;

        let mut changed = BTreeSet::new();
        let (mut work, mut freed) = self.open(state, scope, all, &mut changed);
        let balanced = self.cluster_ips(state, &mut work);
        freed |= self.adopt(state, &mut work) | std::mem::take(&mut self.freed) | dirty.waiting;
        let may_free = work
            .values()
            .any(|w| matches!(w.stand, Stand::Seeking(..)) && !w.addresses.is_empty());
        if freed || may_free {
            self.reopen_waiting(state, &mut work);
        }
        self.place_all(state, &mut work);
        let left = |w: &Work| {
            let owned = w
                .cluster_problem
                .as_ref()
                .is_some_and(|o| o.reason == Reason::AddressOwned);
            let mut had = w
                .service
                .cluster_ips
                .iter()
                .filter(|ip| balanced.contains(ip));
            owned && had.any(|ip| !self.index.holds(*ip))
        };
        let again = work.values().any(left);
        for (key, w) in work {
            if self.close(&key, w) {
                changed.insert(key);
            }
        }
        if again {
            let waiting = true;
            changed.extend(self.decide(
                state,
                &Dirty {
                    waiting,
                    ..Dirty::default()
                },
            ));
        }
        changed
    }

    /// Whether the Service has a ClusterIP in a pool.
    fn crosses(&self, key: &ObjectKey, state: &State) -> bool {
        let given = self.assignments.get(key);
        let mut cluster_ips = given.into_iter().flat_map(|a| &a.cluster_ips);
        cluster_ips.any(|ip| state.pools().containing(*ip).is_some())
    }

    fn ground<'a>(&'a self, state: &'a State) -> Ground<'a> {
        Ground {
            index: &self.index,
            cluster: &self.cluster,
            state,
        }
    }

    /// Takes the Services in scope out of the index and finishes those that are deleted. Returns whether this freed something.
    fn open(
        &mut self,
        state: &State,
        scope: BTreeSet<ObjectKey>,
        all: bool,
        changed: &mut BTreeSet<ObjectKey>,
    ) -> (BTreeMap<ObjectKey, Work>, bool) {
        let (mut work, mut freed) = (BTreeMap::new(), false);
        for key in scope {
            let old = self.assignments.get(&key).cloned().unwrap_or_default();
            if !all {
                self.index.remove(&old.addresses, &key);
                self.cluster.remove(&old.cluster_ips, &key);
            }
            self.retry.remove(&key);
            self.retry_when_freed.remove(&key);
            match state.services().get(&key) {
                Some(service) => {
                    work.insert(key, Work::new(service.clone(), old));
                }
                None if state.keeps(&key) => {
                    self.index.insert(&old.addresses, &key, None);
                    self.cluster.insert(&old.cluster_ips, &key);
                }
                None => {
                    freed |= !old.addresses.is_empty();
                    let had = self.assignments.remove(&key).is_some();
                    if self.outcomes.remove(&key).is_some() || had {
                        changed.insert(key);
                    }
                }
            }
        }
        (work, freed)
    }

    /// Assigns the ClusterIPs. Returns the load-balancer addresses that none of them may be, if that had to be asked.
    fn cluster_ips(
        &mut self,
        state: &State,
        work: &mut BTreeMap<ObjectKey, Work>,
    ) -> BTreeSet<IpAddr> {
        for w in work.values_mut() {
            w.cluster_ips = self.cluster.adopt(&w.service, &w.old.cluster_ips);
        }
        let (cidrs, pools) = (&state.settings().service_cidrs, state.pools());
        let within = |cidr: &IpNet| pools.touches(&Place::Range(*cidr));
        let asks = |w: &Work| {
            let named = &w.service.cluster_ips;
            cluster::has_any(&w.service) && !named.is_empty() && *named != w.cluster_ips
        };
        let matters = cidrs.iter().any(within) || work.values().any(asks);
        let balanced: BTreeSet<IpAddr> = match matters && !cidrs.is_empty() {
            true => {
                let all = self.assignments.values();
                all.flat_map(|a| &a.addresses).copied().collect()
            }
            false => BTreeSet::new(),
        };
        // An API server does not ask before it gives a ClusterIP.
        let for_balancers = |ip: IpAddr| {
            let within = cidrs.is_empty() || cidrs.iter().any(|cidr| cidr.contains(&ip));
            if let Some(pool) = pools.containing(ip).filter(|_| !within) {
                let name = &pool.key.name;
                return Some(format!(
                    "which is in pool {name}, whose addresses are for load balancers"
                ));
            }
            let held = balanced.contains(&ip);
            held.then(|| "which a load balancer has".to_owned())
        };
        // Granting one requested address can free another that a different Service requests.
        let mut progress = true;
        while progress {
            progress = false;
            for w in work.values_mut().filter(|w| cluster::has_any(&w.service)) {
                if w.service.cluster_ips.is_empty() || w.service.cluster_ips == w.cluster_ips {
                    continue;
                }
                w.cluster_problem = self
                    .cluster
                    .grant(&w.service, &mut w.cluster_ips, for_balancers)
                    .err();
                progress |= w.cluster_problem.is_none();
            }
        }
        for w in work.values_mut().filter(|w| cluster::has_any(&w.service)) {
            if w.service.cluster_ips.is_empty() {
                w.cluster_problem = self
                    .cluster
                    .fill(&w.service, &mut w.cluster_ips, cidrs, &balanced)
                    .err();
            }
        }
        balanced
    }

    /// Adopts existing assignments and finds the Services that need other addresses. Returns whether this made room for others.
    fn adopt(&mut self, state: &State, work: &mut BTreeMap<ObjectKey, Work>) -> bool {
        let mut freed = false;
        let mut order: Vec<(bool, ObjectKey)> = Vec::new();
        for (key, w) in work.iter_mut() {
            if w.is_anothers(state) {
                // An address that another load balancer shows is in use, whether or not it comes from these pools.
                w.addresses = w.service.vips().collect();
                self.index.insert(&w.addresses, key, None);
                freed |= w.old.addresses != w.addresses;
            } else if w.refusal_of_type(state).is_some() {
                freed |= !w.old.addresses.is_empty();
            } else if !w.old.addresses.is_empty() {
                order.push((w.old.terms != w.terms.fingerprint(), key.clone()));
            }
        }
        order.sort();
        for (changed, key) in order {
            let Some(w) = work.get_mut(&key) else {
                continue;
            };
            if changed
                && self
                    .index
                    .clash_of(&w.old.addresses, &key, &w.terms)
                    .is_some()
            {
                freed = true;
                continue;
            }
            // A waiting Service may be compatible with the changed terms.
            freed |= changed;
            self.index
                .insert(&w.old.addresses, &key, Some(w.terms.clone()));
            w.addresses.clone_from(&w.old.addresses);
            w.pool.clone_from(&w.old.pool);
        }
        // Services that clash at this point both had the address before. To take it from either would be a guess.
        for (key, w) in work.iter_mut() {
            if !w.is_anothers(state) {
                let clash = self.index.clash_of(&w.addresses, key, &w.terms);
                w.clash = clash.map(|(reason, holder)| (reason, holder.clone()));
            }
        }
        let ground = self.ground(state);
        for w in work.values_mut() {
            w.judge(ground);
        }
        freed
    }

    /// Records the result. Returns whether anything changed.
    fn close(&mut self, key: &ObjectKey, w: Work) -> bool {
        if w.clash.is_some() {
            self.retry.insert(key.clone());
        }
        let named_in_vain = !w.service.cluster_ips.is_empty() && cluster::has_any(&w.service);
        let outcome = match w.stand {
            Stand::None(outcome) => outcome,
            Stand::Good => Outcome::new(
                Reason::Allocated,
                "",
                format!(
                    "has {} of pool {}",
                    list(&w.addresses),
                    w.pool.as_deref().unwrap_or_default()
                ),
            ),
            Stand::Refused(outcome) => keeps(outcome, &w.addresses, w.evicted.as_ref()),
            Stand::Seeking(request, why) => {
                if matches!(request.source, Source::Addresses(..)) {
                    self.retry.insert(key.clone());
                } else {
                    self.retry_when_freed.insert(key.clone());
                }
                let why = why.unwrap_or_else(|| {
                    Outcome::new(Reason::PoolExhausted, "", "no address was found")
                });
                keeps(why, &w.addresses, w.evicted.as_ref())
            }
        };
        let outcome = match w.cluster_problem {
            Some(problem) => {
                self.retry.insert(key.clone());
                problem
            }
            None => outcome,
        };
        let assignment = Assignment {
            terms: if w.addresses.is_empty() {
                0
            } else {
                w.terms.fingerprint()
            },
            pool: w.pool.filter(|_| !w.addresses.is_empty()),
            cluster_ips: w.cluster_ips,
            addresses: w.addresses,
        };
        let before = if assignment == Assignment::default() && !named_in_vain {
            self.assignments.remove(key)
        } else {
            self.assignments.insert(key.clone(), assignment)
        };
        let same = self.outcomes.get(key) == Some(&outcome)
            && self.assignments.get(key) == before.as_ref();
        if !same {
            self.outcomes.insert(key.clone(), outcome);
        }
        !same
    }
}
