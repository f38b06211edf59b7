//! Objects of nf_tables from a dump (`linux/netfilter/nf_tables.h`), only the parts that are used.
//!
//! Nothing inside an object is read until its table is known to be ours: other tables may hold anything. Reading no more than
//! needed also keeps large sets fast.

use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{InetHookNumber, SetElementFlags, SetFlags};

use super::super::netlink::attr::{Malformed, attributes, be32_of, behind, text};
use super::atom::verdict_from;
use super::element::Raw;
use super::read::{BaseHook, SetKind};
use super::rules::fingerprint_in;
use crate::kernel::rule::Value;

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEW...`.
pub(super) const NEW_CHAIN: u16 = 0x0a03;
pub(super) const NEW_RULE: u16 = 0x0a06;
pub(super) const NEW_SET: u16 = 0x0a09;
pub(super) const NEW_ELEMENT: u16 = 0x0a0c;
/// Length of `struct nfgenmsg`.
pub(super) const HEADER: usize = 4;
/// `NFTA_*_TABLE`: the same in all objects.
pub(super) const TABLE: u16 = 1;
/// `NFTA_SET_*`.
pub(super) const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_DATA_TYPE: u16 = 6;
/// `NFTA_CHAIN_*`, `NFTA_HOOK_*`.
pub(super) const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
pub(super) const CHAIN_USE: u16 = 6;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
/// `NFTA_RULE_*`.
pub(super) const RULE_CHAIN: u16 = 2;
const RULE_USERDATA: u16 = 7;
/// `NFTA_GEN_ID`.
pub(super) const GEN_ID: u16 = 1;
/// `NFTA_SET_ELEM_LIST_ELEMENTS`, `NFTA_SET_ELEM_*`.
pub(super) const LIST_ELEMENTS: u16 = 3;
pub(super) const ELEM_KEY: u16 = 1;
pub(super) const ELEM_DATA: u16 = 2;
pub(super) const ELEM_FLAGS: u16 = 3;
const ELEM_KEY_END: u16 = 10;
/// `NFTA_DATA_*`, `NFTA_VERDICT_*`.
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// A chain in the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ChainFound {
    pub(super) name: String,
    /// The hook, for a base chain.
    pub(super) hook: Option<BaseHook>,
    /// How many references it has.
    pub(super) uses: Option<u32>,
}

/// The attributes of an object after its header, if it is in our table; otherwise `None`.
fn ours<'a>(payload: &'a [u8], table: &str) -> Result<Option<&'a [u8]>, Malformed> {
    let inet = u8::from(NetfilterProtoFamily::Inet);
    let block = behind(payload, HEADER)?;
    for attribute in attributes(block) {
        let (kind, value) = attribute?;
        if kind == TABLE {
            let ours = payload.first() == Some(&inet) && text(value) == Some(table);
            return Ok(ours.then_some(block));
        }
    }
    Ok(None)
}

fn owned(value: &[u8]) -> Option<String> {
    text(value).map(str::to_owned)
}

/// The generation of the ruleset.
pub(super) fn generation(payload: &[u8]) -> Result<Option<u32>, Malformed> {
    let mut id = None;
    for attribute in attributes(behind(payload, HEADER)?) {
        let (kind, value) = attribute?;
        if kind == GEN_ID {
            id = be32_of(value);
        }
    }
    Ok(id)
}

/// A set of `table`.
pub(super) fn set(payload: &[u8], table: &str) -> Result<Option<(String, SetKind)>, Malformed> {
    let Some(block) = ours(payload, table)? else {
        return Ok(None);
    };
    let (mut name, mut flags, mut key, mut data) = (None, SetFlags::empty(), 0, None);
    for attribute in attributes(block) {
        let (kind, value) = attribute?;
        match kind {
            SET_NAME => name = owned(value),
            SET_FLAGS => flags = SetFlags::from_bits_retain(be32_of(value).unwrap_or(0)),
            SET_KEY_TYPE => key = be32_of(value).unwrap_or(0),
            SET_DATA_TYPE => data = be32_of(value),
            _ => {}
        }
    }
    Ok(name.map(|n| (n, (flags, key, data))))
}

/// A chain of `table`.
pub(super) fn chain(payload: &[u8], table: &str) -> Result<Option<ChainFound>, Malformed> {
    let Some(block) = ours(payload, table)? else {
        return Ok(None);
    };
    let (mut name, mut number, mut priority, mut uses) = (None, None, 0, None);
    let mut type_name = String::new();
    for attribute in attributes(block) {
        let (kind, value) = attribute?;
        match kind {
            CHAIN_NAME => name = owned(value),
            CHAIN_TYPE => type_name = owned(value).unwrap_or_default(),
            CHAIN_USE => uses = be32_of(value),
            CHAIN_HOOK => {
                for inner in attributes(value) {
                    let (kind, value) = inner?;
                    match kind {
                        HOOK_NUMBER => number = be32_of(value).map(InetHookNumber::from),
                        HOOK_PRIORITY => priority = be32_of(value).unwrap_or(0).cast_signed(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(name.map(|name| ChainFound {
        name,
        hook: number.map(|n| (n, priority, type_name)),
        uses,
    }))
}

/// A rule of `table`: its chain, and its fingerprint if it is one of ours.
pub(super) fn rule(
    payload: &[u8],
    table: &str,
) -> Result<Option<(String, Option<u64>)>, Malformed> {
    let Some(block) = ours(payload, table)? else {
        return Ok(None);
    };
    let (mut chain, mut mark) = (None, None);
    for attribute in attributes(block) {
        let (kind, value) = attribute?;
        match kind {
            RULE_CHAIN => chain = owned(value),
            RULE_USERDATA => mark = fingerprint_in(value),
            _ => {}
        }
    }
    Ok(chain.map(|c| (c, mark)))
}

/// The elements in one message of a dump. `chains` lists the chain names that verdicts may have.
pub(super) fn element_list(
    payload: &[u8],
    table: &str,
    chains: &[&'static str],
) -> Result<Vec<Raw>, Malformed> {
    let mut out = Vec::new();
    let Some(block) = ours(payload, table)? else {
        return Ok(out);
    };
    for attribute in attributes(block) {
        let (kind, value) = attribute?;
        if kind == LIST_ELEMENTS {
            for element in attributes(value) {
                out.push(raw(element?.1, chains)?);
            }
        }
    }
    Ok(out)
}

fn raw(bytes: &[u8], chains: &[&'static str]) -> Result<Raw, Malformed> {
    let mut out = Raw::default();
    for attribute in attributes(bytes) {
        let (kind, value) = attribute?;
        match kind {
            ELEM_KEY => out.key = data(value)?.unwrap_or_default().to_vec(),
            ELEM_KEY_END => out.key_end = data(value)?.map(<[u8]>::to_vec),
            ELEM_FLAGS => {
                let flags = SetElementFlags::from_bits_retain(be32_of(value).unwrap_or(0));
                out.end = flags.contains(SetElementFlags::IntervalEnd);
            }
            ELEM_DATA => {
                for inner in attributes(value) {
                    let (kind, value) = inner?;
                    match kind {
                        DATA_VALUE => {
                            let mark = value.try_into().ok().map(u32::from_ne_bytes);
                            out.value = mark.map(Value::Mark);
                        }
                        DATA_VERDICT => out.value = verdict(value, chains)?,
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
fn data(bytes: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    for attribute in attributes(bytes) {
        let (kind, value) = attribute?;
        if kind == DATA_VALUE {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn verdict(bytes: &[u8], chains: &[&'static str]) -> Result<Option<Value>, Malformed> {
    let (mut code, mut chain) = (None, None);
    for attribute in attributes(bytes) {
        let (kind, value) = attribute?;
        match kind {
            VERDICT_CODE => code = be32_of(value),
            VERDICT_CHAIN => chain = text(value),
            _ => {}
        }
    }
    let chain = chain.and_then(|name| chains.iter().copied().find(|c| *c == name));
    let verdict = code.and_then(|code| verdict_from(code, chain));
    Ok(verdict.map(Value::Verdict))
}
