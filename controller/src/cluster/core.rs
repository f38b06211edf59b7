//! Combines the controller's state, allocator and queue: changes from the source go in, writes and events come out. Pure, except
//! for the log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Batch;
use ferrolb_api::object::Kind;
use ferrolb_api::problem::Problem;
use ferrolb_api::reason::Reason;
use ferrolb_api::refusal::Refusal;
use ferrolb_api::view::service::Balancer;
use tracing::{info, warn};

use super::adopt::adopt;
use super::diff::{Write, diff};
use super::event::{Event, Limiter};
use super::lease::Found;
use super::queue::Queue;
use crate::allocator::Allocator;
use crate::assignment::Assignments;
use crate::desired::Outcome;
use crate::state::{Settings, State};

/// The controller without its I/O.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) state: State,
    pub(super) allocator: Allocator,
    pub(super) queue: Queue,
    limiter: Limiter,
    began: bool,
    found: Found,
    /// Problems with the input.
    problems: Vec<Problem>,
    /// Services whose request cannot be met, with the outcome that was last reported.
    told: BTreeMap<ObjectKey, Outcome>,
}

impl Core {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            state: State::new(settings),
            allocator: Allocator::new(Assignments::new()),
            queue: Queue::default(),
            limiter: Limiter::default(),
            began: false,
            found: Found::new(),
            problems: Vec::new(),
            told: BTreeMap::new(),
        }
    }

    fn class(&self) -> Option<&str> {
        self.state.settings().class.as_deref()
    }

    /// Processes a batch. The first batch is complete; what its Services show is adopted.
    pub(super) fn batch(&mut self, batch: Batch, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        if let Some(problems) = batch.problems {
            for problem in problems.iter().filter(|p| !self.problems.contains(p)) {
                warn!("{problem}");
                events.extend(Event::of_pool(problem));
            }
            // Only problems with a single object count. If a whole kind cannot be listed, its known pools stay; if it was never
            // listed, there are none.
            self.state.set_unreadable(&problems);
            self.problems = problems;
        }
        let before = self.state.problems().to_vec();
        self.state.apply_all(&batch.changes);
        events.extend(self.follow_up(&before));
        let first = !std::mem::replace(&mut self.began, true);
        if first {
            let services = self.state.services().values().map(|s| &**s);
            let adopted = adopt(services, self.class());
            info!(
                services = self.state.services().len(),
                adopted = adopted.len(),
                "starting from what the Services show"
            );
            self.allocator = Allocator::new(adopted);
        }
        self.decide(events, now)
    }

    /// Processes what nodes found out about addresses.
    pub(super) fn found(&mut self, found: &Found, now: Instant) -> Vec<Event> {
        let before = self.state.problems().to_vec();
        let old = std::mem::replace(&mut self.found, found.clone());
        for addr in old.keys().filter(|addr| !found.contains_key(*addr)) {
            self.state.set_found(*addr, None);
        }
        for (addr, owner) in found {
            if old.get(addr) != Some(owner) {
                self.state.set_found(*addr, Some(owner.clone()));
            }
        }
        if !self.began {
            return Vec::new();
        }
        let events = self.follow_up(&before);
        self.decide(events, now)
    }

    /// Reports the problems of pools that are new.
    fn follow_up(&self, before: &[Problem]) -> Vec<Event> {
        let mut events = Vec::new();
        for problem in self.state.problems() {
            if !before.contains(problem) {
                warn!("{problem}");
                events.extend(Event::of_pool(problem));
            }
        }
        events
    }

    /// Decides for what is dirty, and queues what must be written. Adds to the events.
    fn decide(&mut self, mut events: Vec<Event>, now: Instant) -> Vec<Event> {
        let dirty = self.state.take_dirty();
        let changed = self.allocator.decide(&self.state, &dirty);
        events.retain(|event| self.limiter.allow(&event.object, now));
        for key in &changed {
            let event = self.outcome(key, dirty.services.contains(key));
            events.extend(event.filter(|_| self.limiter.allow(key, now)));
        }
        let concerned: BTreeSet<&ObjectKey> = dirty.services.iter().chain(&changed).collect();
        for key in concerned {
            let Some(service) = self.state.services().get(key) else {
                self.queue.forget(key);
                continue;
            };
            let want = diff(
                service,
                self.allocator.assignments().get(key),
                self.state.settings().class.as_deref(),
            );
            self.queue.want(key, want, now);
        }
        events
    }

    /// The event for a Service whose allocation failed, if the outcome differs from the one last reported. `touched`: the Service
    /// itself changed. A change of pools is not news for every Service that waits for the same reason.
    fn outcome(&mut self, key: &ObjectKey, touched: bool) -> Option<Event> {
        let service = self.state.services().get(key);
        let ours = service.filter(|s| s.balancer(self.class()) == Balancer::Ours);
        let outcome = self.allocator.outcomes().get(key);
        let wrong = outcome.filter(|o| o.is_problem() && o.reason != Reason::NotProxied);
        let (Some(service), Some(outcome)) = (ours, wrong) else {
            self.told.remove(key);
            return None;
        };
        let known = |told: &Outcome| {
            told == outcome
                || !touched && (told.reason, told.field) == (outcome.reason, outcome.field)
        };
        if self.told.get(key).is_some_and(known) {
            return None;
        }
        // The source that read an invalid request has already reported it, with its field.
        let known = outcome.reason == Reason::InvalidRequest
            && self.problems.iter().any(|p| p.is_about(Kind::Service, key));
        if let Some(problem) = outcome.problem(key).filter(|_| !known) {
            warn!(reason = %outcome.reason, "{problem}");
        }
        let event = Event::failed(service, outcome);
        self.told.insert(key.clone(), outcome.clone());
        Some(event)
    }

    /// The next write that is due now, if any.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Write> {
        self.queue.begin(now)
    }

    /// When the next write is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.queue.due()
    }

    /// The number of writes in progress and of those waiting.
    pub(super) fn left(&self) -> (usize, usize) {
        self.queue.left()
    }

    /// Handles the end of a write.
    pub(super) fn done(
        &mut self,
        key: &ObjectKey,
        result: Result<(), Refusal>,
        now: Instant,
        chance: u64,
    ) -> Option<Event> {
        let write = self.queue.done(key, result, now, chance)?;
        let pool = write.pool.as_deref().unwrap_or_default();
        if write.addresses.is_empty() {
            info!(service = %key, "addresses taken away");
        } else if write.addresses != write.before {
            info!(service = %key, addresses = ?write.addresses, pool, "addresses assigned");
        }
        let event = Event::written(&write, self.allocator.outcomes().get(key))?;
        self.limiter.allow(key, now).then_some(event)
    }
}
