//! Lowers statements to the expressions of `nf_tables`, register by register.
//!
//! The order and the registers are those that `nft` itself would choose, so `nft list` can print the rules in its own syntax. The
//! numbers are from `linux/netfilter/nf_tables.h`. Concatenated keys fill 32-bit registers from the first one on.

use ferrolb_api::proxy_config::InterfaceName;
use netlink_packet_netfilter::nftables::{MetaKey, Operator};

use super::super::rule::{Family, Selector, Statement};
use super::atom::{
    Expression, REG32, be32, bitwise, compare, ct, equal, immediate, lookup, meta, other, payload,
    register, reject, set_mark,
};

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const IPPROTO_ICMP: u8 = 1;
const IPPROTO_ICMPV6: u8 = 58;
/// `NFT_PAYLOAD_NETWORK_HEADER` and `NFT_PAYLOAD_TRANSPORT_HEADER`.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// `NFT_CT_*`.
const CT_STATE: u32 = 0;
const CT_PROTO_DST: u32 = 12;
const CT_DST_IP: u32 = 20;
const CT_DST_IP6: u32 = 22;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`, in host order.
const STATE_NEW: u32 = 8;
/// `RTN_LOCAL`.
const RTN_LOCAL: u32 = 2;

/// A set inside one rule (`icmp type { ... }`).
pub(super) struct AnonymousSet {
    /// Its number in the transaction.
    pub(super) id: u32,
    /// `nft`'s type number of its keys.
    pub(super) key_type: u32,
    /// Its elements, one byte each.
    pub(super) keys: &'static [u8],
}

/// A rule in the kernel's form.
pub(super) struct Lowered {
    pub(super) expressions: Vec<Expression>,
    pub(super) sets: Vec<AnonymousSet>,
}

/// Lowers the statements of a rule. Its anonymous sets are numbered from `id` on.
pub(super) fn lower(statements: &[Statement], mut id: u32) -> Lowered {
    let mut out = Vec::new();
    let mut sets = Vec::new();
    // A family that was matched once need not be matched again in the same rule.
    let mut known: Option<Family> = None;
    let family = |f: Family, out: &mut Vec<Expression>, known: &mut Option<Family>| {
        if *known != Some(f) {
            *known = Some(f);
            out.push(meta(MetaKey::Nfproto, REG32));
            out.push(equal(vec![nfproto(f)]));
        }
    };
    let l4proto = |number: u8, out: &mut Vec<Expression>| {
        out.push(meta(MetaKey::L4Proto, REG32));
        out.push(equal(vec![number]));
    };
    for statement in statements {
        match *statement {
            Statement::Family(f) => family(f, &mut out, &mut known),
            Statement::L4Proto(protocol) => l4proto(protocol.number(), &mut out),
            Statement::StateNew(true) => {
                out.push(ct(CT_STATE, REG32, false));
                out.push(bitwise(STATE_NEW, 0));
                out.push(compare(Operator::NotEqual, vec![0; 4]));
            }
            Statement::StateNew(false) => {
                out.push(ct(CT_STATE, REG32, false));
                out.push(compare(
                    Operator::NotEqual,
                    STATE_NEW.to_ne_bytes().to_vec(),
                ));
            }
            Statement::InSet(key, set, positive) => {
                if let Some(f) = implied(key) {
                    family(f, &mut out, &mut known);
                }
                load(key, &mut out);
                out.push(lookup(set, None, None, !positive));
            }
            Statement::SourceIsLocal => {
                out.push(other(
                    "fib",
                    vec![be32(1, register(REG32)), be32(2, 3), be32(3, 1)],
                ));
                out.push(equal(RTN_LOCAL.to_ne_bytes().to_vec()));
            }
            Statement::OutputInterface(name) => {
                out.push(meta(MetaKey::Oifname, REG32));
                let mut bytes = name.as_bytes().to_vec();
                bytes.resize(InterfaceName::SIZE, 0);
                out.push(equal(bytes));
            }
            Statement::Icmp(types) | Statement::Icmpv6(types) => {
                let v4 = matches!(statement, Statement::Icmp(_));
                let (f, number, key_type) = if v4 {
                    (Family::V4, IPPROTO_ICMP, super::encode::TYPE_ICMP)
                } else {
                    (Family::V6, IPPROTO_ICMPV6, super::encode::TYPE_ICMPV6)
                };
                family(f, &mut out, &mut known);
                l4proto(number, &mut out);
                out.push(payload(TRANSPORT, 0, 1, REG32));
                out.push(lookup("__set%d", Some(id), None, false));
                sets.push(AnonymousSet {
                    id,
                    key_type,
                    keys: types,
                });
                id = id.wrapping_add(1);
            }
            Statement::VerdictMap(key, map) => {
                if let Some(f) = implied(key) {
                    family(f, &mut out, &mut known);
                }
                load(key, &mut out);
                out.push(lookup(map, None, Some(0), false));
            }
            Statement::MarkFromMap(key, map) => {
                if let Some(f) = implied(key) {
                    family(f, &mut out, &mut known);
                }
                load(key, &mut out);
                out.push(lookup(map, None, Some(register(REG32)), false));
                out.push(set_mark());
            }
            Statement::SetMarkBit(bit) => {
                out.push(meta(MetaKey::Mark, REG32));
                out.push(bitwise(!bit, bit));
                out.push(set_mark());
            }
            Statement::HasMarkBit(bit) => {
                out.push(meta(MetaKey::Mark, REG32));
                out.push(bitwise(bit, 0));
                out.push(compare(Operator::NotEqual, vec![0; 4]));
            }
            Statement::Verdict(verdict) => out.push(immediate(verdict)),
            Statement::RejectTcpReset => out.push(reject(1, 0)),
            Statement::Reject => out.push(reject(2, 1)),
            Statement::Masquerade => out.push(other("masq", Vec::new())),
            Statement::DnatToSelf(f) => {
                family(f, &mut out, &mut known);
                load(&[Selector::Daddr(f)], &mut out);
                let to = register(REG32);
                // NFT_NAT_DNAT, the family, the lowest and the highest address, NF_NAT_RANGE_MAP_IPS.
                out.push(other(
                    "nat",
                    vec![
                        be32(1, 1),
                        be32(2, nfproto(f).into()),
                        be32(3, to),
                        be32(4, to),
                        be32(7, 1),
                    ],
                ));
            }
        }
    }
    Lowered {
        expressions: out,
        sets,
    }
}

/// The family that must be matched before a key is read. Conntrack keys need none: they do not match on the other family.
fn implied(key: &[Selector]) -> Option<Family> {
    key.iter().find_map(|s| match s {
        Selector::Saddr(f) | Selector::Daddr(f) => Some(*f),
        _ => None,
    })
}

/// Loads a key into consecutive registers.
fn load(key: &[Selector], out: &mut Vec<Expression>) {
    let mut at = REG32;
    for selector in key {
        let (expression, words) = match *selector {
            Selector::Saddr(Family::V4) => (payload(NETWORK, 12, 4, at), 1),
            Selector::Daddr(Family::V4) => (payload(NETWORK, 16, 4, at), 1),
            Selector::Saddr(Family::V6) => (payload(NETWORK, 8, 16, at), 4),
            Selector::Daddr(Family::V6) => (payload(NETWORK, 24, 16, at), 4),
            Selector::L4Proto => (meta(MetaKey::L4Proto, at), 1),
            Selector::Dport => (payload(TRANSPORT, 2, 2, at), 1),
            Selector::OriginalDaddr(Family::V4) => (ct(CT_DST_IP, at, true), 1),
            Selector::OriginalDaddr(Family::V6) => (ct(CT_DST_IP6, at, true), 4),
            Selector::OriginalDport => (ct(CT_PROTO_DST, at, true), 1),
            Selector::InputInterface => (meta(MetaKey::Iifname, at), 4),
        };
        out.push(expression);
        at += words;
    }
}

fn nfproto(family: Family) -> u8 {
    match family {
        Family::V4 => NFPROTO_IPV4,
        Family::V6 => NFPROTO_IPV6,
    }
}
