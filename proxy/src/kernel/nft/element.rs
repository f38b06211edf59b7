//! Encodes and decodes elements of sets and maps.
//!
//! A set with a single interval field is a tree of bounds. One element opens a range, and another one with the flag "interval
//! end" closes it just after its last address. A set with several fields holds the first and the last key of each element
//! instead.
//!
//! One address becomes [`Key::Addr`] and several become [`Key::Range`], however they were written. Elements are read back in this
//! form.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ferrolb_api::proxy_config::InterfaceName;
use ferrolb_api::view::Protocol;
use netlink_packet_core::{DefaultNla, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementFlags,
    SetElementList, SetElementMessage,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use super::super::netlink::Request;
use super::super::netlink::attr::address;
use super::super::rule::{Data, Element, Family, Field, Key, SetDef, Value};
use super::atom::verdict_attributes;
use super::encode::Message;

/// `NFTA_DATA_VALUE`.
const DATA_VALUE: u16 = 1;

/// The message that adds (`true`) or deletes an element. `None` if the element does not fit the set.
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
        // Without an end: up to the last possible address.
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
            (Field::Interface, Key::Interface(name)) => {
                first.extend(name.bytes());
                last.extend(name.bytes());
            }
            (Field::Interface, Key::Interfaces(prefix)) => {
                first.extend(prefix.bytes());
                last.extend(filled(*prefix));
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

/// The last name that begins with a prefix.
fn filled(prefix: InterfaceName) -> [u8; InterfaceName::SIZE] {
    prefix.bytes().map(|b| if b == 0 { u8::MAX } else { b })
}

fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// The successor of a big-endian number, with the same length. `None` after the last.
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

/// The predecessor.
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

/// An element from a dump.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Raw {
    pub(super) key: Vec<u8>,
    pub(super) key_end: Option<Vec<u8>>,
    /// Whether it is the end of an interval.
    pub(super) end: bool,
    pub(super) value: Option<Value>,
}

/// The elements of a set from a dump. Anything that cannot be ours (a protocol that no Service has) is omitted.
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
    // At the same key, an end sorts before a start.
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
                Field::Interface => InterfaceName::SIZE,
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
                Field::Interface if a == b => InterfaceName::from_bytes(a).map(Key::Interface),
                Field::Interface => {
                    let prefix = InterfaceName::from_bytes(a).filter(|p| filled(*p) == b);
                    prefix.map(Key::Interfaces)
                }
            }
        })
        .collect()
}
