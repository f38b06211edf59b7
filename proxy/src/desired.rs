//! What the kernel should hold: first a plan for each Service ([`crate::plan`]), then the plan in terms of the kernel
//! ([`crate::lower`]).

use std::collections::BTreeSet;
use std::ops::Range;

use ferrolb_api::object::Kind;
use ferrolb_api::problem::{Cause, Problem, Subject};
use ferrolb_api::view::{ServiceType, TrafficPolicy};
use ferrolb_api::{Family, ObjectKey};

use crate::config::Config;
use crate::kernel::Observed;
use crate::lower::service::scheduler_field;
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
        let usual = state.proxy().scheduler;
        self.lowered
            .update(&self.plans, keys, usual, held, &mut touched);
        touched
    }

    /// Uses the usual scheduler for Services that ask for one of these, which the kernel lacks. Returns what may have changed.
    pub fn set_lacking(
        &mut self,
        state: &State,
        lacking: BTreeSet<&'static str>,
        held: &Observed,
    ) -> Touched {
        let mut touched = Touched::default();
        let keys = self.lowered.set_lacking(&self.plans, lacking);
        if !keys.is_empty() {
            let usual = state.proxy().scheduler;
            self.lowered
                .update(&self.plans, keys, usual, held, &mut touched);
        }
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
        let lowered = self.lowered.service(key);
        let misread = match &service.annotations.scheduler {
            Some(Err(text)) => Some(text),
            _ => None,
        };
        problems.extend(misread.map(|text| {
            let subject = Subject::object_of(Kind::Service, key.clone());
            let text = format!("{} is used, because {text}", state.proxy().scheduler);
            Problem::new(subject, Cause::Reported { text }).field(scheduler_field())
        }));
        problems.extend(lowered.into_iter().flat_map(|s| s.problems(key)));
        let asked = service.service_type == ServiceType::LoadBalancer
            && service.external_policy == TrafficPolicy::Local;
        Some(ServiceStatus {
            problems,
            health_check_node_port: service.health_check_node_port.filter(|_| asked),
            scheduler_refused: misread.is_some() || lowered.is_some_and(|s| s.lacks.is_some()),
            ..snapshot::status(plan)
        })
    }
}
