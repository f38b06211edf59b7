//! The table in the kernel's nf_tables. Its static part goes in one transaction, and its elements go in one transaction per
//! batch.
//!
//! Rules are replaced without touching elements, and only if they differ from the desired ones. Nothing is ever flushed. A
//! transaction fails as a whole, and the kernel names the messages at fault. Those are removed (or replaced, if an element exists
//! with another value), and the rest is sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;

mod atom;
mod commit;
mod decode;
mod element;
mod encode;
mod expr;
#[cfg(test)]
pub(super) mod fake;
mod read;
mod rules;
#[cfg(test)]
mod tests;

use super::KernelError;
use super::netlink::{Channel, NetlinkSocket, Socket, refused};
use super::rule::{Element, SetDef, Table};
use encode::Message;
use nix::errno::Errno;
use read::Present;

/// Sets in a transaction are numbered; anonymous sets start here.
const ANONYMOUS: u32 = 1000;

/// Elements by set.
pub(super) type Elements = BTreeMap<&'static str, BTreeSet<Element>>;

/// How often the static part is read and updated at most if the kernel does not answer.
const TRIES: usize = 2;

/// nf_tables of one network namespace.
#[derive(Debug)]
pub(crate) struct Nft<S> {
    channel: Channel<S>,
    table: Table,
    chains: Vec<&'static str>,
    /// Generation of the ruleset in which the table was last found intact.
    intact: Option<u32>,
}

impl Nft<NetlinkSocket> {
    pub(crate) fn open(table: Table) -> Result<Self, KernelError> {
        let channel = Channel::open(NETLINK_NETFILTER, "nf_tables", true)?;
        Ok(Self::over(channel, table))
    }
}

impl<S: Socket> Nft<S> {
    /// The same, over an existing channel.
    pub(crate) fn over(channel: Channel<S>, table: Table) -> Self {
        let chains = table.chains.iter().map(|c| c.name).collect();
        Self {
            channel,
            table,
            chains,
            intact: None,
        }
    }

    /// Creates or updates the static part.
    pub(crate) async fn prepare(&mut self) -> Result<(), KernelError> {
        let mut tries = 1..=TRIES;
        loop {
            tries.next();
            let present = read::present(&mut self.channel, self.table.name)
                .await
                .map_err(unsupported)?;
            if present.is(&self.table) {
                return Ok(());
            }
            match self.update(&present).await {
                Ok(()) => return self.sweep(&present).await,
                // Repeating the transaction would add the rules twice, so its result is read instead.
                Err(error) if error.is_unanswered() && !tries.is_empty() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Turns what is present into the desired table.
    async fn update(&mut self, present: &Present) -> Result<(), KernelError> {
        let messages = self.difference(present);
        match self.transaction(&messages).await? {
            None => Ok(()),
            Some((_, error)) if error.raw_os_error() == Some(Errno::EPERM as i32) => {
                Err(refused("change nf_tables", error))
            }
            Some((index, error)) => {
                // The table was changed in a way that cannot be repaired in place, e.g. a chain of ours got a hook.
                let name = self.table.name;
                tracing::warn!(
                    table = name,
                    %error,
                    "the table cannot be brought up to date in place and is written anew"
                );
                tracing::debug!(at = ?messages.get(index).map(|m| &m.message), "the refused message");
                let mut whole = vec![
                    encode::new_table(self.table.name),
                    encode::delete_table(self.table.name),
                ];
                whole.extend(self.difference(&Present::default()));
                match self.transaction(&whole).await? {
                    None => Ok(()),
                    Some((index, error)) => Err(rule_refused(whole.get(index), error)),
                }
            }
        }
    }

    /// The messages that turn what is present into the desired table.
    fn difference(&self, present: &Present) -> Vec<Message> {
        let table = &self.table;
        let name = table.name;
        let mut out = vec![encode::new_table(name)];
        let stale = |set: &&SetDef| present.sets.contains_key(set.name) && !present.has_set(set);
        let stale_sets: Vec<&SetDef> = table.sets.iter().filter(stale).collect();
        // A set in use cannot be deleted. If one is replaced, all rules are rewritten.
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
        // Chains that the table no longer has release what they used.
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
                id = rules::new_rule(name, chain.name, rule, id, &mut out);
            }
        }
        out
    }

    /// Deletes chains and sets that an older version left in the table, unless an element still refers to them.
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

    /// The elements of every existing set, and whether the static part is complete.
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

    /// Whether the base chains exist with the right number of rules. This takes one request while nobody changes any ruleset in
    /// the network namespace, and one more for each base chain after a change.
    pub(crate) async fn intact(&mut self) -> Result<bool, KernelError> {
        // Read before the chains: a change in between gets a later generation.
        let now = read::generation(&mut self.channel).await?;
        if now.is_some() && now == self.intact {
            return Ok(true);
        }
        self.intact = None;
        for chain in self.table.chains.iter().filter(|c| c.hook.is_some()) {
            // Nothing can jump to a base chain, so its only references are its rules.
            let rules = read::uses(&mut self.channel, self.table.name, chain.name).await?;
            if rules != u32::try_from(chain.rules.len()).ok() {
                return Ok(false);
            }
        }
        self.intact = now;
        Ok(true)
    }

    /// Deletes the table and its content.
    pub(crate) async fn delete(&mut self) -> Result<(), KernelError> {
        let messages = [encode::delete_table(self.table.name)];
        let result = match self.transaction(&messages).await {
            Err(error) if error.is_unanswered() => self.transaction(&messages).await?,
            result => result?,
        };
        match result {
            Some((_, error)) if error.raw_os_error() != Some(Errno::ENOENT as i32) => Err(refused(
                format!("delete table inet {}", self.table.name),
                error,
            )),
            _ => Ok(()),
        }
    }
}

/// A kernel without nf_tables answers all of its messages with EINVAL or EOPNOTSUPP.
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

/// The kernel refuses a rule with ENOENT if it lacks one of the expressions.
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
