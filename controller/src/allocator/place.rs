//! Finds addresses for one request, in MetalLB's order: the requested addresses, the requested pool, the pools pinned to the
//! Service, the open pools.

use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_api::crd::IpAddressPool;
use ferrolb_api::ownership::Owner;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::Service;

use super::ground::Ground;
use super::request::{
    FAMILIES_FIELD, FAMILY_FIELD, Families, Family, POOL_FIELD, Request, Source, V4, V6, list,
};
use crate::desired::Outcome;
use crate::pool::Pools;
use crate::pool::eligible::{Namespaces, automatic, may_use, unknown_namespace};
use crate::pool::range::is_buggy;
use crate::pool::sharing::Terms;
use crate::state::State;

/// A Service that needs addresses.
pub(super) struct Seeker<'a> {
    pub(super) key: &'a ObjectKey,
    pub(super) service: &'a Service,
    pub(super) terms: &'a Terms,
    pub(super) request: &'a Request,
    /// Its current addresses: preferred if they fit.
    pub(super) old: &'a [IpAddr],
}

impl Seeker<'_> {
    /// The chosen addresses and their pool, or why there are none.
    pub(super) fn place(&self, ground: Ground<'_>) -> Result<(Vec<IpAddr>, String), Outcome> {
        let pools = ground.state.pools();
        if pools.is_empty() {
            return Err(Outcome::new(Reason::NoPool, "", ground.state.no_pool()));
        }
        match &self.request.source {
            Source::Addresses(asked, pool) => self.exactly(asked, pool.as_deref(), ground),
            Source::Pool(name) => {
                let pool = self.named(name, ground.state)?;
                self.any_of(&[pool], ground).ok_or_else(|| {
                    let text = format!("pool {name} has no address left for it: extend the pool");
                    self.exhausted(&[pool], text)
                })
            }
            Source::Any => {
                let open = automatic(pools, self.service, ground.state.namespaces());
                if open.is_empty() {
                    return Err(Outcome::new(
                        Reason::PoolExhausted,
                        "",
                        "every pool is reserved for other Services or has autoAssign: false: ask for a pool by the annotation metallb.io/address-pool, or add one",
                    ));
                }
                self.any_of(&open, ground).ok_or_else(|| {
                    let names: Vec<&str> = open.iter().map(|p| p.key.name.as_str()).collect();
                    let names = names.join(", ");
                    let text = format!("no address is left for it in {names}: extend a pool");
                    self.exhausted(&open, text)
                })
            }
        }
    }

    fn exhausted(&self, pools: &[&IpAddressPool], message: String) -> Outcome {
        let has = |family| {
            let ranges = pools.iter().flat_map(|p| &p.ranges);
            ranges.map(|r| Family::of(r.first)).any(|f| f == family)
        };
        match self.request.families {
            Families::One(family) if !has(family) => {
                let names: Vec<&str> = pools.iter().map(|p| p.key.name.as_str()).collect();
                Outcome::new(
                    Reason::PoolExhausted,
                    FAMILIES_FIELD,
                    format!(
                        "it needs an {family} address, and no range of {} is {family}: add one, or set spec.ipFamilies of the Service",
                        names.join(", ")
                    ),
                )
            }
            Families::Both => Outcome::new(
                Reason::PoolExhausted,
                FAMILY_FIELD,
                format!("{message}; it needs an IPv4 and an IPv6 address of one pool"),
            ),
            _ => Outcome::new(Reason::PoolExhausted, self.request.field, message),
        }
    }

    fn named<'p>(&self, name: &str, state: &'p State) -> Result<&'p IpAddressPool, Outcome> {
        let Some(pool) = state.pools().get(name) else {
            let text = match state.why_not(name) {
                Some(why) => format!("it asks for pool {name}, but {why}: correct it"),
                None => format!(
                    "it asks for pool {name}, which does not exist: name one that does, or add it"
                ),
            };
            return Err(Outcome::new(Reason::UnknownPool, POOL_FIELD, text));
        };
        let namespaces = state.namespaces();
        if !may_use(pool, self.service, namespaces) {
            let unknown = unknown_namespace(pool, self.service, namespaces);
            let why = unknown.unwrap_or_else(|| "change one of them".to_owned());
            return Err(Outcome::new(
                Reason::OutsidePools,
                POOL_FIELD,
                format!("it asks for pool {name}, whose serviceAllocation leaves it out: {why}"),
            ));
        }
        Ok(pool)
    }

    fn exactly(
        &self,
        asked: &[IpAddr],
        from: Option<&str>,
        ground: Ground<'_>,
    ) -> Result<(Vec<IpAddr>, String), Outcome> {
        let pools = ground.state.pools();
        let from = from
            .map(|name| self.named(name, ground.state))
            .transpose()?;
        let mut home: Option<&IpAddressPool> = None;
        for ip in asked {
            let refuse = |reason, why: String| {
                Err(Outcome::new(
                    reason,
                    self.request.field,
                    format!("it asks for {ip}, {why}"),
                ))
            };
            let Some(pool) = pools.containing(*ip) else {
                return refuse(
                    Reason::OutsidePools,
                    "which is in no pool: add it to one, or ask for another address".into(),
                );
            };
            let name = &pool.key.name;
            if from.is_some_and(|f| f.key.name != *name)
                || home.is_some_and(|h| h.key.name != *name)
            {
                return refuse(
                    Reason::OutsidePools,
                    format!(
                        "which is in pool {name}, not in the one that the rest of the request is for: ask for addresses of one pool"
                    ),
                );
            }
            if !may_use(pool, self.service, ground.state.namespaces()) {
                return refuse(
                    Reason::OutsidePools,
                    format!(
                        "but the serviceAllocation of pool {name} leaves it out: change one of them"
                    ),
                );
            }
            if pool.avoid_buggy_ips && is_buggy(*ip) {
                return refuse(
                    Reason::OutsidePools,
                    format!(
                        "which pool {name} leaves out by avoidBuggyIPs: ask for one that ends in neither 0 nor 255"
                    ),
                );
            }
            let owner = match self.old.contains(ip) {
                true => ground.evicts(*ip),
                false => ground.refuses(*ip, self.key),
            };
            if let Some(owner) = owner {
                return refuse(
                    Reason::AddressOwned,
                    format!("which belongs to {owner}: ask for another address"),
                );
            }
            if let Some((reason, holder)) = ground.index.clash(*ip, self.key, self.terms) {
                return refuse(reason, why(reason, holder));
            }
            home = Some(pool);
        }
        let pool = home.map(|p| p.key.name.clone()).unwrap_or_default();
        Ok((asked.to_vec(), pool))
    }

    /// The owner that keeps the Service from having the address.
    fn bars(&self, ip: IpAddr, ground: Ground<'_>) -> Option<Owner> {
        match self.old.contains(&ip) {
            true => ground.evicts(ip),
            false => ground.bars(ip, self.key, self.terms),
        }
    }

    fn any_of(
        &self,
        pools: &[&IpAddressPool],
        ground: Ground<'_>,
    ) -> Option<(Vec<IpAddr>, String)> {
        [true, false]
            .into_iter()
            .find_map(|spare| self.any_of_sparing(pools, ground, spare))
    }

    fn any_of_sparing(
        &self,
        pools: &[&IpAddressPool],
        ground: Ground<'_>,
        spare: bool,
    ) -> Option<(Vec<IpAddr>, String)> {
        let choices: &[&[Family]] = match self.request.families {
            Families::One(f) if f == V4 => &[&[V4]],
            Families::One(_) => &[&[V6]],
            Families::Both => &[&[V4, V6]],
            Families::Prefer(f) if f == V4 => &[&[V4, V6], &[V4], &[V6]],
            Families::Prefer(_) => &[&[V6, V4], &[V6], &[V4]],
        };
        choices.iter().find_map(|families| {
            pools.iter().find_map(|pool| {
                let found: Option<Vec<IpAddr>> = families
                    .iter()
                    .map(|f| self.one_of(pool, *f, ground, spare))
                    .collect();
                found.map(|ips| (ips, pool.key.name.clone()))
            })
        })
    }

    fn one_of(
        &self,
        pool: &IpAddressPool,
        family: Family,
        ground: Ground<'_>,
        spare: bool,
    ) -> Option<IpAddr> {
        let has = self.old.iter().copied().find(|ip| {
            Family::of(*ip) == family
                && pool.ranges.iter().any(|r| r.first <= *ip && *ip <= r.last)
                && !(pool.avoid_buggy_ips && is_buggy(*ip))
                && ground.evicts(*ip).is_none()
                && ground.index.clash(*ip, self.key, self.terms).is_none()
        });
        has.or_else(|| {
            let bars = |ip| self.bars(ip, ground);
            let index = ground.index;
            index.find(pool, family, self.key, self.terms, spare, bars)
        })
    }
}

fn why(reason: Reason, holder: &ObjectKey) -> String {
    match reason {
        Reason::PortClash => format!(
            "where Service {holder} has the same port and protocol: change the port, or ask for another address"
        ),
        Reason::SharingMismatch => format!(
            "which Service {holder} has: to share it both need externalTrafficPolicy Cluster, or Local with the same selector"
        ),
        _ => format!(
            "which Service {holder} has: give both the same annotation metallb.io/allow-shared-ip, or ask for another address"
        ),
    }
}

/// Whether the Service's addresses satisfy its request and the current pools.
pub(super) fn satisfied(
    request: &Request,
    service: &Service,
    old: &[IpAddr],
    pools: &Pools,
    namespaces: &Namespaces,
) -> bool {
    let mut homes = old.iter().map(|ip| pools.containing(*ip));
    let Some(Some(home)) = homes.next() else {
        return false;
    };
    let one_home = homes.all(|p| p.is_some_and(|p| p.key.name == home.key.name));
    let asked_for = match &request.source {
        Source::Addresses(asked, pool) => {
            asked.len() == old.len()
                && asked.iter().all(|ip| old.contains(ip))
                && pool.as_ref().is_none_or(|p| *p == home.key.name)
        }
        Source::Pool(name) => *name == home.key.name,
        Source::Any => true,
    };
    let buggy = home.avoid_buggy_ips && old.iter().any(|ip| is_buggy(*ip));
    one_home
        && asked_for
        && !buggy
        && request.families.fit(old)
        && may_use(home, service, namespaces)
}

/// Adds to a message which addresses the Service keeps, and which of them is of no use because it belongs to somebody else.
pub(super) fn keeps(
    outcome: Outcome,
    old: &[IpAddr],
    evicted: Option<&(IpAddr, Owner)>,
) -> Outcome {
    if old.is_empty() {
        return outcome;
    }
    let mut message = format!("{}; until then it keeps {}", outcome.message, list(old));
    message += &match evicted {
        // A request for that address has said whose it is.
        Some(_) if outcome.reason == Reason::AddressOwned => ", which is not announced".to_owned(),
        Some((ip, owner)) => format!(", but {ip} belongs to {owner} and is not announced"),
        None => String::new(),
    };
    Outcome { message, ..outcome }
}
