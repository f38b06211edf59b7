//! Pools that may exist although they are not in force: refused ones, and those that could not be read.

use ferrolb_api::ObjectKey;
use ferrolb_api::object::Kind;
use ferrolb_api::problem::{Consequence, Problem};

use super::State;
use crate::pool::Offer;

impl State {
    /// Takes in the source's problems: which pools could not be read. Addresses outside the known pools are then left alone.
    pub fn set_unreadable(&mut self, problems: &[Problem]) {
        let of_pool = |p: &&Problem| {
            let object = p.subject.object();
            let kind = object.map(|(kind, _)| kind);
            let pool = matches!(kind, Some(Kind::IpAddressPool | Kind::LegacyConfig));
            // A warning about a part of an object does not keep the object from being used.
            pool && p.consequence != Consequence::Partial
        };
        let unreadable = problems.iter().filter(of_pool).filter_map(|p| {
            let (kind, key) = p.subject.object()?;
            Some((
                key.name.clone(),
                format!("{kind} {key} cannot be read ({})", p.field),
            ))
        });
        let unreadable = unreadable.collect();
        if self.unreadable != unreadable {
            self.unreadable = unreadable;
            self.dirty.all = true;
        }
    }

    /// Why there is no pool at all, and what to do.
    pub(crate) fn no_pool(&self) -> String {
        if let Some(pool) = self.broken().next() {
            return format!("{pool}: correct it");
        }
        match self
            .problems
            .get(..self.refused)
            .and_then(<[Problem]>::first)
        {
            Some(refused) => format!("{} is refused: correct it", refused.subject),
            None => "there is no address pool: add an IPAddressPool".to_owned(),
        }
    }

    /// Why a pool of this name is not in force although an object defines it.
    pub(crate) fn why_not(&self, pool: &str) -> Option<String> {
        if let Some(why) = self.unreadable.get(pool) {
            return Some(why.clone());
        }
        let legacy = self.broken_in_legacy().find(|(name, _)| *name == pool);
        if let Some((name, key)) = legacy {
            return Some(unreadable_in(name, key));
        }
        let of_name = |o: &&Offer| o.pool.key.name == pool;
        let mut offers = self.offers.values().flatten();
        let offer = offers.find(of_name)?;
        Some(format!("{} {} is refused", offer.object.0, offer.object.1))
    }

    /// Every pool that could not be read and has no earlier form.
    fn broken(&self) -> impl Iterator<Item = String> {
        let legacy = self.broken_in_legacy();
        let legacy = legacy.map(|(name, key)| unreadable_in(name, key));
        self.unreadable.values().cloned().chain(legacy)
    }

    fn broken_in_legacy(&self) -> impl Iterator<Item = (&String, &ObjectKey)> {
        let all = self.legacy.iter();
        all.flat_map(|(key, names)| names.iter().map(move |name| (name, key)))
    }

    /// Whether a pool was refused or may be missing.
    pub(crate) fn has_doubtful_pools(&self) -> bool {
        self.broken().next().is_some() || self.refused > 0
    }
}

fn unreadable_in(pool: &str, config: &ObjectKey) -> String {
    format!("pool {pool} of ConfigMap {config} cannot be read")
}
