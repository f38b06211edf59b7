//! Takes the API server's place on a node that has none. Services get the addresses that the members agreed on, and the daemons
//! see the Services as a cluster's API would show them.
//!
//! This module drives the allocator and the agreement. The network and the clock stay outside; the disk is the [`Store`].

mod explain;
mod trouble;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrolb_api::ObjectKey;
use ferrolb_api::change::{Batch, Change};
use ferrolb_api::delta::Delta;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::problem::Problem;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::Service;
use ferrolb_controller::allocator::Allocator;
use ferrolb_controller::assignment::overlay;
use ferrolb_controller::state::{Settings, State};
use ferrolb_speaker::snapshot::Address;
use tracing::{debug, info, warn};

use self::trouble::Trouble;
use crate::agreement::machine::{Action, Event, Machine, View};
use crate::agreement::table::{Ballot, Name, Table, Version};
use crate::authority::{Authority, Effects, Standing};
use crate::found::{Found, News};
use crate::membership::Members;
use crate::store::{Store, StoreError};

/// How long a newly elected member keeps the addresses of Services that are not in its own copy of the manifests yet.
const KEEP_ABSENT: Duration = Duration::from_secs(10);

/// Allocation and agreement on one node.
pub(crate) struct Standalone<S> {
    state: State,
    allocator: Allocator,
    agreement: Machine,
    store: S,
    agreed: Arc<Table>,
    leading: Option<Ballot>,
    keep_until: Option<Instant>,
    /// Objects that the proxy must not see before the first table is in force.
    waiting: Option<BTreeMap<(Kind, ObjectKey), Object>>,
    /// Services whose standing may have changed.
    touched: BTreeSet<ObjectKey>,
    /// Whether the members could agree, as of the last call of `touched`.
    could_agree: (bool, bool),
    /// Services as they were last shown to the daemons.
    shown: BTreeMap<ObjectKey, Arc<Service>>,
    /// The source's first batch, which is complete by contract, has arrived.
    began: bool,
    problems: Vec<Problem>,
    /// Where objects are defined.
    origins: BTreeMap<(Kind, ObjectKey), Arc<str>>,
    /// Problems with Services, as last logged.
    told: BTreeMap<ObjectKey, Problem>,
    trouble: Trouble,
    found: Found,
}

impl<S: Store> Standalone<S> {
    /// Starts from what is in the store.
    pub(crate) fn new(
        me: &str,
        boot: u64,
        settings: Settings,
        mut store: S,
    ) -> Result<Self, StoreError> {
        let saved = store.load()?.unwrap_or_default();
        let agreement = Machine::new(me.into(), boot, saved);
        let agreed = agreement.agreed().clone();
        Ok(Self {
            state: State::new(settings),
            allocator: Allocator::new(agreed.assignments.clone()),
            agreement,
            store,
            agreed,
            leading: None,
            keep_until: None,
            waiting: Some(BTreeMap::new()),
            touched: BTreeSet::new(),
            could_agree: (false, false),
            shown: BTreeMap::new(),
            began: false,
            problems: Vec::new(),
            origins: BTreeMap::new(),
            told: BTreeMap::new(),
            trouble: Trouble::default(),
            found: Found::default(),
        })
    }

    /// Lets the allocator decide for the dirty Services, and logs new problems. Returns whether an assignment or its outcome changed.
    fn allocate(&mut self) -> bool {
        let dirty = self.state.take_dirty();
        let changed = self.allocator.decide(&self.state, &dirty);
        let any = !changed.is_empty();
        for key in changed {
            self.touched.insert(key.clone());
            let outcome = self.allocator.outcomes().get(&key);
            // The source that read an invalid request has already reported it, with its field.
            let told_by_source = |p: &Problem| {
                self.problems.iter().any(|known| known.subject == p.subject)
                    && outcome.is_some_and(|o| o.reason == Reason::InvalidRequest)
            };
            match outcome
                .and_then(|o| o.problem(&key))
                .filter(|p| !told_by_source(p))
                .map(|p| self.placed(p))
            {
                Some(problem) if self.told.get(&key) != Some(&problem) => {
                    warn!("{problem}");
                    self.told.insert(key, problem);
                }
                Some(_) => {}
                None => {
                    self.told.remove(&key);
                }
            }
        }
        any
    }

    /// Decides again after owners came or went.
    fn moved(&mut self, news: Vec<News>, now: Instant) -> Effects {
        if news.is_empty() {
            return Effects::default();
        }
        self.update(|state| {
            for (ip, owner) in news {
                state.set_found(ip, owner);
            }
        });
        self.decide(now, Vec::new())
    }

    fn step(&mut self, event: Event, now: Instant) -> Effects {
        let mut effects = Effects::default();
        let mut changes = Vec::new();
        self.run(event, now, &mut effects.send, &mut changes);
        self.release(changes, effects)
    }

    /// Decides for the dirty Services, and proposes the result if this node allocates.
    fn decide(&mut self, now: Instant, mut changes: Vec<Change>) -> Effects {
        let mut effects = Effects::default();
        // Most changes concern no assignment, and the whole table need not be copied and compared for them.
        if self.allocate()
            && let Some(ballot) = self.leading.clone()
        {
            let event = Event::Wanted {
                ballot,
                assignments: self.allocator.assignments().clone(),
            };
            self.run(event, now, &mut effects.send, &mut changes);
        }
        self.release(changes, effects)
    }

    /// Steps the agreement until it has no more actions.
    fn run(
        &mut self,
        event: Event,
        now: Instant,
        send: &mut Vec<(Name, Vec<u8>)>,
        changes: &mut Vec<Change>,
    ) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.agreement.step(event, now) {
                match action {
                    Action::Send { to, bytes } => send.push((to, bytes)),
                    Action::Persist(saved) => {
                        self.store.save(saved);
                        let end = self.store.try_saved();
                        events.extend(end.map(|end| self.ended(end)));
                    }
                    Action::Stalled => self.trouble.failed(&StoreError::Stalled {
                        path: self.store.folder().to_owned(),
                    }),
                    Action::Leapt { from, round } => self.trouble.leapt(from, round, now),
                    Action::Agreed(table) => self.agree(table, changes),
                    Action::Lead { ballot, base } => {
                        info!("this node allocates addresses");
                        self.leading = Some(ballot.clone());
                        self.keep_until = Some(now + KEEP_ABSENT);
                        self.state.keep_absent(true);
                        self.allocator.rebase(&base.assignments);
                        self.allocate();
                        events.push(Event::Wanted {
                            ballot,
                            assignments: self.allocator.assignments().clone(),
                        });
                    }
                    Action::Follow => self.leading = None,
                    Action::Refused { from, why } => {
                        debug!(%from, why, "message about assignments refused")
                    }
                }
            }
        }
    }

    /// Turns the result of a write into an event for the agreement.
    fn ended(&mut self, end: Result<(), StoreError>) -> Event {
        match end {
            Ok(()) => {
                self.trouble.worked();
                Event::Persisted
            }
            Err(error) => {
                self.trouble.failed(&error);
                Event::PersistFailed
            }
        }
    }

    fn agree(&mut self, table: Arc<Table>, changes: &mut Vec<Change>) {
        let before = std::mem::replace(&mut self.agreed, table);
        if self.leading.is_none() {
            // Followers decide too, so that they can give reasons. They continue from what is agreed.
            self.allocator.rebase(&self.agreed.assignments);
            self.allocate();
        }
        let (old, new) = (&before.assignments, &self.agreed.assignments);
        let touched: BTreeSet<ObjectKey> = old
            .keys()
            .chain(new.keys())
            .filter(|key| old.get(*key) != new.get(*key))
            .cloned()
            .collect();
        for key in &touched {
            if let Some(a) = self
                .agreed
                .assignments
                .get(key)
                .filter(|a| !a.addresses.is_empty())
            {
                info!(service = %key, addresses = ?a.addresses, pool = a.pool.as_deref(), "addresses assigned");
            }
            self.show(key, changes);
        }
    }

    /// Changes what is known, and logs what is newly wrong with it.
    fn update(&mut self, change: impl FnOnce(&mut State)) {
        let before = self.state.problems().to_vec();
        change(&mut self.state);
        let now_wrong = self.state.problems().iter().filter(|p| !before.contains(p));
        for problem in now_wrong {
            warn!("{}", self.placed(problem.clone()));
        }
    }

    /// Adds the changes in the view of one Service.
    fn show(&mut self, key: &ObjectKey, changes: &mut Vec<Change>) {
        self.touched.insert(key.clone());
        let Some(service) = self.state.services().get(key) else {
            if self.shown.remove(key).is_some() {
                changes.push(Change::Remove(Kind::Service, key.clone()));
            }
            return;
        };
        let class = self.state.settings().class.as_deref();
        let view = Arc::new(overlay(service, self.agreed.assignments.get(key), class));
        if self.shown.get(key) != Some(&view) {
            changes.push(Change::Upsert(Object::Service(Arc::clone(&view))));
            self.shown.insert(key.clone(), view);
        }
    }

    /// Releases changes: to the speaker immediately, and to the proxy once a table is in force. The first release to the proxy
    /// includes everything that waited.
    fn release(&mut self, changes: Vec<Change>, mut effects: Effects) -> Effects {
        effects.speaker.clone_from(&changes);
        let Some(waiting) = &mut self.waiting else {
            effects.proxy = (!changes.is_empty()).then_some(changes);
            return effects;
        };
        for change in changes {
            match change {
                Change::Upsert(object) => {
                    waiting.insert((object.kind(), object.key()), object);
                }
                Change::Remove(kind, key) => {
                    waiting.remove(&(kind, key));
                }
            }
        }
        if self.agreed.version != Version::default() && self.began {
            let all = self.waiting.take().unwrap_or_default();
            effects.proxy = Some(all.into_values().map(Change::Upsert).collect());
        }
        effects
    }
}

impl<S: Store> Authority for Standalone<S> {
    fn source(&mut self, batch: Batch, now: Instant) -> Effects {
        if let Some(problems) = batch.problems {
            for problem in problems.iter().filter(|p| !self.problems.contains(p)) {
                warn!("{problem}");
            }
            self.state.set_unreadable(&problems);
            self.problems = problems;
        }
        self.origins.extend(batch.origins);
        self.began = true;
        self.update(|state| state.apply_all(&batch.changes));
        let mut changes = Vec::new();
        for change in batch.changes {
            if let Change::Remove(kind, key) = &change {
                self.origins.remove(&(*kind, key.clone()));
            }
            match change {
                Change::Upsert(Object::Service(service)) => self.show(&service.key, &mut changes),
                Change::Remove(Kind::Service, key) => self.show(&key, &mut changes),
                other => changes.push(other),
            }
        }
        self.decide(now, changes)
    }

    fn members(&mut self, members: &Members) {
        let listening = members
            .iter()
            .filter_map(|(name, ip)| Some(((*ip)?, name.clone())));
        let listening = listening.collect();
        self.update(|state| state.set_members(listening));
    }

    fn addresses(&mut self, changes: &Delta<IpAddr, Arc<Address>>, now: Instant) -> Effects {
        let news = self.found.hear(changes, now);
        self.moved(news, now)
    }

    fn view(&mut self, view: View, now: Instant) -> Effects {
        self.step(Event::View(view), now)
    }

    fn received(&mut self, from: Name, bytes: Vec<u8>, now: Instant) -> Effects {
        self.step(Event::Received { from, bytes }, now)
    }

    async fn disk(&mut self) -> Result<(), StoreError> {
        self.store.saved().await
    }

    fn wrote(&mut self, end: Result<(), StoreError>, now: Instant) -> Effects {
        let event = self.ended(end);
        self.step(event, now)
    }

    fn tick(&mut self, now: Instant) -> Effects {
        self.trouble.refresh(self.agreement.yielding(), now);
        let news = self.found.forget(now);
        if !news.is_empty() {
            return self.moved(news, now);
        }
        if self.keep_until.is_some_and(|until| now >= until) {
            self.keep_until = None;
            self.state.keep_absent(false);
            return self.decide(now, Vec::new());
        }
        self.step(Event::Tick, now)
    }

    fn standing(&self, service: &ObjectKey) -> Option<Standing> {
        self.explained(service)
    }

    fn touched(&mut self) -> BTreeSet<ObjectKey> {
        let can_agree = self.can_agree();
        if std::mem::replace(&mut self.could_agree, can_agree) != can_agree {
            // The Services that wait now do so for a different reason.
            self.touched.extend(self.state.services().keys().cloned());
        }
        std::mem::take(&mut self.touched)
    }

    fn problems(&self) -> Vec<Problem> {
        self.all_problems()
    }
}
