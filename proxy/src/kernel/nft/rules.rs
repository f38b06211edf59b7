//! Rules as netlink messages. Each carries a fingerprint of its source, so that after a restart the proxy recognises rules that
//! are already right.

use netlink_packet_core::{Emitable, NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute,
    SetDescription, SetElementAttribute, SetElementList, SetElementMessage, SetFlags, SetMessage,
};

use super::super::rule::Rule;
use super::encode::{
    BIG_ENDIAN, Message, UDATA_COMMENT, UDATA_SET_KEYBYTEORDER, comment, inet, udata,
};
use super::expr::lower;

/// Our own entry next to the comment of a rule. `nft` skips entries that it does not know.
const UDATA_FINGERPRINT: u8 = 0xf1;

/// A rule at the end of its chain, after its anonymous sets. The sets get numbers from `id` on; returns the next free one.
pub(super) fn new_rule(
    table: &str,
    chain: &str,
    rule: &Rule,
    id: u32,
    out: &mut Vec<Message>,
) -> u32 {
    let lowered = lower(&rule.statements, id);
    let next = id.wrapping_add(lowered.sets.len() as u32);
    for set in lowered.sets {
        let mut data = Vec::new();
        udata(&mut data, UDATA_SET_KEYBYTEORDER, &BIG_ENDIAN.to_ne_bytes());
        out.push(inet(
            NLM_F_CREATE,
            NfTablesMessage::NewSet(SetMessage {
                attributes: vec![
                    SetAttribute::Table(table.to_owned()),
                    SetAttribute::Name("__set%d".to_owned()),
                    SetAttribute::Flags(SetFlags::Anonymous | SetFlags::Constant),
                    SetAttribute::KeyType(set.key_type),
                    SetAttribute::KeyLen(1),
                    SetAttribute::Id(set.id),
                    SetAttribute::Description(vec![SetDescription::Size(set.keys.len() as u32)]),
                    SetAttribute::UserData(data),
                ],
            }),
        ));
        let elements = set.keys.iter().map(|key| {
            ListAttribute::Element(vec![SetElementAttribute::Key(DataAttribute::Value(vec![
                *key,
            ]))])
        });
        out.push(inet(
            NLM_F_CREATE,
            NfTablesMessage::NewSetElement(SetElementMessage {
                attributes: vec![
                    SetElementList::Table(table.to_owned()),
                    SetElementList::Set("__set%d".to_owned()),
                    SetElementList::SetId(set.id),
                    SetElementList::Elements(elements.collect()),
                ],
            }),
        ));
    }
    let mut data = Vec::new();
    comment(&mut data, UDATA_COMMENT, rule.comment);
    udata(
        &mut data,
        UDATA_FINGERPRINT,
        &fingerprint(chain, rule).to_be_bytes(),
    );
    out.push(inet(
        NLM_F_CREATE | NLM_F_APPEND,
        NfTablesMessage::NewRule(RuleMessage {
            attributes: vec![
                RuleAttribute::Table(table.to_owned()),
                RuleAttribute::Chain(chain.to_owned()),
                RuleAttribute::Expressions(lowered.expressions),
                RuleAttribute::UserData(data),
            ],
        }),
    ));
    next
}

/// A number for the source of a rule: FNV-1a over its chain, comment and expressions, the same in every build.
pub(super) fn fingerprint(chain: &str, rule: &Rule) -> u64 {
    let lowered = lower(&rule.statements, 0);
    let mut expressions = vec![0; lowered.expressions.as_slice().buffer_len()];
    lowered.expressions.as_slice().emit(&mut expressions);
    let keys = lowered.sets.iter().flat_map(|s| s.keys.iter().copied());
    [chain.as_bytes(), &[0], rule.comment.as_bytes(), &[0]]
        .concat()
        .into_iter()
        .chain(expressions)
        .chain(keys)
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// The fingerprint in a rule's user data.
pub(super) fn fingerprint_in(mut data: &[u8]) -> Option<u64> {
    while let [kind, len, rest @ ..] = data {
        let value = rest.get(..usize::from(*len))?;
        if *kind == UDATA_FINGERPRINT {
            return value.try_into().ok().map(u64::from_be_bytes);
        }
        data = rest.get(usize::from(*len)..)?;
    }
    None
}
