//! Single expressions and attributes of `nf_tables`, with the numbers of `linux/netfilter/nf_tables.h`.

use netlink_packet_core::{DefaultNla, NLA_F_NESTED};
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute,
    Lookup, Meta, MetaKey, Operator, Payload, Register, Verdict as VerdictCode, VerdictAttribute,
};

use super::super::rule::Verdict;

/// One expression of a rule.
pub(super) type Expression = ListAttribute<ExpressionAttribute>;

/// First 32-bit register.
pub(super) const REG32: u32 = 8;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;

/// The number that `nft` uses for a register: that of a 128-bit register if one starts there.
pub(super) fn register(at: u32) -> u32 {
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

pub(super) fn expr(name: &str, data: Expressions) -> Expression {
    ListAttribute::Element(vec![
        ExpressionAttribute::Name(name.to_owned()),
        ExpressionAttribute::Data(data),
    ])
}

pub(super) fn other(name: &str, attributes: Vec<DefaultNla>) -> Expression {
    expr(
        name,
        Expressions::Other {
            expression_type: name.to_owned(),
            attributes,
        },
    )
}

pub(super) fn meta(key: MetaKey, at: u32) -> Expression {
    expr(
        "meta",
        Expressions::Meta(vec![
            Meta::Key(key),
            Meta::DestinationRegister(register(at).into()),
        ]),
    )
}

/// The packet's mark becomes that in the first register.
pub(super) fn set_mark() -> Expression {
    expr(
        "meta",
        Expressions::Meta(vec![
            Meta::Key(MetaKey::Mark),
            Meta::SourceRegister(register(REG32).into()),
        ]),
    )
}

pub(super) fn payload(base: u32, offset: u32, len: u32, at: u32) -> Expression {
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

pub(super) fn ct(key: u32, at: u32, original: bool) -> Expression {
    let mut attributes = vec![be32(2, key), be32(1, register(at))];
    if original {
        // IP_CT_DIR_ORIGINAL
        attributes.push(DefaultNla::new(3, vec![0]));
    }
    other("ct", attributes)
}

/// `register = register & mask ^ xor`.
pub(super) fn bitwise(mask: u32, xor: u32) -> Expression {
    let first: Register = register(REG32).into();
    expr(
        "bitwise",
        Expressions::Bitwise(vec![
            Bitwise::SourceRegister(first),
            Bitwise::DestinationRegister(first),
            Bitwise::Length(4),
            Bitwise::Mask(DataAttribute::Value(mask.to_ne_bytes().to_vec())),
            Bitwise::Xor(DataAttribute::Value(xor.to_ne_bytes().to_vec())),
        ]),
    )
}

pub(super) fn compare(operator: Operator, value: Vec<u8>) -> Expression {
    expr(
        "cmp",
        Expressions::Cmp(vec![
            Cmp::SourceRegister(register(REG32).into()),
            Cmp::Op(operator),
            Cmp::Data(DataAttribute::Value(value)),
        ]),
    )
}

pub(super) fn equal(value: Vec<u8>) -> Expression {
    compare(Operator::Equal, value)
}

/// `into`: register of a map's value, 0 for a verdict.
pub(super) fn lookup(set: &str, id: Option<u32>, into: Option<u32>, inverted: bool) -> Expression {
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

pub(super) fn reject(kind: u32, code: u8) -> Expression {
    other(
        "reject",
        vec![be32(1, kind), DefaultNla::new(2, vec![code])],
    )
}

pub(super) fn immediate(verdict: Verdict) -> Expression {
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

/// A verdict read from the kernel: its code, and its target chain.
pub(super) fn verdict_from(code: u32, chain: Option<&'static str>) -> Option<Verdict> {
    match VerdictCode::from(code) {
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
