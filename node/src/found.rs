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

/// The owners, and since when nobody asks for the address; `None` while the speaker still finds the owner.
#[derive(Debug, Default)]
pub(crate) struct Found(BTreeMap<IpAddr, (Owner, Option<Instant>)>);

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
                        let before = self.0.insert(*ip, (owner.clone(), None));
                        if before.is_none_or(|(old, _)| old != *owner) {
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
                    if let Some((_, since)) = self.0.get_mut(ip) {
                        since.get_or_insert(now);
                    }
                }
            }
        }
        news
    }

    /// Forgets owners that were found long ago.
    pub(crate) fn forget(&mut self, now: Instant) -> Vec<News> {
        let is_old = |since: &Option<Instant>| {
            since.is_some_and(|at| now.saturating_duration_since(at) >= REMEMBERED)
        };
        let old = self.0.extract_if(.., |_, (_, since)| is_old(since));
        old.map(|(ip, _)| (ip, None)).collect()
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
