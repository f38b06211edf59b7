//! Warns about pools with addresses that no Service gets, because they belong to somebody else.

use ferrolb_api::ownership::{Owner, Ownership};
use ferrolb_api::problem::{Cause, Consequence, Problem, Subject};

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
