//! Places the Services of a batch that need addresses: in which order, and which ones are retried when another Service's move
//! made room. `place` decides where a single Service finds an address.

use std::collections::BTreeMap;

use ferrolb_api::ObjectKey;

use super::Allocator;
use super::request::Source;
use super::work::{Stand, Work};
use crate::pool::Pools;
use crate::state::State;

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
            w.judge(state);
            work.entry(key).or_insert(w);
        }
    }

    /// Places the Services that need addresses until this frees nothing more.
    pub(super) fn place_all(&mut self, pools: &Pools, work: &mut BTreeMap<ObjectKey, Work>) {
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
        let mut freed = true;
        while std::mem::take(&mut freed) {
            for (_, key) in &order {
                let Some(w) = work.get_mut(key) else { continue };
                let Some(seeker) = w.seeker(key) else {
                    continue;
                };
                let request = seeker.request;
                match seeker.place(&self.index, pools) {
                    Err(outcome) => w.still_seeks(Some(outcome)),
                    Ok((addresses, pool)) => {
                        freed |= w.addresses.iter().any(|ip| !addresses.contains(ip));
                        self.index.remove(&w.addresses, key);
                        self.index.insert(&addresses, key, Some(w.terms.clone()));
                        if let Source::Addresses(asked, _) = &request.source {
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
            }
        }
        // Since a message was written, further Services may have joined the holders that it names.
        for (_, key) in order.iter().filter(|(rank, _)| *rank == 0) {
            let Some(w) = work.get_mut(key) else { continue };
            let Some(seeker) = w.seeker(key) else {
                continue;
            };
            let why = seeker.place(&self.index, pools).err();
            w.still_seeks(why);
        }
    }
}
