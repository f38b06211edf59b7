//! Reads the attributes of netlink messages without trusting any length in them (`linux/netlink.h`, `nla_ok`).
//!
//! Everything that the proxy reads from the kernel passes through here. The netlink crates are used only to write. Their parsers
//! decode whole messages, including those of other programs' tables, and some of them index before they check.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::NLA_TYPE_MASK;

/// Length of an attribute's header, and the alignment of attributes.
const HEADER: usize = 4;

/// A message with a length that does not fit its surroundings, or without a mandatory part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// The attributes in a block of bytes, in order: kind (without the flags for nesting and byte order) and value.
///
/// Iteration ends after the first error.
pub(crate) fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes { rest: bytes }
}

/// See [`attributes`].
#[derive(Debug, Clone)]
pub(crate) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let [l0, l1, k0, k1, ..] = *rest else {
            return Some(Err(Malformed("bytes behind the last attribute")));
        };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(value) = rest.get(HEADER..length) else {
            return Some(Err(Malformed("the length of an attribute")));
        };
        // The padding of the last attribute may be missing.
        self.rest = rest.get(length.next_multiple_of(HEADER)..).unwrap_or(&[]);
        let kind = u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK;
        Some(Ok((kind, value)))
    }
}

/// The bytes after a header of `length` bytes.
pub(crate) fn behind(bytes: &[u8], length: usize) -> Result<&[u8], Malformed> {
    bytes.get(length..).ok_or(Malformed("the header"))
}

/// A number in host order. `None` if the value has another length.
pub(crate) fn u16_of(value: &[u8]) -> Option<u16> {
    value.try_into().ok().map(u16::from_ne_bytes)
}

/// A number in host order. `None` if the value has another length.
pub(crate) fn u32_of(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

/// A number in host order. `None` if the value has another length.
pub(crate) fn u64_of(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_ne_bytes)
}

/// A number in network order. `None` if the value has another length.
pub(crate) fn be32_of(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// Text up to its terminating zero. `None` if it is not UTF-8.
pub(crate) fn text(value: &[u8]) -> Option<&str> {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    std::str::from_utf8(value.get(..end)?).ok()
}

/// An address of 4 or 16 bytes.
pub(crate) fn address(value: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(value)
        .map(|b| IpAddr::V4(Ipv4Addr::from(b)))
        .or_else(|_| <[u8; 16]>::try_from(value).map(|b| IpAddr::V6(Ipv6Addr::from(b))))
        .ok()
}
