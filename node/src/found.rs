//! Addresses that turned out to belong to hosts, gateways or subnets on the LAN. A Service gets another address instead, so nobody asks the
//! LAN for the old one any more; it is remembered for a while, or the next Service would get it. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrolb_api::delta::Delta;
use ferrolb_api::ownership::Owner;
use ferrolb_speaker::snapshot::Address;

/// How long an address is remembered after it was last asked for.
const REMEMBERED: Duration = Duration::from_secs(600);
/// The most addresses that are avoided. A host that answers for every address must not send Services through a whole pool.
const MOST: usize = 64;

/// How long an owner must have been found before it is a fact for the whole cluster: members that do not know each other yet take each
/// other for hosts for a moment.
const SURE: Duration = Duration::from_secs(2);

/// The owners, by address.
#[derive(Debug, Default)]
pub(crate) struct Found(BTreeMap<IpAddr, Finding>);

#[derive(Debug)]
struct Finding {
    owner: Owner,
    first: Instant,
    /// Since when nobody asks for the address; `None` while the speaker still finds the owner.
    last: Option<Instant>,
}

/// An owner that came or went.
pub(crate) type News = (IpAddr, Option<Owner>);

impl Found {
    /// Takes in the speaker's news of addresses.
    pub(crate) fn hear(
        &mut self,
        changes: &Delta<IpAddr, Arc<Address>>,
        now: Instant,
    ) -> Vec<News> {
        let mut news = Vec::new();
        for (ip, address) in changes {
            match address
                .as_ref()
                .map(|a| (a.owned.as_ref(), a.owner.is_some()))
            {
                // All other owners are known to those who give addresses.
                Some((
                    Some(
                        owner @ (Owner::Host(_)
                        | Owner::Gateway
                        | Owner::Network(_)
                        | Owner::Broadcast(_)),
                    ),
                    _,
                )) => {
                    let known = self.0.contains_key(ip);
                    if known || self.0.len() < MOST {
                        let finding = self.0.entry(*ip).or_insert_with(|| {
                            news.push((*ip, Some(owner.clone())));
                            Finding {
                                owner: owner.clone(),
                                first: now,
                                last: None,
                            }
                        });
                        finding.last = None;
                        if finding.owner != *owner {
                            finding.owner.clone_from(owner);
                            news.push((*ip, Some(owner.clone())));
                        }
                    }
                }
                // A member announces it, or may do so.
                Some((None, true)) => {
                    if self.0.remove(ip).is_some() {
                        news.push((*ip, None));
                    }
                }
                _ => {
                    if let Some(finding) = self.0.get_mut(ip) {
                        finding.last.get_or_insert(now);
                    }
                }
            }
        }
        news
    }

    /// Forgets owners that were found long ago.
    pub(crate) fn forget(&mut self, now: Instant) -> Vec<News> {
        let is_old = |finding: &mut Finding| {
            let last = finding.last;
            last.is_some_and(|at| now.saturating_duration_since(at) >= REMEMBERED)
        };
        let old = self.0.extract_if(.., |_, finding| is_old(finding));
        old.map(|(ip, _)| (ip, None)).collect()
    }

    /// The owners that are no passing mistake.
    pub(crate) fn sure(&self, now: Instant) -> impl Iterator<Item = (IpAddr, &Owner)> {
        let all = self.0.iter();
        let sure = all.filter(move |(_, finding)| {
            let passed = |at: Instant| at.saturating_duration_since(finding.first) >= SURE;
            // One that nobody asks for any more was found until then.
            passed(finding.last.unwrap_or(now))
        });
        sure.map(|(ip, finding)| (*ip, &finding.owner))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use ferrolb_api::ownership::neighbour::LinkAddress;
    use ferrolb_api::reason::Reason;

    use super::*;

    fn address(ip: IpAddr, owner: Option<&str>, host: Option<u8>) -> Arc<Address> {
        Arc::new(Address {
            address: ip,
            owner: owner.map(str::to_owned),
            interfaces: Vec::new(),
            reason: Reason::NoOwner,
            advertised: Default::default(),
            owned: host.map(|n| Owner::Host(LinkAddress(vec![n]))),
            conflict: None,
        })
    }

    fn news(ip: IpAddr, owner: Option<&str>, host: Option<u8>) -> Delta<IpAddr, Arc<Address>> {
        Delta::from([(ip, Some(address(ip, owner, host)))])
    }

    #[test]
    fn a_host_is_remembered_for_a_while_after_nobody_asks_any_more() {
        let (mut found, ip, now) = (
            Found::default(),
            IpAddr::from([192, 0, 2, 1]),
            Instant::now(),
        );
        let link = Some(Owner::Host(LinkAddress(vec![9])));
        assert_eq!(found.hear(&news(ip, None, Some(9)), now), [(ip, link)]);
        assert_eq!(found.hear(&news(ip, None, Some(9)), now), []);
        assert_eq!(found.forget(now + 2 * REMEMBERED), [], "it was heard last");
        assert_eq!(found.hear(&Delta::from([(ip, None)]), now), []);
        assert_eq!(found.forget(now + REMEMBERED / 2), []);
        assert_eq!(found.forget(now + REMEMBERED), [(ip, None)]);
    }

    #[test]
    fn an_owner_that_was_found_for_a_moment_only_is_not_sure() {
        let (mut found, now) = (Found::default(), Instant::now());
        let (ip, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        found.hear(&news(ip, None, Some(9)), now);
        found.hear(&news(other, None, Some(9)), now);
        found.hear(&Delta::from([(other, None)]), now + SURE / 2);
        assert_eq!(found.sure(now + SURE / 2).count(), 0);
        let sure = |at| found.sure(at).map(|(ip, _)| ip).collect::<Vec<_>>();
        assert_eq!(sure(now + SURE), [ip]);
        assert_eq!(sure(now + 2 * SURE), [ip]);
    }

    #[test]
    fn an_address_that_a_member_announces_is_nobody_elses() {
        let (mut found, ip, now) = (
            Found::default(),
            IpAddr::from([192, 0, 2, 1]),
            Instant::now(),
        );
        found.hear(&news(ip, None, Some(9)), now);
        assert_eq!(found.hear(&news(ip, Some("a"), None), now), [(ip, None)]);
    }

    #[test]
    fn a_host_that_answers_for_everything_does_not_use_up_a_pool() {
        let (mut found, now) = (Found::default(), Instant::now());
        let heard = (0..1000_u32).map(|n| {
            let ip = IpAddr::V4(n.into());
            found.hear(&news(ip, None, Some(9)), now).len()
        });
        assert_eq!(heard.sum::<usize>(), MOST);
    }
}
