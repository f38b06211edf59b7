//! Places the Services of a batch that need addresses: in which order, and which ones are retried when another Service's move
//! made room. `place` decides where a single Service finds an address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::ObjectKey;

use super::Allocator;
use super::request::Source;
use super::work::{Stand, Work};
use crate::state::State;

/// The Services of a batch.
type Works = BTreeMap<ObjectKey, Work>;

/// How often Services are left out of an exchange before it is given up: a bound for requests made to be expensive.
const MOST_ROUNDS: usize = 32;

impl Allocator {
    /// Adds the Services that wait for any address. They are in the index with their current addresses.
    pub(super) fn reopen_waiting(&mut self, state: &State, work: &mut BTreeMap<ObjectKey, Work>) {
        for key in std::mem::take(&mut self.retry_when_freed) {
            let Some(service) = state.services().get(&key) else {
                continue;
            };
            let old = self.assignments.get(&key).cloned().unwrap_or_default();
            let mut w = Work::new(service.clone(), old);
            w.cluster_ips.clone_from(&w.old.cluster_ips);
            w.addresses.clone_from(&w.old.addresses);
            w.pool.clone_from(&w.old.pool);
            w.judge(self.ground(state));
            work.entry(key).or_insert(w);
        }
    }

    /// Places the Services that need addresses until this frees nothing more.
    pub(super) fn place_all(&mut self, state: &State, work: &mut BTreeMap<ObjectKey, Work>) {
        let mut order = Vec::new();
        self.index.wanted.clear();
        for (key, w) in work.iter() {
            let Stand::Seeking(request, _) = &w.stand else {
                continue;
            };
            order.push((request.rank(), key.clone()));
            if let Source::Addresses(asked, _) = &request.source {
                for ip in asked {
                    self.index
                        .wanted
                        .entry(*ip)
                        .or_default()
                        .insert(key.clone());
                }
            }
        }
        order.sort();
        while self.place_each(state, work, &order) || self.exchange(state, work, &order) {}
        // Since a message was written, further Services may have joined the holders that it names.
        for (_, key) in order.iter().filter(|(rank, _)| *rank == 0) {
            let Some(w) = work.get_mut(key) else { continue };
            let Some(seeker) = w.seeker(key) else {
                continue;
            };
            let why = seeker.place(self.ground(state)).err();
            w.still_seeks(why);
        }
    }

    /// Places the Services one by one. Returns whether that freed addresses that another may want.
    fn place_each(&mut self, state: &State, work: &mut Works, order: &[(u8, ObjectKey)]) -> bool {
        let mut freed = false;
        for (_, key) in order {
            let Some(w) = work.get_mut(key) else { continue };
            let Some(seeker) = w.seeker(key) else {
                continue;
            };
            match seeker.place(self.ground(state)) {
                Err(outcome) => w.still_seeks(Some(outcome)),
                Ok((addresses, pool)) => {
                    freed |= w.addresses.iter().any(|ip| !addresses.contains(ip));
                    self.index.remove(&w.addresses, key);
                    self.give(key, w, addresses, pool);
                }
            }
        }
        freed
    }

    /// Lets Services exchange addresses: each asks by name for what another of them holds, so none of them can go first. Who would
    /// still lack an address keeps what it has, and with it stays whoever waits for that. Returns whether anything moved.
    fn exchange(&mut self, state: &State, work: &mut Works, order: &[(u8, ObjectKey)]) -> bool {
        let holds = |key: &&ObjectKey| {
            let asks = |w: &Work| match &w.stand {
                Stand::Seeking(request, _) => matches!(request.source, Source::Addresses(..)),
                _ => false,
            };
            let held = work.get(*key).filter(|w| asks(w));
            held.is_some_and(|w| !w.addresses.is_empty())
        };
        let mut circle: Vec<&ObjectKey> = order.iter().map(|(_, key)| key).filter(holds).collect();
        for _ in 0..MOST_ROUNDS {
            if circle.len() < 2 {
                break;
            }
            for (key, w) in circle.iter().filter_map(|key| Some((key, work.get(*key)?))) {
                self.index.remove(&w.addresses, key);
            }
            let mut given = Vec::new();
            for key in &circle {
                let Some(w) = work.get(*key) else { continue };
                let place = w.seeker(key).map(|s| s.place(self.ground(state)));
                if let Some(Ok((addresses, pool))) = place {
                    self.index.insert(&addresses, key, Some(w.terms.clone()));
                    given.push((*key, addresses, pool));
                }
            }
            for (key, addresses, _) in &given {
                self.index.remove(addresses, key);
            }
            if given.len() == circle.len() {
                for (key, addresses, pool) in given {
                    if let Some(w) = work.get_mut(key) {
                        self.give(key, w, addresses, pool);
                    }
                }
                return true;
            }
            for (key, w) in circle.iter().filter_map(|key| Some((key, work.get(*key)?))) {
                self.index.insert(&w.addresses, key, Some(w.terms.clone()));
            }
            let able: BTreeSet<&ObjectKey> = given.iter().map(|(key, ..)| *key).collect();
            circle.retain(|key| able.contains(key));
        }
        false
    }

    /// Gives a Service these addresses. What it had is no longer in the index.
    fn give(&mut self, key: &ObjectKey, w: &mut Work, addresses: Vec<IpAddr>, pool: String) {
        self.index.insert(&addresses, key, Some(w.terms.clone()));
        if let Stand::Seeking(request, _) = &w.stand
            && let Source::Addresses(asked, _) = &request.source
        {
            for ip in asked {
                if let Some(by) = self.index.wanted.get_mut(ip) {
                    by.remove(key);
                }
            }
        }
        w.addresses = addresses;
        w.pool = Some(pool);
        w.stand = Stand::Good;
    }
}
