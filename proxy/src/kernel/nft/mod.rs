//! The table in the kernel's nf_tables: its static half in one transaction, its elements in one transaction per batch.
//!
//! Rules are replaced without touching elements, and only where they are not yet those that would be written. Nothing is ever flushed.
//! A transaction fails as a whole; the kernel says which of its messages were at fault, those are taken out (or, where an element
//! exists with another value, replaced) and the rest is sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use netlink_packet_netfilter::NetfilterMessage;
use netlink_sys::protocols::NETLINK_NETFILTER;

mod element;
mod encode;
mod expr;
mod read;
#[cfg(test)]
mod tests;

use super::netlink::{Channel, Request, refused};
use super::rule::{Element, SetDef, Table};
use super::{KernelError, Op};
use encode::Message;
use nix::errno::Errno;
use read::Present;

/// Sets of a transaction are numbered; anonymous ones from here on.
const ANONYMOUS: u32 = 1000;

/// Elements by set.
pub(super) type Elements = BTreeMap<&'static str, BTreeSet<Element>>;

/// nf_tables of one network namespace.
#[derive(Debug)]
pub(crate) struct Nft {
    channel: Channel,
    table: Table,
    chains: Vec<&'static str>,
    /// Generation of the ruleset in which the table was last found intact.
    intact: Option<u32>,
}

/// Messages that stand or fall together, for one operation.
struct Unit {
    /// The operation's index.
    index: usize,
    /// Its set and element.
    what: (SetDef, Element),
    add: bool,
    messages: Vec<Message>,
}

impl Nft {
    pub(crate) fn open(table: Table) -> Result<Self, KernelError> {
        let channel = Channel::open(NETLINK_NETFILTER, "nf_tables")?;
        if let Err(error) = channel.enlarge() {
            tracing::debug!(%error, "the netlink buffer stays small, long transactions will be split");
        }
        let chains = table.chains.iter().map(|c| c.name).collect();
        Ok(Self {
            channel,
            table,
            chains,
            intact: None,
        })
    }

    /// Makes the static half be there.
    pub(crate) async fn prepare(&mut self) -> Result<(), KernelError> {
        let present = read::present(&mut self.channel, self.table.name)
            .await
            .map_err(unsupported)?;
        if present.is(&self.table) {
            return Ok(());
        }
        let messages = self.difference(&present);
        match self.transaction(&messages).await? {
            None => {}
            Some((_, error)) if error.raw_os_error() == Some(Errno::EPERM as i32) => {
                return Err(refused("change nf_tables", error));
            }
            Some((index, error)) => {
                // Somebody changed the table in a way that cannot be repaired in place, e.g. hooked in a chain of ours.
                tracing::warn!(table = self.table.name, %error, at = ?messages.get(index).map(|m| &m.message),
                    "the table cannot be brought up to date in place and is written anew");
                let mut whole = vec![
                    encode::new_table(self.table.name),
                    encode::delete_table(self.table.name),
                ];
                whole.extend(self.difference(&Present::default()));
                if let Some((index, error)) = self.transaction(&whole).await? {
                    return Err(rule_refused(whole.get(index), error));
                }
            }
        }
        self.sweep(&present).await
    }

    /// The messages that turn what is present into the table.
    fn difference(&self, present: &Present) -> Vec<Message> {
        let table = &self.table;
        let name = table.name;
        let mut out = vec![encode::new_table(name)];
        let stale = |set: &&SetDef| present.sets.contains_key(set.name) && !present.has_set(set);
        let stale_sets: Vec<&SetDef> = table.sets.iter().filter(stale).collect();
        // A set in use cannot be deleted: where one is replaced, all rules are.
        let rewrite = |c: &&super::Chain| {
            !stale_sets.is_empty() || !present.has_chain(c) || !present.has_rules(c)
        };
        let chains: Vec<_> = table.chains.iter().filter(rewrite).collect();
        let there = |c: &str| present.chains.contains_key(c);
        out.extend(
            chains
                .iter()
                .filter(|c| there(c.name))
                .map(|c| encode::flush_chain(name, c.name)),
        );
        // What the table no longer has lets go of what it used.
        out.extend(
            present
                .chains
                .keys()
                .filter(|c| !self.chains.contains(&c.as_str()))
                .map(|c| encode::flush_chain(name, c)),
        );
        out.extend(
            chains
                .iter()
                .filter(|c| there(c.name) && !present.has_chain(c))
                .map(|c| encode::delete_chain(name, c.name)),
        );
        out.extend(stale_sets.iter().map(|s| encode::delete_set(name, s.name)));
        out.extend(
            (1..)
                .zip(&table.sets)
                .filter(|(_, s)| !present.has_set(s))
                .map(|(id, s)| encode::new_set(name, s, id)),
        );
        out.extend(
            chains
                .iter()
                .filter(|c| !present.has_chain(c))
                .map(|c| encode::new_chain(name, c)),
        );
        let mut id = ANONYMOUS;
        for chain in chains {
            for rule in &chain.rules {
                id = encode::new_rule(name, chain.name, rule, id, &mut out);
            }
        }
        out
    }

    /// Deletes chains and sets that an older version left in the table, as far as no element refers to them any more.
    async fn sweep(&mut self, present: &Present) -> Result<(), KernelError> {
        let name = self.table.name;
        let chains = present
            .chains
            .keys()
            .filter(|c| !self.chains.contains(&c.as_str()))
            .map(|c| encode::delete_chain(name, c));
        let known = |s: &str| self.table.sets.iter().any(|d| d.name == s);
        let sets = present
            .sets
            .keys()
            .filter(|s| !known(s) && !s.starts_with("__"))
            .map(|s| encode::delete_set(name, s));
        for message in sets.chain(chains).collect::<Vec<_>>() {
            if let Some((_, error)) = self.transaction(&[message]).await? {
                tracing::debug!(%error, "a leftover of an older table stays");
            }
        }
        Ok(())
    }

    /// Elements of every set that is there, and whether the static half is complete.
    pub(crate) async fn read(&mut self) -> Result<(Elements, bool), KernelError> {
        let present = read::present(&mut self.channel, self.table.name)
            .await
            .map_err(unsupported)?;
        let mut out = BTreeMap::new();
        for set in &self.table.sets {
            if present.has_set(set) {
                let elements =
                    read::elements_of(&mut self.channel, self.table.name, set, &self.chains)
                        .await?;
                out.insert(set.name, elements);
            }
        }
        Ok((out, present.is(&self.table)))
    }

    /// Whether the base chains are there with as many rules as they should have. While nobody changes any ruleset of the network
    /// namespace this is one request, after a change one more for each base chain.
    pub(crate) async fn intact(&mut self) -> Result<bool, KernelError> {
        // Asked before the chains: what changes meanwhile has a later one.
        let now = read::generation(&mut self.channel).await?;
        if now.is_some() && now == self.intact {
            return Ok(true);
        }
        self.intact = None;
        for chain in self.table.chains.iter().filter(|c| c.hook.is_some()) {
            // Nothing can jump to a base chain: all that uses it are its rules.
            let rules = read::uses(&mut self.channel, self.table.name, chain.name).await?;
            if rules != u32::try_from(chain.rules.len()).ok() {
                return Ok(false);
            }
        }
        self.intact = now;
        Ok(true)
    }

    /// Adds and deletes elements in one transaction; other operations are skipped.
    pub(crate) async fn apply(&mut self, ops: &[Op]) -> Vec<(usize, KernelError)> {
        let mut errors = Vec::new();
        let mut units = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            let (name, element, add) = match op {
                Op::AddElement(name, element) => (*name, element, true),
                Op::DelElement(name, element) => (*name, element, false),
                _ => continue,
            };
            match self.unit(index, name, element, add) {
                Some(unit) => units.push(unit),
                None => errors.push((
                    index,
                    refused(
                        format!("{name} {element:?}: no such set, or not its type"),
                        io::Error::from(io::ErrorKind::InvalidInput),
                    ),
                )),
            }
        }
        // Halves wait here while a batch that is too long for the kernel is split.
        let mut waiting = vec![units];
        while let Some(units) = waiting.pop() {
            match self.commit(units).await {
                Ok(refusals) => errors.extend(refusals),
                Err((mut units, error)) => {
                    let permission = matches!(error, KernelError::Permission { .. });
                    if units.len() > 1 && !permission {
                        let rest = units.split_off(units.len() / 2);
                        waiting.push(rest);
                        waiting.push(units);
                    } else {
                        errors.extend(units.iter().map(|u| (u.index, again(&error))));
                    }
                }
            }
        }
        errors.sort_by_key(|(index, _)| *index);
        errors
    }

    fn unit(&self, index: usize, name: &str, element: &Element, add: bool) -> Option<Unit> {
        let set = self.table.sets.iter().find(|s| s.name == name)?;
        let message = element::element(self.table.name, set, element, add)?;
        Some(Unit {
            index,
            what: (set.clone(), element.clone()),
            add,
            messages: vec![message],
        })
    }

    /// Commits units, without those that the kernel refuses. An error that belongs to no unit gives the rest back.
    async fn commit(
        &mut self,
        mut units: Vec<Unit>,
    ) -> Result<Vec<(usize, KernelError)>, (Vec<Unit>, KernelError)> {
        let mut refusals = Vec::new();
        while !units.is_empty() {
            let mut messages = vec![encode::begin()];
            let mut owners = vec![usize::MAX];
            for (i, unit) in units.iter().enumerate() {
                messages.extend(unit.messages.iter().cloned());
                owners.resize(messages.len(), i);
            }
            let last = messages.len() - 1;
            messages.push(encode::end());
            let errors = match self.channel.batch(&messages, last).await {
                Ok(errors) => errors,
                Err(error) => return Err((units, error)),
            };
            if errors.is_empty() {
                break;
            }
            let mut at_fault: BTreeMap<usize, io::Error> = BTreeMap::new();
            for (message, error) in errors {
                match owners.get(message) {
                    Some(&unit) if unit != usize::MAX => {
                        // Of a replacement's two messages the second says what is wrong.
                        at_fault.insert(unit, error);
                    }
                    _ => return Err((units, refused("change nf_tables", error))),
                }
            }
            let mut rest = Vec::with_capacity(units.len());
            for (i, mut unit) in units.into_iter().enumerate() {
                let Some(error) = at_fault.remove(&i) else {
                    rest.push(unit);
                    continue;
                };
                let errno = error.raw_os_error().map(Errno::from_raw);
                let exists = matches!(errno, Some(Errno::EEXIST | Errno::EBUSY));
                if !unit.add && errno == Some(Errno::ENOENT) {
                    // Deleted already.
                } else if let (true, true, [add], Some(delete)) = (
                    unit.add,
                    exists,
                    unit.messages.as_slice(),
                    element::element(self.table.name, &unit.what.0, &unit.what.1, false),
                ) {
                    // There with another value.
                    unit.messages = vec![delete, add.clone()];
                    rest.push(unit);
                } else {
                    let verb = if unit.add { "add to" } else { "delete from" };
                    let (set, element) = &unit.what;
                    refusals.push((
                        unit.index,
                        refused(format!("{verb} {}: {element:?}", set.name), error),
                    ));
                }
            }
            units = rest;
        }
        Ok(refusals)
    }

    /// Deletes the table with everything in it.
    pub(crate) async fn delete(&mut self) -> Result<(), KernelError> {
        let messages = [encode::delete_table(self.table.name)];
        match self.transaction(&messages).await? {
            Some((_, error)) if error.raw_os_error() != Some(Errno::ENOENT as i32) => Err(refused(
                format!("delete table inet {}", self.table.name),
                error,
            )),
            _ => Ok(()),
        }
    }

    /// Sends messages as one transaction: nothing, or the index of the first message at fault and its error.
    async fn transaction(
        &mut self,
        messages: &[Message],
    ) -> Result<Option<(usize, io::Error)>, KernelError> {
        let mut all: Vec<Request<NetfilterMessage>> = vec![encode::begin()];
        all.extend_from_slice(messages);
        all.push(encode::end());
        let mut errors = self.channel.batch(&all, messages.len()).await?;
        errors.sort_by_key(|(index, _)| *index);
        let first = errors.into_iter().next();
        Ok(first.map(|(index, error)| (index.saturating_sub(1), error)))
    }
}

/// An error for each of several operations.
fn again(error: &KernelError) -> KernelError {
    match error {
        KernelError::Permission { what } => KernelError::Permission { what: what.clone() },
        KernelError::Refused { what, source } => KernelError::Refused {
            what: what.clone(),
            source: source
                .raw_os_error()
                .map_or_else(|| source.kind().into(), io::Error::from_raw_os_error),
        },
        other => KernelError::Protocol {
            what: "change nf_tables".to_owned(),
            detail: other.to_string(),
        },
    }
}

/// A kernel without nf_tables answers EINVAL or EOPNOTSUPP to all of its messages.
fn unsupported(error: KernelError) -> KernelError {
    match error {
        KernelError::Refused { source, .. }
            if matches!(
                source.raw_os_error().map(Errno::from_raw),
                Some(Errno::EINVAL | Errno::EOPNOTSUPP)
            ) =>
        {
            KernelError::Missing {
                what: "nf_tables".to_owned(),
                hint: "load the module nf_tables, or use a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET".to_owned(),
            }
        }
        other => other,
    }
}

/// A rule is refused with ENOENT when the kernel lacks one of its expressions.
fn rule_refused(message: Option<&Message>, error: io::Error) -> KernelError {
    if error.raw_os_error() == Some(Errno::ENOENT as i32) {
        return KernelError::Missing {
            what: "expression that the nftables rules need".to_owned(),
            hint: "load the modules nft_ct, nft_fib_inet, nft_reject_inet, nft_masq and nft_nat, or use a kernel that has them"
                .to_owned(),
        };
    }
    refused(
        format!(
            "write the nftables rules ({:?})",
            message.map(|m| &m.message)
        ),
        error,
    )
}
