//! Which Service should have which address: a pure function of what is known and of the earlier assignments.
//!
//! Assignments are stable. An assignment is dropped only when its Service is deleted or requests no address any more. It is moved
//! only when the Service can have what it requests elsewhere. If a request cannot be met, the Service keeps what it has and the
//! outcome says so.

use std::collections::BTreeMap;

use ferrolb_api::ObjectKey;
use ferrolb_api::object::Kind;
use ferrolb_api::problem::{Cause, Problem, Subject};
use ferrolb_api::reason::Reason;

use crate::allocator::Allocator;
use crate::assignment::Assignments;
use crate::state::{Dirty, State};

/// The outcome for one Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Why it has its addresses, or has none.
    pub reason: Reason,
    /// One sentence. It names what the Service has; or, if the request cannot be met, the field that makes it and how to fix it.
    pub message: String,
    /// The field to blame; empty if there is none.
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

    /// Whether someone has to fix something.
    pub fn is_problem(&self) -> bool {
        !matches!(
            self.reason,
            Reason::Allocated | Reason::NotLoadBalancer | Reason::OtherClass
        )
    }

    /// The outcome as a problem of the Service.
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

/// The result of a full pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// The assignments of all Services.
    pub assignments: Assignments,
    /// The outcome for every Service.
    pub outcomes: BTreeMap<ObjectKey, Outcome>,
    /// Problems with pools and Services.
    pub problems: Vec<Problem>,
}

/// The full pass: decides every Service, starting from the existing assignments.
pub fn desired(state: &State, existing: &Assignments) -> Desired {
    let mut allocator = Allocator::new(existing.clone());
    allocator.decide(state, &Dirty::everything());
    allocator.desired(state)
}

#[cfg(test)]
mod tests;
