//! Which Service gets a key (address, port, protocol) that several want.
//!
//! The strongest kind of address wins: ClusterIP, then load balancer, then node port, then external address. Within a kind the
//! oldest Service wins: the lower creation time, then the lower uid. Objects from files may have neither. One without a creation
//! time comes after those that have one. Between equals, the namespace and name decide; files have nothing else to distinguish
//! them, and a single administrator writes them.

use std::collections::{BTreeMap, BTreeSet};

use ferrolb_api::ObjectKey;
use ferrolb_api::view::Service;

use super::fronts::Wish;
use super::{FrontKey, Reach};

/// The age of a Service. Older Services sort first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Age {
    unknown: bool,
    created: i64,
    uid: String,
}

impl Age {
    fn of(service: &Service) -> Self {
        Self {
            unknown: service.created.is_none(),
            created: service.created.unwrap_or_default(),
            uid: service.uid.clone(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Claim {
    age: Age,
    keys: BTreeMap<FrontKey, Reach>,
}

/// The claims of all Services.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    services: BTreeMap<ObjectKey, Claim>,
    keys: BTreeMap<FrontKey, BTreeSet<ObjectKey>>,
}

impl Claims {
    /// The Service that has a key, and on which kind of address.
    pub(super) fn holder(&self, key: &FrontKey) -> Option<(&ObjectKey, Reach)> {
        let all = self.keys.get(key)?.iter();
        let ranked = all.filter_map(|name| {
            let claim = self.services.get(name)?;
            Some((*claim.keys.get(key)?, &claim.age, name))
        });
        let (reach, _, name) = ranked.min()?;
        Some((name, reach))
    }

    /// Replaces the claims of a Service. Other Services that win or lose a key as a result, or now lose it to another one, go
    /// into `affected`.
    pub(super) fn set(
        &mut self,
        key: &ObjectKey,
        new: Option<(&Service, &[Vec<Wish>])>,
        affected: &mut BTreeSet<ObjectKey>,
    ) {
        let new = new.map_or_else(Claim::default, |(service, wishes)| {
            let wanted = wishes.iter().flatten().filter(|w| w.refused.is_none());
            Claim {
                age: Age::of(service),
                keys: wanted.map(|w| (w.key, w.reach)).collect(),
            }
        });
        let old = self.services.get(key);
        if old.map_or(new.keys.is_empty(), |old| *old == new) {
            return;
        }
        let empty = BTreeMap::new();
        let before = old.map_or(&empty, |old| &old.keys);
        let older = old.is_some_and(|old| old.age != new.age);
        let concerned = |from: &BTreeMap<FrontKey, Reach>, to: &BTreeMap<FrontKey, Reach>| {
            let differ = from.iter().filter(|(k, r)| older || to.get(k) != Some(r));
            differ.map(|(k, _)| *k).collect::<Vec<_>>()
        };
        let mut keys = concerned(before, &new.keys);
        keys.extend(concerned(&new.keys, before));
        keys.sort_unstable();
        keys.dedup();
        let holders: Vec<Option<ObjectKey>> = keys.iter().map(|k| self.contested(k, key)).collect();
        for front in &keys {
            if new.keys.contains_key(front) {
                self.keys.entry(*front).or_default().insert(key.clone());
            } else if let Some(claims) = self.keys.get_mut(front) {
                claims.remove(key);
                if claims.is_empty() {
                    self.keys.remove(front);
                }
            }
        }
        if new.keys.is_empty() {
            self.services.remove(key);
        } else {
            self.services.insert(key.clone(), new);
        }
        for (front, before) in keys.iter().zip(holders) {
            if self.contested(front, key) != before
                && let Some(all) = self.keys.get(front)
            {
                affected.extend(all.iter().filter(|name| *name != key).cloned());
            }
        }
    }

    /// The Service that has a key which a Service other than `than` wants.
    fn contested(&self, front: &FrontKey, than: &ObjectKey) -> Option<ObjectKey> {
        let all = self.keys.get(front)?;
        if all.iter().all(|name| name == than) {
            return None;
        }
        self.holder(front).map(|(name, _)| name.clone())
    }
}
