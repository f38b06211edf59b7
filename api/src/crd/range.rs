//! Ranges of addresses: parses MetalLB's notation (`192.0.2.0/28`, `192.0.2.10-192.0.2.20`) and indexes the addresses in a range.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::AddressRange;
use crate::quote::quoted;
use crate::{Family, address};

/// Why a text is not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// It is neither a CIDR nor a range.
    #[error("{0} is neither a CIDR (192.0.2.0/28) nor a range (192.0.2.10-192.0.2.20)")]
    Form(String),
    /// A single address.
    #[error("{text} is a single address: write {cidr}")]
    Single {
        /// The text.
        text: String,
        /// The same address as a CIDR.
        cidr: String,
    },
    /// The prefix length is not a number or is too long.
    #[error("{0} has no usable prefix length: use /0 to /32 for IPv4, /0 to /128 for IPv6")]
    Prefix(String),
    /// The first address comes after the last.
    #[error("{text} runs backwards: write {first}-{last}")]
    Backwards {
        /// The text.
        text: String,
        /// The lower address.
        first: IpAddr,
        /// The higher address.
        last: IpAddr,
    },
    /// One end is IPv4, the other IPv6.
    #[error("{0} mixes IPv4 and IPv6: write one range per family")]
    MixedFamilies(String),
    /// It contains loopback, multicast or unspecified addresses.
    #[error("{text} holds {address}, which no Service can have: leave it out")]
    Unusable {
        /// The text.
        text: String,
        /// The first of these addresses.
        address: IpAddr,
    },
}

/// Addresses that must never be announced on a LAN.
const UNUSABLE: [AddressRange; 6] = [
    v4([0, 0, 0, 0], [0, 255, 255, 255]),
    v4([127, 0, 0, 0], [127, 255, 255, 255]),
    v4([224, 0, 0, 0], [255, 255, 255, 255]),
    v6(0, 1),
    v6(0xffff_0000_0000, 0xffff_ffff_ffff),
    v6(0xff << 120, u128::MAX),
];

const fn v4(first: [u8; 4], last: [u8; 4]) -> AddressRange {
    let [a, b, c, d] = first;
    let [e, f, g, h] = last;
    AddressRange {
        first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        last: IpAddr::V4(Ipv4Addr::new(e, f, g, h)),
    }
}

const fn v6(first: u128, last: u128) -> AddressRange {
    AddressRange {
        first: IpAddr::V6(Ipv6Addr::from_bits(first)),
        last: IpAddr::V6(Ipv6Addr::from_bits(last)),
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

impl AddressRange {
    /// Parses a CIDR (bits beyond the prefix are cleared) or a range.
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        let trimmed = text.trim();
        let form = || RangeError::Form(quoted(text));
        let range = if let Some((first, last)) = trimmed.split_once('-') {
            let (Some(first), Some(last)) = (address::parse(first), address::parse(last)) else {
                return Err(form());
            };
            if first.is_ipv4() != last.is_ipv4() {
                return Err(RangeError::MixedFamilies(quoted(text)));
            }
            if first > last {
                return Err(RangeError::Backwards {
                    text: quoted(text),
                    first: last,
                    last: first,
                });
            }
            Self { first, last }
        } else if let Some((address, _)) = trimmed.split_once('/') {
            if address::parse(address).is_none() {
                return Err(form());
            }
            let net =
                address::parse_net(trimmed).ok_or_else(|| RangeError::Prefix(quoted(text)))?;
            // In both families, ipnet's `network` and `broadcast` are the lowest and the highest address.
            Self {
                first: net.network(),
                last: net.broadcast(),
            }
        } else if let Some(address) = address::parse(trimmed) {
            return Err(RangeError::Single {
                text: quoted(text),
                cidr: format!("{address}/{}", Family::of(address).bits()),
            });
        } else {
            return Err(form());
        };
        match UNUSABLE.iter().find(|u| u.overlaps(&range)) {
            Some(unusable) => Err(RangeError::Unusable {
                text: quoted(text),
                address: unusable.first.max(range.first),
            }),
            None => Ok(range),
        }
    }

    /// The family of the addresses.
    pub fn family(&self) -> Family {
        Family::of(self.first)
    }

    /// Whether the range contains the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.first <= address && address <= self.last
    }

    /// The number of addresses. For all of IPv6 it is one too low, because the true number does not fit.
    pub fn len(&self) -> u128 {
        number(self.last)
            .saturating_sub(number(self.first))
            .saturating_add(1)
    }

    /// Always false: a range has at least one address.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The address at this offset from the first.
    pub fn nth(&self, index: u128) -> Option<IpAddr> {
        let at = number(self.first).checked_add(index)?;
        if at > number(self.last) {
            return None;
        }
        match self.first {
            IpAddr::V4(_) => u32::try_from(at)
                .ok()
                .map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
            IpAddr::V6(_) => Some(IpAddr::V6(Ipv6Addr::from_bits(at))),
        }
    }

    /// The addresses, lowest first, generated lazily.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let range = *self;
        (0..=u128::MAX).map_while(move |i| range.nth(i))
    }

    /// Whether the two ranges have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.family() == other.family() && self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for AddressRange {
    /// `first-last`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl std::str::FromStr for AddressRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        Self::parse(text)
    }
}
