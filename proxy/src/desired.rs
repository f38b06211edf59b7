//! What the kernel should hold: first a plan for each Service ([`crate::plan`]), then the plan in terms of the kernel
//! ([`crate::lower`]).

use std::ops::Range;

use ferrolb_api::view::{ServiceType, TrafficPolicy};
use ferrolb_api::{Family, ObjectKey};

use crate::config::Config;
use crate::kernel::Observed;
use crate::lower::{Lowered, Touched};
use crate::plan::ranges::ranges;
use crate::plan::{Plans, refusal};
use crate::snapshot::{self, ServiceStatus};
use crate::state::{Dirty, State};

#[cfg(test)]
mod tests;

/// The plans and what they need in the kernel.
#[derive(Debug, Clone)]
pub struct Desired {
    plans: Plans,
    lowered: Lowered,
}

impl Desired {
    /// Empty. Firewall marks come from this range.
    pub fn new(marks: Range<u32>) -> Self {
        Self {
            plans: Plans::default(),
            lowered: Lowered::new(marks),
        }
    }

    /// Remembers the marks that a predecessor assigned. Call it before the first [`Desired::update`].
    pub fn adopt(&mut self, held: &Observed) {
        self.lowered.adopt(held);
    }

    /// Every port with an adopted mark has asked for it by now, so the remaining found marks are free.
    pub fn adopted(&mut self) {
        self.lowered.adopted();
    }

    /// Recomputes what is dirty and everything that depends on it. Returns what may have changed.
    pub fn update(
        &mut self,
        state: &State,
        config: &Config,
        dirty: &Dirty,
        held: &Observed,
    ) -> Touched {
        let mut touched = Touched::default();
        if dirty.globals {
            let ranges = Family::ALL.map(|family| ranges(state, config, family));
            self.lowered.set_ranges(&ranges, &mut touched);
        }
        let keys = self.plans.update(state, &dirty.services);
        let scheduler = &state.proxy().scheduler;
        self.lowered
            .update(&self.plans, keys, scheduler, held, &mut touched);
        touched
    }

    /// The plans.
    pub fn plans(&self) -> &Plans {
        &self.plans
    }

    /// What they need in the kernel.
    pub fn lowered(&self) -> &Lowered {
        &self.lowered
    }

    /// The status of a Service, but for whether it is in the kernel.
    pub fn status(&self, state: &State, key: &ObjectKey) -> Option<ServiceStatus> {
        let (service, plan) = (state.service(key)?, self.plans.get(key)?);
        let mut problems = refusal::problems(service, plan);
        let lowered = self.lowered.service(key).into_iter();
        problems.extend(lowered.flat_map(|s| s.problems(key)));
        let asked = service.service_type == ServiceType::LoadBalancer
            && service.external_policy == TrafficPolicy::Local;
        Some(ServiceStatus {
            problems,
            health_check_node_port: service.health_check_node_port.filter(|_| asked),
            ..snapshot::status(plan)
        })
    }
}
