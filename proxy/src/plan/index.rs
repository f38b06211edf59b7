//! The plans of all Services, updated when their inputs change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrolb_api::ObjectKey;

use super::ServicePlan;
use super::claims::Claims;
use super::fronts::{Wish, wishes};
use super::service::plan;
use crate::state::State;

/// The plans of all Services.
#[derive(Debug, Clone, Default)]
pub struct Plans {
    claims: Claims,
    plans: BTreeMap<ObjectKey, Arc<ServicePlan>>,
}

impl Plans {
    /// Computes new plans for these Services, and for those that win or lose a key as a result. Returns all of them. A deleted
    /// Service has no plan.
    pub fn update(&mut self, state: &State, dirty: &BTreeSet<ObjectKey>) -> BTreeSet<ObjectKey> {
        let mut affected = dirty.clone();
        let mut known: BTreeMap<&ObjectKey, Vec<Vec<Wish>>> = BTreeMap::new();
        for key in dirty {
            let new = state.service(key).map(|s| (s, wishes(state, s)));
            let claims = new.as_ref().map(|(s, w)| (*s, w.as_slice()));
            self.claims.set(key, claims, &mut affected);
            known.extend(new.map(|(_, w)| (key, w)));
        }
        for key in &affected {
            let Some(service) = state.service(key) else {
                self.plans.remove(key);
                continue;
            };
            let wishes = known.remove(key).unwrap_or_else(|| wishes(state, service));
            let holder = |k: &_| self.claims.holder(k);
            let plan = plan(state, service, &wishes, holder);
            self.plans.insert(key.clone(), Arc::new(plan));
        }
        affected
    }

    /// The plan of a Service.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<ServicePlan>> {
        self.plans.get(key)
    }

    /// The Services that have a plan.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.plans.keys()
    }
}
