//! Transactions: sends the elements of a batch in one, and handles the parts that the kernel refuses.

use std::collections::BTreeMap;
use std::io;

use netlink_packet_netfilter::NetfilterMessage;
use nix::errno::Errno;

use super::super::netlink::{Request, Socket, refused};
use super::super::rule::{Element, SetDef};
use super::super::{KernelError, Op};
use super::encode::{self, Message};
use super::{Nft, element};

/// Messages for one operation, which succeed or fail together.
struct Unit {
    /// The operation's index.
    index: usize,
    /// Its set and element.
    what: (SetDef, Element),
    add: bool,
    messages: Vec<Message>,
}

impl Unit {
    fn describe(&self) -> String {
        let verb = if self.add { "add to" } else { "delete from" };
        let (set, element) = &self.what;
        format!("{verb} {}: {element:?}", set.name)
    }
}

impl<S: Socket> Nft<S> {
    /// Adds and deletes elements in one transaction and skips all other operations. Returns those that were not done.
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
        // Holds the halves that are still to be sent when a batch is too long for the kernel and gets split.
        let mut waiting = vec![units];
        let mut silent = false;
        while let Some(units) = waiting.pop() {
            if silent {
                let unsent = |u: &Unit| (u.index, KernelError::Unsent { what: u.describe() });
                errors.extend(units.iter().map(unsent));
                continue;
            }
            let Err((mut units, error)) = self.commit(units, &mut errors).await else {
                continue;
            };
            silent = error.is_unanswered();
            let split = !silent && !matches!(error, KernelError::Permission { .. });
            if split && units.len() > 1 {
                let rest = units.split_off(units.len() / 2);
                waiting.push(rest);
                waiting.push(units);
            } else if silent {
                let unanswered =
                    |u: &Unit| (u.index, KernelError::Unanswered { what: u.describe() });
                errors.extend(units.iter().map(unanswered));
            } else {
                errors.extend(units.iter().map(|u| (u.index, error.again())));
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

    /// Commits units without those that the kernel refuses, which go into `errors`. If an error belongs to no unit, the remaining
    /// units are returned. An unanswered transaction is sent once more; repeating it does no harm.
    async fn commit(
        &mut self,
        mut units: Vec<Unit>,
        refusals: &mut Vec<(usize, KernelError)>,
    ) -> Result<(), (Vec<Unit>, KernelError)> {
        let mut again = true;
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
                Err(error) if error.is_unanswered() && std::mem::take(&mut again) => continue,
                Err(error) => return Err((units, error)),
            };
            if errors.is_empty() {
                break;
            }
            let mut at_fault: BTreeMap<usize, io::Error> = BTreeMap::new();
            for (message, error) in errors {
                match owners.get(message) {
                    Some(&unit) if unit != usize::MAX => {
                        // A replacement has two messages. The second one carries the useful error.
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
                    // It exists with another value.
                    unit.messages = vec![delete, add.clone()];
                    rest.push(unit);
                } else {
                    refusals.push((unit.index, refused(unit.describe(), error)));
                }
            }
            units = rest;
        }
        Ok(())
    }

    /// Sends messages as one transaction. Returns nothing, or the index of the first failed message and its error.
    pub(super) async fn transaction(
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
