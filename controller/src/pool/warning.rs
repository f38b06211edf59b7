//! Warns about pools with addresses that no Service gets, because they belong to somebody else, and about advertisements of pools
//! that are not there.

use ferrolb_api::crd::L2Advertisement;
use ferrolb_api::near::nearest;
use ferrolb_api::object::Kind;
use ferrolb_api::ownership::{Owner, Ownership};
use ferrolb_api::problem::{Cause, Consequence, Problem, Subject};
use ferrolb_api::quote::quoted;

use super::{Offer, Pools};

/// The most owners that a warning names. After them, it gives the number of the remaining ones.
const NAMED: usize = 4;

impl Pools {
    /// The warnings, one for each pool.
    pub(crate) fn warnings(&self, ownership: &Ownership) -> Vec<Problem> {
        let offers = self.by_name.values();
        offers.filter_map(|o| warning(o, ownership)).collect()
    }
}

impl Pools {
    /// The pools that an advertisement names and that are not in force.
    pub(crate) fn unknown(&self, advertisement: &L2Advertisement) -> impl Iterator<Item = Problem> {
        let named = advertisement.pools.iter().enumerate();
        let absent = named.filter(|(_, name)| !self.by_name.contains_key(*name));
        absent.map(|(i, name)| {
            let refused = self.refused.iter().any(|p| p.key.name == *name);
            let known: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
            let text = match nearest(name, &known) {
                _ if refused => format!("pool {} is refused, so it is not announced", quoted(name)),
                Some(near) => format!("there is no pool {}: is {near} meant?", quoted(name)),
                None => format!(
                    "there is no pool {}: add it, or name another one",
                    quoted(name)
                ),
            };
            let subject = Subject::object_of(Kind::L2Advertisement, advertisement.key.clone());
            let problem = Problem::new(subject, Cause::Invalid { text });
            let problem = problem.field(format!("spec.ipAddressPools[{i}]"));
            problem.so(Consequence::Partial)
        })
    }
}

fn warning(offer: &Offer, ownership: &Ownership) -> Option<Problem> {
    let owned: Vec<String> = offer
        .pool
        .ranges
        .iter()
        .flat_map(|range| ownership.within(range))
        .map(|(what, owner)| match owner {
            Owner::ServiceRange(_) | Owner::PodRange(_) => format!("{what} overlaps {owner}"),
            _ => format!("{what} belongs to {owner}"),
        })
        .collect();
    let mut named = owned.iter().take(NAMED).cloned().collect::<Vec<_>>();
    match owned.len() {
        0 => return None,
        n if n > NAMED => named.push(format!("{} more belong to somebody else", n - NAMED)),
        _ => {}
    }
    let text = format!(
        "{}. No Service gets these addresses: take them out of the pool",
        named.join(", ")
    );
    let (kind, key) = offer.object.clone();
    let problem = Problem::new(Subject::object_of(kind, key), Cause::Pool { text });
    let problem = problem.field(offer.field.clone());
    Some(problem.so(Consequence::Partial))
}
