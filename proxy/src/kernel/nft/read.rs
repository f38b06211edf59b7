//! Reads what the kernel holds of our table: sets, chains, fingerprints of rules, elements.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, GenMessage, InetHookNumber, NfTablesMessage, RuleAttribute,
    RuleMessage, SetAttribute, SetElementList, SetElementMessage, SetFlags, SetMessage,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use super::super::KernelError;
use super::super::netlink::{Channel, Socket, refused};
use super::super::rule::{Chain, Element, SetDef, Table};
use super::decode;
use super::element::elements;
use super::encode::{data_type, hook_of, key_type, set_flags};
use super::rules::fingerprint;

/// A base chain's hook, priority and type.
pub(super) type BaseHook = (InetHookNumber, i32, String);

/// A set's flags, key type and data type.
pub(super) type SetKind = (SetFlags, u32, Option<u32>);

/// The static part as found in the kernel.
#[derive(Debug, Default)]
pub(super) struct Present {
    /// Sets by name.
    pub(super) sets: BTreeMap<String, SetKind>,
    /// Chains by name, with the hook if it is a base chain.
    pub(super) chains: BTreeMap<String, Option<BaseHook>>,
    /// Fingerprints of the rules of each chain, in order. `None` for a rule that is not ours.
    pub(super) rules: BTreeMap<String, Vec<Option<u64>>>,
}

impl Present {
    /// Whether the set exists as desired.
    pub(super) fn has_set(&self, set: &SetDef) -> bool {
        self.sets.get(set.name)
            == Some(&(
                set_flags(set),
                key_type(set.key).0,
                set.data.map(|d| data_type(d).0),
            ))
    }

    /// Whether the chain exists with its hook, whatever its rules.
    pub(super) fn has_chain(&self, chain: &Chain) -> bool {
        self.chains.get(chain.name).is_some_and(|hook| {
            hook.as_ref().map(|(n, p, t)| (*n, *p, t.as_str())) == hook_of(chain)
        })
    }

    /// Whether the chain's rules are the desired ones.
    pub(super) fn has_rules(&self, chain: &Chain) -> bool {
        let expected = chain
            .rules
            .iter()
            .map(|rule| Some(fingerprint(chain.name, rule)));
        let empty = Vec::new();
        let present = self.rules.get(chain.name).unwrap_or(&empty);
        expected.eq(present.iter().copied())
    }

    /// Whether the static part is complete and unchanged.
    pub(super) fn is(&self, table: &Table) -> bool {
        table.sets.iter().all(|s| self.has_set(s))
            && table
                .chains
                .iter()
                .all(|c| self.has_chain(c) && self.has_rules(c))
    }
}

fn message(inner: NfTablesMessage) -> NetfilterMessage {
    NetfilterMessage::new(
        NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0),
        inner,
    )
}

/// Generation of the namespace's ruleset. Every transaction changes it, no matter whose.
pub(super) async fn generation<S: Socket>(
    channel: &mut Channel<S>,
) -> Result<Option<u32>, KernelError> {
    let request = message(NfTablesMessage::GetGen(GenMessage { attributes: vec![] }));
    channel
        .get(request, |_, payload| decode::generation(payload))
        .await?
        .map_err(|e| refused("read the generation of nf_tables", e))
}

/// How many references a chain has: its own rules and the jumps to it. `None`: there is no such chain or table.
pub(super) async fn uses<S: Socket>(
    channel: &mut Channel<S>,
    table: &str,
    chain: &str,
) -> Result<Option<u32>, KernelError> {
    let request = message(NfTablesMessage::GetChain(ChainMessage {
        attributes: vec![
            ChainAttribute::Table(table.to_owned()),
            ChainAttribute::Name(chain.to_owned()),
        ],
    }));
    let answer = channel.get(request, |_, payload| decode::chain(payload, table));
    match answer.await? {
        Ok(chain) => Ok(chain.and_then(|c| c.uses)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(refused(format!("look for chain {chain}"), e)),
    }
}

/// Reads the static part of `table`. Objects of other tables, which the kernel may send too, are omitted.
pub(super) async fn present<S: Socket>(
    channel: &mut Channel<S>,
    table: &str,
) -> Result<Present, KernelError> {
    let request = message(NfTablesMessage::GetSet(SetMessage {
        attributes: vec![SetAttribute::Table(table.to_owned())],
    }));
    let sets = channel.dump(request, BTreeMap::new, |out, kind, payload| {
        if kind == decode::NEW_SET {
            out.extend(decode::set(payload, table)?);
        }
        Ok(())
    });
    // There is no such table, so nothing is present.
    let sets = match sets.await {
        Err(KernelError::Refused { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            return Ok(Present::default());
        }
        sets => sets?,
    };
    let request = message(NfTablesMessage::GetChain(ChainMessage {
        attributes: vec![ChainAttribute::Table(table.to_owned())],
    }));
    let chains = channel.dump(request, BTreeMap::new, |out, kind, payload| {
        if kind == decode::NEW_CHAIN {
            out.extend(decode::chain(payload, table)?.map(|c| (c.name, c.hook)));
        }
        Ok(())
    });
    let chains = chains.await?;
    let request = message(NfTablesMessage::GetRule(RuleMessage {
        attributes: vec![RuleAttribute::Table(table.to_owned())],
    }));
    let empty = BTreeMap::<String, Vec<Option<u64>>>::new;
    let rules = channel.dump(request, empty, |out, kind, payload| {
        if kind == decode::NEW_RULE
            && let Some((chain, mark)) = decode::rule(payload, table)?
        {
            out.entry(chain).or_default().push(mark);
        }
        Ok(())
    });
    Ok(Present {
        sets,
        chains,
        rules: rules.await?,
    })
}

/// Reads the elements of a set. `chains` lists the chain names that verdicts may have.
pub(super) async fn elements_of<S: Socket>(
    channel: &mut Channel<S>,
    table: &str,
    set: &SetDef,
    chains: &[&'static str],
) -> Result<BTreeSet<Element>, KernelError> {
    let request = message(NfTablesMessage::GetSetElement(SetElementMessage {
        attributes: vec![
            SetElementList::Table(table.to_owned()),
            SetElementList::Set(set.name.to_owned()),
        ],
    }));
    let raws = channel.dump(request, Vec::new, |out, kind, payload| {
        if kind == decode::NEW_ELEMENT {
            out.extend(decode::element_list(payload, table, chains)?);
        }
        Ok(())
    });
    Ok(elements(set, raws.await?))
}
