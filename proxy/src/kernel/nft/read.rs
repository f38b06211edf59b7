//! What the kernel holds of our table: sets, chains, fingerprints of rules, elements.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, GenAttribute, GenMessage, Hook, HookNumber, InetHookNumber,
    NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetElementList, SetElementMessage,
    SetFlags, SetMessage,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};

use super::super::KernelError;
use super::super::netlink::{Channel, refused};
use super::super::rule::{Chain, Element, SetDef, Table};
use super::element::{RawList, elements};
use super::encode::{data_type, hook_of, key_type, set_flags};
use super::rules::{fingerprint, fingerprint_in};

/// A base chain's hook, priority and type.
type BaseHook = (InetHookNumber, i32, String);

/// A set's flags, key type and data type.
type SetKind = (SetFlags, u32, Option<u32>);

/// What is there of the static half.
#[derive(Debug, Default)]
pub(super) struct Present {
    /// Sets by name.
    pub(super) sets: BTreeMap<String, SetKind>,
    /// Chains by name: hook of a base chain.
    pub(super) chains: BTreeMap<String, Option<BaseHook>>,
    /// Fingerprints of the rules of each chain, in order; `None` for a rule that is not ours.
    pub(super) rules: BTreeMap<String, Vec<Option<u64>>>,
}

impl Present {
    /// The set is there as it should be.
    pub(super) fn has_set(&self, set: &SetDef) -> bool {
        self.sets.get(set.name)
            == Some(&(
                set_flags(set),
                key_type(set.key).0,
                set.data.map(|d| data_type(d).0),
            ))
    }

    /// The chain is there with its hook, whatever its rules.
    pub(super) fn has_chain(&self, chain: &Chain) -> bool {
        self.chains.get(chain.name).is_some_and(|hook| {
            hook.as_ref().map(|(n, p, t)| (*n, *p, t.as_str())) == hook_of(chain)
        })
    }

    /// The chain's rules are those that would be written.
    pub(super) fn has_rules(&self, chain: &Chain) -> bool {
        let expected = chain
            .rules
            .iter()
            .map(|rule| Some(fingerprint(chain.name, rule)));
        let empty = Vec::new();
        let present = self.rules.get(chain.name).unwrap_or(&empty);
        expected.eq(present.iter().copied())
    }

    /// All of the static half is there, and nothing is missing or changed.
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

/// Generation of the namespace's ruleset: another one after every transaction, whoever made it.
pub(super) async fn generation(channel: &mut Channel) -> Result<Option<u32>, KernelError> {
    let request = message(NfTablesMessage::GetGen(GenMessage { attributes: vec![] }));
    let answer = channel
        .get(request)
        .await?
        .map_err(|e| refused("read the generation of nf_tables", e))?;
    Ok(match answer.inner {
        NetfilterMessageInner::NfTables(NfTablesMessage::NewGen(generation)) => {
            generation.attributes.iter().find_map(|a| match a {
                GenAttribute::Id(id) => Some(*id),
                _ => None,
            })
        }
        _ => None,
    })
}

/// How often a chain is used: by its own rules and by jumps to it. `None`: no such chain, or no such table.
pub(super) async fn uses(
    channel: &mut Channel,
    table: &str,
    chain: &str,
) -> Result<Option<u32>, KernelError> {
    let request = message(NfTablesMessage::GetChain(ChainMessage {
        attributes: vec![
            ChainAttribute::Table(table.to_owned()),
            ChainAttribute::Name(chain.to_owned()),
        ],
    }));
    match channel.get(request).await? {
        Ok(answer) => Ok(match answer.inner {
            NetfilterMessageInner::NfTables(NfTablesMessage::NewChain(chain)) => {
                chain.attributes.iter().find_map(|a| match a {
                    ChainAttribute::Use(uses) => Some(*uses),
                    _ => None,
                })
            }
            _ => None,
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(refused(format!("look for chain {chain}"), e)),
    }
}

/// Reads the static half of `table`.
pub(super) async fn present(channel: &mut Channel, table: &str) -> Result<Present, KernelError> {
    let sets = channel
        .dump(
            message(NfTablesMessage::GetSet(SetMessage {
                attributes: vec![SetAttribute::Table(table.to_owned())],
            })),
            BTreeMap::new,
            |out, m: NetfilterMessage| {
                if let NetfilterMessageInner::NfTables(NfTablesMessage::NewSet(set)) = m.inner {
                    out.extend(set_from(set.attributes, table));
                }
                Ok(())
            },
        )
        .await;
    // No such table: nothing is there.
    let sets = match sets {
        Err(KernelError::Refused { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            return Ok(Present::default());
        }
        sets => sets?,
    };
    let chains = channel
        .dump(
            message(NfTablesMessage::GetChain(ChainMessage {
                attributes: vec![ChainAttribute::Table(table.to_owned())],
            })),
            BTreeMap::new,
            |out, m: NetfilterMessage| {
                if let NetfilterMessageInner::NfTables(NfTablesMessage::NewChain(chain)) = m.inner {
                    out.extend(chain_from(chain.attributes, table));
                }
                Ok(())
            },
        )
        .await?;
    let rules = channel
        .dump(
            message(NfTablesMessage::GetRule(RuleMessage {
                attributes: vec![RuleAttribute::Table(table.to_owned())],
            })),
            BTreeMap::<String, Vec<Option<u64>>>::new,
            |out, m: NetfilterMessage| {
                if let NetfilterMessageInner::NfTables(NfTablesMessage::NewRule(rule)) = m.inner
                    && let Some((chain, mark)) = rule_from(rule.attributes, table)
                {
                    out.entry(chain).or_default().push(mark);
                }
                Ok(())
            },
        )
        .await?;
    Ok(Present {
        sets,
        chains,
        rules,
    })
}

fn set_from(attributes: Vec<SetAttribute>, table: &str) -> Option<(String, SetKind)> {
    let (mut ours, mut name, mut flags, mut key, mut data) =
        (false, None, SetFlags::empty(), 0, None);
    for attribute in attributes {
        match attribute {
            SetAttribute::Table(t) => ours = t == table,
            SetAttribute::Name(n) => name = Some(n),
            SetAttribute::Flags(f) => flags = f,
            SetAttribute::KeyType(k) => key = k,
            SetAttribute::DataType(d) => data = Some(d),
            _ => {}
        }
    }
    name.filter(|_| ours).map(|n| (n, (flags, key, data)))
}

fn chain_from(attributes: Vec<ChainAttribute>, table: &str) -> Option<(String, Option<BaseHook>)> {
    let (mut ours, mut name, mut number, mut priority, mut kind) =
        (false, None, None, 0, String::new());
    for attribute in attributes {
        match attribute {
            ChainAttribute::Table(t) => ours = t == table,
            ChainAttribute::Name(n) => name = Some(n),
            ChainAttribute::Type(t) => kind = t,
            ChainAttribute::Hook(hooks) => {
                for hook in hooks {
                    match hook {
                        Hook::Number(HookNumber::Inet(n)) => number = Some(n),
                        Hook::Priority(p) => priority = p.cast_signed(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    name.filter(|_| ours)
        .map(|n| (n, number.map(|h| (h, priority, kind))))
}

fn rule_from(attributes: Vec<RuleAttribute>, table: &str) -> Option<(String, Option<u64>)> {
    let (mut ours, mut chain, mut mark) = (false, None, None);
    for attribute in attributes {
        match attribute {
            RuleAttribute::Table(t) => ours = t == table,
            RuleAttribute::Chain(c) => chain = Some(c),
            RuleAttribute::UserData(data) => mark = fingerprint_in(&data),
            _ => {}
        }
    }
    chain.filter(|_| ours).map(|c| (c, mark))
}

/// Reads the elements of a set; `chains` are the names that verdicts may have.
pub(super) async fn elements_of(
    channel: &mut Channel,
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
    let raws = channel
        .dump(request, Vec::new, |out, list: RawList| {
            out.extend(list.0.into_iter().map(|e| e.known(chains)));
            Ok(())
        })
        .await?;
    Ok(elements(set, raws))
}
