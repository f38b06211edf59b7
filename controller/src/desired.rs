//! Who should have which address: a pure function of what is known and of what was given before.
//!
//! What is given stays given: an assignment is dropped only when its Service is gone or asks for no address any more, and
//! moved only when the Service can have what it asks for elsewhere. A request that cannot be met leaves the Service with
//! what it has, and says so.

use std::collections::BTreeMap;

use ferrolb_api::ObjectKey;
use ferrolb_api::object::Kind;
use ferrolb_api::problem::{Cause, Problem, Subject};
use ferrolb_api::reason::Reason;

use crate::allocator::Allocator;
use crate::assignment::Assignments;
use crate::state::{Dirty, State};

/// How it went for one Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Why it has the addresses that it has, or has none.
    pub reason: Reason,
    /// One sentence that names what it has, or the field that asks for what it cannot have and what to do.
    pub message: String,
    /// The field to blame, empty where none is.
    pub field: &'static str,
}

impl Outcome {
    pub(crate) fn new(reason: Reason, field: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            field,
        }
    }

    /// Whether somebody has to do something about it.
    pub fn is_problem(&self) -> bool {
        !matches!(
            self.reason,
            Reason::Allocated | Reason::NotLoadBalancer | Reason::OtherClass
        )
    }

    /// The same as a problem with the Service.
    pub fn problem(&self, service: &ObjectKey) -> Option<Problem> {
        self.is_problem().then(|| {
            let cause = Cause::Request {
                reason: self.reason,
                text: self.message.clone(),
            };
            Problem::new(Subject::object_of(Kind::Service, service.clone()), cause)
                .field(self.field)
        })
    }
}

/// What should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// Who has what.
    pub assignments: Assignments,
    /// How it went, for every Service.
    pub outcomes: BTreeMap<ObjectKey, Outcome>,
    /// What is wrong with pools and Services.
    pub problems: Vec<Problem>,
}

/// The full pass: decides every Service, starting from the assignments that exist.
pub fn desired(state: &State, existing: &Assignments) -> Desired {
    let mut allocator = Allocator::new(existing.clone());
    allocator.decide(state, &Dirty::everything());
    allocator.desired(state)
}

#[cfg(test)]
mod tests;
