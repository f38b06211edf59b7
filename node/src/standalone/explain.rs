//! Explains why Services have their addresses and what is wrong, for the status and the log.

use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::problem::Problem;
use ferrolb_api::reason::Reason;
use ferrolb_controller::assignment::Assignment;

use super::{Standalone, Standing};
use crate::store::Store;

impl<S: Store> Standalone<S> {
    /// A Service with its addresses and the reason for them, for the status.
    pub(super) fn explained(&self, key: &ObjectKey) -> Option<Standing> {
        let service = self.shown.get(key)?;
        let given = self.agreed.assignments.get(key);
        let outcome = self.allocator.outcomes().get(key);
        let (mut reason, mut message) = outcome.map_or((Reason::NotSettled, String::new()), |o| {
            (o.reason, o.message.clone())
        });
        let wants = self.allocator.assignments().get(key);
        if reason == Reason::Allocated && lacks(wants, given) {
            let text;
            (reason, text) = match self.can_agree() {
                (true, true) => (
                    Reason::NotSettled,
                    "the members have not agreed on its addresses yet",
                ),
                (true, false) => (
                    Reason::NoMajority,
                    "fewer than half of the known nodes are heard and can save assignments, so nothing new is allocated; \
                     `ferrolb status` on each node says under problems what is wrong with its state folder",
                ),
                (false, _) => (
                    Reason::NoMajority,
                    "fewer than half of the known nodes are heard, so nothing new is allocated; \
                     start more of them, or list only those that exist",
                ),
            };
            text.clone_into(&mut message);
        }
        Some(Standing {
            service: Arc::clone(service),
            pool: given.and_then(|a| a.pool.clone()),
            reason,
            message,
        })
    }

    /// Whether this node hears more than half of the members, and whether that many can save what is agreed.
    pub(super) fn can_agree(&self) -> (bool, bool) {
        (self.agreement.has_majority(), self.agreement.can_store())
    }

    /// What is wrong with the input, with the pools and with what Services ask for.
    pub(super) fn all_problems(&self) -> Vec<Problem> {
        let of_pools = self.state.problems().iter().map(|p| self.placed(p.clone()));
        let of_services = self.told.values().cloned();
        self.problems
            .iter()
            .cloned()
            .chain(of_pools)
            .chain(of_services)
            .chain(self.trouble.problems())
            .collect()
    }

    /// The problem, with the place where its object is defined.
    pub(super) fn placed(&self, mut problem: Problem) -> Problem {
        if problem.origin.is_empty()
            && let Some((kind, key)) = problem.subject.object()
            && let Some(origin) = self.origins.get(&(kind, key.clone()))
        {
            problem.origin = origin.to_string();
        }
        problem
    }
}

/// Whether the allocator would give something that is not agreed.
fn lacks(wants: Option<&Assignment>, given: Option<&Assignment>) -> bool {
    let addresses = |a: Option<&Assignment>| {
        a.map(|a| (a.cluster_ips.clone(), a.addresses.clone()))
            .unwrap_or_default()
    };
    addresses(wants) != addresses(given)
}
