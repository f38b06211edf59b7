//! Elements of sets and maps, to netlink and back.
//!
//! A set of one interval part is a tree of bounds: an element opens a range, another one with the flag "interval end" closes it just
//! behind its last address. A set of several parts holds the first and the last key of each element instead.
//!
//! One address is [`Key::Addr`], more are [`Key::Range`], whatever was written: that is the form in which elements are read back.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ferrolb_api::view::Protocol;
use netlink_packet_core::{
    DecodeError, DefaultNla, NLM_F_CREATE, NetlinkDeserializable, NetlinkHeader, NlasIterator,
    Parseable,
};
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementFlags,
    SetElementList, SetElementMessage, VerdictAttribute,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use super::super::netlink::Request;
use super::super::rule::{Data, Element, Family, Field, Key, SetDef, Value};
use super::atom::{verdict_attributes, verdict_from};
use super::encode::Message;

/// `NFTA_SET_ELEM_LIST_ELEMENTS`.
const ELEM_LIST_ELEMENTS: u16 = 3;
/// `NFTA_SET_ELEM_*`.
const ELEM_KEY: u16 = 1;
const ELEM_DATA: u16 = 2;
const ELEM_FLAGS: u16 = 3;
const ELEM_KEY_END: u16 = 10;
/// `NFTA_DATA_*`.
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

/// The message that adds (`true`) or deletes an element; `None` where the element does not fit the set.
pub(super) fn element(table: &str, set: &SetDef, element: &Element, add: bool) -> Option<Message> {
    let (first, last) = bounds(set.key, &element.key)?;
    let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(
        first.clone(),
    ))];
    let mut list = Vec::new();
    if set.interval && set.key.len() > 1 {
        attributes.push(SetElementAttribute::KeyEnd(vec![DefaultNla::new(
            DATA_VALUE,
            last.clone(),
        )]));
    } else if first != last && !set.interval {
        return None;
    }
    match (set.data, element.value) {
        (Some(Data::Verdict), Some(Value::Verdict(verdict))) if add => {
            attributes.push(SetElementAttribute::Data(DataAttribute::Verdict(
                verdict_attributes(verdict),
            )));
        }
        (Some(Data::Mark), Some(Value::Mark(mark))) if add => {
            attributes.push(SetElementAttribute::Data(DataAttribute::Value(
                mark.to_ne_bytes().to_vec(),
            )));
        }
        (None, None) => {}
        _ if !add => {}
        _ => return None,
    }
    list.push(ListAttribute::Element(attributes));
    if set.interval && set.key.len() == 1 {
        // No end: up to the last address there is.
        if let Some(end) = successor(&last) {
            list.push(ListAttribute::Element(vec![
                SetElementAttribute::Flags(SetElementFlags::IntervalEnd),
                SetElementAttribute::Key(DataAttribute::Value(end)),
            ]));
        }
    }
    let message = SetElementMessage {
        attributes: vec![
            SetElementList::Table(table.to_owned()),
            SetElementList::Set(set.name.to_owned()),
            SetElementList::Elements(list),
        ],
    };
    let (flags, message) = if add {
        (NLM_F_CREATE, NfTablesMessage::NewSetElement(message))
    } else {
        (0, NfTablesMessage::DeleteSetElement(message))
    };
    let header = NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0);
    Some(Request::new(flags, NetfilterMessage::new(header, message)))
}

/// First and last key of an element, in bytes.
fn bounds(fields: &[Field], key: &[Key]) -> Option<(Vec<u8>, Vec<u8>)> {
    if fields.len() != key.len() {
        return None;
    }
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for (field, part) in fields.iter().zip(key) {
        match (field, part) {
            (Field::Addr(f), Key::Addr(a)) if Family::of(*a) == *f => {
                first.extend(octets(*a));
                last.extend(octets(*a));
            }
            (Field::Addr(f), Key::Range(a, b))
                if Family::of(*a) == *f && Family::of(*b) == *f && a <= b =>
            {
                first.extend(octets(*a));
                last.extend(octets(*b));
            }
            (Field::Proto, Key::Proto(p)) => {
                first.push(p.number());
                last.push(p.number());
            }
            (Field::Port, Key::Port(p)) => {
                first.extend(p.to_be_bytes());
                last.extend(p.to_be_bytes());
            }
            _ => return None,
        }
        if fields.len() > 1 {
            first.resize(first.len().next_multiple_of(4), 0);
            last.resize(last.len().next_multiple_of(4), 0);
        }
    }
    Some((first, last))
}

fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// The number after a big-endian one, of the same length; `None` after the last.
fn successor(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut next = bytes.to_vec();
    for byte in next.iter_mut().rev() {
        let (sum, carry) = byte.overflowing_add(1);
        *byte = sum;
        if !carry {
            return Some(next);
        }
    }
    None
}

/// The number before.
fn predecessor(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut before = bytes.to_vec();
    for byte in before.iter_mut().rev() {
        let (sum, borrow) = byte.overflowing_sub(1);
        *byte = sum;
        if !borrow {
            return Some(before);
        }
    }
    None
}

/// An element as it comes in a dump.
#[derive(Debug, Default)]
pub(super) struct Raw {
    key: Vec<u8>,
    key_end: Option<Vec<u8>>,
    end: bool,
    data: Option<Vec<u8>>,
    verdict: Option<Vec<VerdictAttribute>>,
    value: Option<Value>,
}

impl Raw {
    /// Looks up what the value means; `chains` are the names that verdicts may have.
    pub(super) fn known(mut self, chains: &[&'static str]) -> Self {
        let verdict = self.verdict.take();
        let mark = self.data.take().and_then(|d| d.try_into().ok());
        self.value = verdict
            .and_then(|v| verdict_from(&v, chains).map(Value::Verdict))
            .or_else(|| mark.map(|m| Value::Mark(u32::from_ne_bytes(m))));
        self
    }
}

/// One message of a dump of elements. The crate's own parser formats the whole message once per element, which makes large sets
/// take minutes; this one reads what is needed and no more.
#[derive(Debug)]
pub(super) struct RawList(pub(super) Vec<Raw>);

impl NetlinkDeserializable for RawList {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let mut out = Vec::new();
        // Behind `struct nfgenmsg`.
        for attribute in NlasIterator::new(payload.get(4..).unwrap_or_default()) {
            let attribute = attribute?;
            if attribute.kind() != ELEM_LIST_ELEMENTS {
                continue;
            }
            for element in NlasIterator::new(attribute.value()) {
                out.push(raw(element?.value())?);
            }
        }
        Ok(Self(out))
    }
}

fn raw(bytes: &[u8]) -> Result<Raw, DecodeError> {
    let mut out = Raw::default();
    for attribute in NlasIterator::new(bytes) {
        let attribute = attribute?;
        match attribute.kind() {
            ELEM_KEY => out.key = data(attribute.value())?.unwrap_or_default(),
            ELEM_KEY_END => out.key_end = data(attribute.value())?,
            ELEM_FLAGS => {
                let flags: Option<[u8; 4]> = attribute.value().try_into().ok();
                out.end = flags.is_some_and(|f| {
                    SetElementFlags::from_bits_retain(u32::from_be_bytes(f))
                        .contains(SetElementFlags::IntervalEnd)
                });
            }
            ELEM_DATA => {
                for inner in NlasIterator::new(attribute.value()) {
                    let inner = inner?;
                    match inner.kind() {
                        DATA_VALUE => out.data = Some(inner.value().to_vec()),
                        DATA_VERDICT => {
                            let verdict = NlasIterator::new(inner.value())
                                .map(|v| VerdictAttribute::parse(&v?))
                                .collect::<Result<_, DecodeError>>()?;
                            out.verdict = Some(verdict);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(out)
}

/// The value in `NFTA_DATA_VALUE`.
fn data(bytes: &[u8]) -> Result<Option<Vec<u8>>, DecodeError> {
    for attribute in NlasIterator::new(bytes) {
        let attribute = attribute?;
        if attribute.kind() == DATA_VALUE {
            return Ok(Some(attribute.value().to_vec()));
        }
    }
    Ok(None)
}

/// The elements of a set from a dump. What cannot be one of ours (a protocol that no Service has) is left out.
pub(super) fn elements(set: &SetDef, mut raws: Vec<Raw>) -> BTreeSet<Element> {
    if !(set.interval && set.key.len() == 1) {
        return raws
            .into_iter()
            .filter_map(|r| {
                let last = r.key_end.as_deref().unwrap_or(&r.key);
                Some(Element {
                    key: key(set.key, &r.key, last)?,
                    value: r.value,
                })
            })
            .collect();
    }
    // An end comes before a beginning at the same place.
    raws.sort_by(|a, b| a.key.cmp(&b.key).then(b.end.cmp(&a.end)));
    let mut out = BTreeSet::new();
    let mut open: Option<Raw> = None;
    for r in raws {
        if !r.end {
            open = Some(r);
            continue;
        }
        if let (Some(first), Some(last)) = (open.take(), predecessor(&r.key)) {
            out.extend(key(set.key, &first.key, &last).map(|key| Element {
                key,
                value: first.value,
            }));
        }
    }
    if let Some(first) = open {
        let last = vec![0xff; first.key.len()];
        out.extend(key(set.key, &first.key, &last).map(|key| Element {
            key,
            value: first.value,
        }));
    }
    out
}

fn key(fields: &[Field], first: &[u8], last: &[u8]) -> Option<Vec<Key>> {
    let mut at = 0;
    fields
        .iter()
        .map(|field| {
            let len = match field {
                Field::Addr(Family::V4) => 4,
                Field::Addr(Family::V6) => 16,
                Field::Proto => 1,
                Field::Port => 2,
            };
            let (a, b) = (first.get(at..at + len)?, last.get(at..at + len)?);
            at = (at + len).next_multiple_of(4);
            match field {
                Field::Addr(_) if a == b => address(a).map(Key::Addr),
                Field::Addr(_) => Some(Key::Range(address(a)?, address(b)?)),
                Field::Proto => [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
                    .into_iter()
                    .find(|p| [p.number()] == *a)
                    .map(Key::Proto),
                Field::Port => Some(Key::Port(u16::from_be_bytes(a.try_into().ok()?))),
            }
        })
        .collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(|b| IpAddr::V4(Ipv4Addr::from(b)))
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(|b| IpAddr::V6(Ipv6Addr::from(b))))
        .ok()
}
