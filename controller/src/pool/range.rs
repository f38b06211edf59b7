//! Sets of addresses stored as runs, so that the lowest free address of a pool is found without walking the pool.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address after this one, within its family.
pub fn next(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(a) => a
            .to_bits()
            .checked_add(1)
            .map(|b| Ipv4Addr::from_bits(b).into()),
        IpAddr::V6(a) => a
            .to_bits()
            .checked_add(1)
            .map(|b| Ipv6Addr::from_bits(b).into()),
    }
}

/// The address before this one, within its family.
pub fn previous(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(a) => a
            .to_bits()
            .checked_sub(1)
            .map(|b| Ipv4Addr::from_bits(b).into()),
        IpAddr::V6(a) => a
            .to_bits()
            .checked_sub(1)
            .map(|b| Ipv6Addr::from_bits(b).into()),
    }
}

/// Whether old firmware mistakes the address for a network or broadcast address (`avoidBuggyIPs`): IPv4, ends in 0 or 255.
pub fn is_buggy(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(a) if matches!(a.octets(), [.., 0 | 255]))
}

/// A set of addresses, stored as maximal runs. Every operation is logarithmic in the number of runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Runs {
    /// First address of a run -> its last.
    runs: BTreeMap<IpAddr, IpAddr>,
}

impl Runs {
    fn run_of(&self, ip: IpAddr) -> Option<(IpAddr, IpAddr)> {
        let (first, last) = self.runs.range(..=ip).next_back()?;
        (ip <= *last).then_some((*first, *last))
    }

    /// Whether the address is in the set.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.run_of(ip).is_some()
    }

    /// Adds an address.
    pub fn insert(&mut self, ip: IpAddr) {
        if self.contains(ip) {
            return;
        }
        let first = previous(ip)
            .and_then(|p| self.run_of(p))
            .map_or(ip, |(first, _)| first);
        let last = next(ip).and_then(|n| self.runs.remove(&n)).unwrap_or(ip);
        self.runs.insert(first, last);
    }

    /// Removes an address.
    pub fn remove(&mut self, ip: IpAddr) {
        let Some((first, last)) = self.run_of(ip) else {
            return;
        };
        self.runs.remove(&first);
        if let Some(before) = previous(ip).filter(|_| first < ip) {
            self.runs.insert(first, before);
        }
        if let Some(after) = next(ip).filter(|_| ip < last) {
            self.runs.insert(after, last);
        }
    }

    /// The lowest address from `first` to `last` that is not in the set and that `usable` accepts. `usable` is called only for
    /// addresses outside the set. If it refuses one, it names the last address that it refuses for the same reason.
    pub fn first_free(
        &self,
        first: IpAddr,
        last: IpAddr,
        usable: impl Fn(IpAddr) -> Result<(), IpAddr>,
    ) -> Option<IpAddr> {
        let mut at = first;
        loop {
            if let Some((_, end)) = self.run_of(at) {
                at = next(end)?;
            }
            if at > last || at.is_ipv4() != last.is_ipv4() {
                return None;
            }
            if !self.contains(at) {
                match usable(at) {
                    Ok(()) => return Some(at),
                    Err(until) => at = next(until.max(at))?,
                }
            }
        }
    }
}
