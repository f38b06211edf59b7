//! Statements lowered to the expressions of `nf_tables`, register by register.
//!
//! The order and the registers are those that `nft` itself would choose, so that `nft list` finds its own words again; the
//! numbers are from `linux/netfilter/nf_tables.h`. Concatenated keys fill 32-bit registers from the first one on.

use netlink_packet_core::{DefaultNla, NLA_F_NESTED};
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute,
    Lookup, Meta, MetaKey, Operator, Payload, Register, Verdict as VerdictCode, VerdictAttribute,
};

use super::super::rule::{Family, Selector, Statement, Verdict};

/// One expression of a rule.
pub(super) type Expression = ListAttribute<ExpressionAttribute>;

/// First 32-bit register.
const REG32: u32 = 8;
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
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
/// Length of an interface name with its zeroes.
const IFNAMSIZ: usize = 16;

/// A set that lives in one rule (`icmp type { ... }`).
pub(super) struct AnonymousSet {
    /// Its number in the transaction.
    pub(super) id: u32,
    /// `nft`'s number of the type of its keys.
    pub(super) key_type: u32,
    /// Its elements, one byte each.
    pub(super) keys: &'static [u8],
}

/// A rule as the kernel takes it.
pub(super) struct Lowered {
    pub(super) expressions: Vec<Expression>,
    pub(super) sets: Vec<AnonymousSet>,
}

/// Lowers the statements of a rule; its anonymous sets are numbered from `id` on.
pub(super) fn lower(statements: &[Statement], mut id: u32) -> Lowered {
    let mut out = Vec::new();
    let mut sets = Vec::new();
    // A family that is matched once need not be matched again in the same rule.
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
                out.push(mask(STATE_NEW));
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
                bytes.resize(IFNAMSIZ, 0);
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
                out.push(expr(
                    "meta",
                    Expressions::Meta(vec![
                        Meta::Key(MetaKey::Mark),
                        Meta::SourceRegister(register(REG32).into()),
                    ]),
                ));
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

/// The family that a key needs to be known before it is read. Conntrack keys need none: they do not match on the other family.
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

/// The name that `nft` gives a register: a 128-bit one where it starts at one.
fn register(at: u32) -> u32 {
    let word = at - REG32;
    if word.is_multiple_of(4) {
        word / 4 + 1
    } else {
        at
    }
}

pub(super) fn be32(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

fn expr(name: &str, data: Expressions) -> Expression {
    ListAttribute::Element(vec![
        ExpressionAttribute::Name(name.to_owned()),
        ExpressionAttribute::Data(data),
    ])
}

fn other(name: &str, attributes: Vec<DefaultNla>) -> Expression {
    expr(
        name,
        Expressions::Other {
            expression_type: name.to_owned(),
            attributes,
        },
    )
}

fn meta(key: MetaKey, at: u32) -> Expression {
    expr(
        "meta",
        Expressions::Meta(vec![
            Meta::Key(key),
            Meta::DestinationRegister(register(at).into()),
        ]),
    )
}

fn payload(base: u32, offset: u32, len: u32, at: u32) -> Expression {
    expr(
        "payload",
        Expressions::Payload(vec![
            Payload::DestinationRegister(register(at).into()),
            Payload::Base(base),
            Payload::Offset(offset),
            Payload::Len(len),
        ]),
    )
}

fn ct(key: u32, at: u32, original: bool) -> Expression {
    let mut attributes = vec![be32(2, key), be32(1, register(at))];
    if original {
        // IP_CT_DIR_ORIGINAL
        attributes.push(DefaultNla::new(3, vec![0]));
    }
    other("ct", attributes)
}

fn mask(bits: u32) -> Expression {
    let first: Register = register(REG32).into();
    expr(
        "bitwise",
        Expressions::Bitwise(vec![
            Bitwise::SourceRegister(first),
            Bitwise::DestinationRegister(first),
            Bitwise::Length(4),
            Bitwise::Mask(DataAttribute::Value(bits.to_ne_bytes().to_vec())),
            Bitwise::Xor(DataAttribute::Value(vec![0; 4])),
        ]),
    )
}

fn compare(operator: Operator, value: Vec<u8>) -> Expression {
    expr(
        "cmp",
        Expressions::Cmp(vec![
            Cmp::SourceRegister(register(REG32).into()),
            Cmp::Op(operator),
            Cmp::Data(DataAttribute::Value(value)),
        ]),
    )
}

fn equal(value: Vec<u8>) -> Expression {
    compare(Operator::Equal, value)
}

/// `into`: register of a map's value, 0 for a verdict.
fn lookup(set: &str, id: Option<u32>, into: Option<u32>, inverted: bool) -> Expression {
    let mut attributes = vec![
        Lookup::Set(set.to_owned()),
        Lookup::SourceRegister(register(REG32).into()),
    ];
    attributes.extend(id.map(Lookup::SetId));
    attributes.extend(into.map(|r| Lookup::DestinationRegister(r.into())));
    if inverted {
        attributes.push(Lookup::Flags(1));
    }
    expr("lookup", Expressions::Lookup(attributes))
}

fn reject(kind: u32, code: u8) -> Expression {
    other(
        "reject",
        vec![be32(1, kind), DefaultNla::new(2, vec![code])],
    )
}

fn immediate(verdict: Verdict) -> Expression {
    expr(
        "immediate",
        Expressions::Immediate(vec![
            Immediate::DestinationRegister(Register::Verdict),
            Immediate::Data(DataAttribute::Verdict(verdict_attributes(verdict))),
        ]),
    )
}

/// A verdict as rules and map elements hold it.
pub(super) fn verdict_attributes(verdict: Verdict) -> Vec<VerdictAttribute> {
    let (code, chain) = match verdict {
        Verdict::Accept => (VerdictCode::Other(NF_ACCEPT), None),
        Verdict::Drop => (VerdictCode::Other(NF_DROP), None),
        Verdict::Return => (VerdictCode::Return, None),
        Verdict::Jump(chain) => (VerdictCode::Jump, Some(chain)),
        Verdict::Goto(chain) => (VerdictCode::Goto, Some(chain)),
    };
    let mut attributes = vec![VerdictAttribute::Code(code)];
    attributes.extend(chain.map(|c| VerdictAttribute::Chain(c.to_owned())));
    attributes
}

/// A verdict read from the kernel; `chains` are the names that may occur.
pub(super) fn verdict_from(
    attributes: &[VerdictAttribute],
    chains: &[&'static str],
) -> Option<Verdict> {
    let code = attributes.iter().find_map(|a| match a {
        VerdictAttribute::Code(code) => Some(*code),
        _ => None,
    })?;
    let chain = attributes.iter().find_map(|a| match a {
        VerdictAttribute::Chain(name) => chains.iter().copied().find(|c| c == name),
        _ => None,
    });
    match code {
        VerdictCode::Other(NF_ACCEPT) => Some(Verdict::Accept),
        VerdictCode::Other(NF_DROP) => Some(Verdict::Drop),
        VerdictCode::Return => Some(Verdict::Return),
        VerdictCode::Jump => chain.map(Verdict::Jump),
        VerdictCode::Goto => chain.map(Verdict::Goto),
        _ => None,
    }
}

/// A nested attribute of raw attributes.
pub(super) fn nested(kind: u16, inner: &[DefaultNla]) -> DefaultNla {
    use netlink_packet_core::Emitable;
    let mut value = vec![0; inner.buffer_len()];
    inner.emit(&mut value);
    DefaultNla::new(kind | NLA_F_NESTED, value)
}
