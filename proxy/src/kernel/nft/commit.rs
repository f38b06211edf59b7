//! Transactions: elements of a batch in one, and what becomes of it when the kernel refuses a part.

use std::collections::BTreeMap;
use std::io;

use netlink_packet_netfilter::NetfilterMessage;
use nix::errno::Errno;

use super::super::netlink::{Request, refused};
use super::super::rule::{Element, SetDef};
use super::super::{KernelError, Op};
use super::encode::{self, Message};
use super::{Nft, element};

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

    /// Sends messages as one transaction: nothing, or the index of the first message at fault and its error.
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
