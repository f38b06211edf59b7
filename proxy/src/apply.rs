//! Sends operations to the kernel and updates the record of what it holds.
//!
//! What was done enters the record. What was refused or not sent does not, so the next diff asks for it again. What was sent but
//! not answered may or may not be in the kernel. The record drops it, and the kernel must be read before the next comparison.

use std::collections::{BTreeMap, BTreeSet};

use ferrolb_api::scheduler::NAMES;

use crate::kernel::{Kernel, KernelError, Observed, Op};
use crate::lower::ipvs::Wanted;
use crate::lower::service::LoweredService;

/// The result of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The kernel's errors for the operations that were not done, each once, and without those that only follow from another.
    pub errors: Vec<String>,
    /// The schedulers that the kernel lacks, each with the error. They are not among the others.
    pub lacking: BTreeMap<&'static str, String>,
    /// Whether the result of some operations is unknown. The record then claims too little, and the kernel must be read.
    pub unknown: bool,
}

/// Applies a batch and updates `held` with what was done.
pub async fn apply<K: Kernel>(kernel: &mut K, held: &mut Observed, ops: &[Op]) -> Applied {
    let mut applied = Applied::default();
    if ops.is_empty() {
        return applied;
    }
    let mut failed = kernel.apply(ops).await;
    failed.sort_by_key(|(index, _)| *index);
    let mut failed = failed.into_iter().peekable();
    let (mut unmade, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for (index, op) in ops.iter().enumerate() {
        let Some((_, error)) = failed.next_if(|(at, _)| *at == index) else {
            note(held, op);
            continue;
        };
        if error.is_unanswered() {
            forget(held, op);
            applied.unknown = true;
        }
        // The real servers of a virtual server that was not made are not made either: that is no news.
        match op {
            Op::SetVirtualServer(server) => {
                unmade.insert(server.id);
            }
            Op::SetRealServer(id, _) if unmade.contains(id) => continue,
            _ => {}
        }
        let text = error.to_string();
        if let KernelError::NoScheduler { name } = &error
            && let Some(name) = NAMES.into_iter().find(|n| n == name)
        {
            applied.lacking.insert(name, text);
            continue;
        }
        if seen.insert(text.clone()) {
            applied.errors.push(text);
        }
    }
    applied
}

/// Drops from the record what an operation concerned.
fn forget(held: &mut Observed, op: &Op) {
    match op {
        Op::AddAddress(addr) | Op::DelAddress(addr) => {
            held.addresses.remove(addr);
        }
        Op::SetVirtualServer(server) => {
            held.servers.remove(&server.id);
        }
        Op::DelVirtualServer(id) => {
            held.servers.remove(id);
        }
        Op::SetRealServer(id, real) => note(held, &Op::DelRealServer(*id, real.addr)),
        Op::AddElement(set, element) => note(held, &Op::DelElement(set, element.clone())),
        Op::DelRealServer(..) | Op::DelElement(..) => note(held, op),
    }
}

/// Records one operation that succeeded.
pub fn note(held: &mut Observed, op: &Op) {
    match op {
        Op::AddAddress(addr) => {
            held.addresses.insert(*addr);
        }
        Op::DelAddress(addr) => {
            held.addresses.remove(addr);
        }
        Op::SetVirtualServer(server) => {
            let entry = held.servers.entry(server.id);
            entry
                .or_insert_with(|| (server.clone(), Default::default()))
                .0 = server.clone();
        }
        Op::DelVirtualServer(id) => {
            held.servers.remove(id);
        }
        Op::SetRealServer(id, real) => {
            if let Some((_, reals)) = held.servers.get_mut(id) {
                reals.insert(real.addr, *real);
            }
        }
        Op::DelRealServer(id, addr) => {
            if let Some((_, reals)) = held.servers.get_mut(id) {
                reals.remove(addr);
            }
        }
        Op::AddElement(set, element) => {
            held.elements
                .entry(set)
                .or_default()
                .insert(element.clone());
        }
        Op::DelElement(set, element) => {
            let old = held.element(set, &element.key).cloned();
            if let (Some(old), Some(elements)) = (old, held.elements.get_mut(set)) {
                elements.remove(&old);
            }
        }
    }
}

/// Whether connections to a Service reach an endpoint: its addresses are local, its virtual servers exist, and none has lost all
/// of its real servers.
pub fn stands(held: &Observed, service: &LoweredService) -> bool {
    service.addresses.is_subset(&held.addresses)
        && service.servers.iter().all(|(id, Wanted { reals, .. })| {
            held.servers.get(id).is_some_and(|(_, held)| {
                reals.is_empty() || reals.keys().any(|addr| held.contains_key(addr))
            })
        })
}

/// Whether the kernel holds everything that a Service needs.
pub fn holds(held: &Observed, service: &LoweredService) -> bool {
    let elements = |(set, element): &(&'static str, _)| {
        held.elements.get(set).is_some_and(|e| e.contains(element))
    };
    service.addresses.is_subset(&held.addresses)
        && service
            .servers
            .iter()
            .all(|(id, wanted)| held.servers.get(id).is_some_and(|held| wanted.is(held)))
        && service.elements.iter().all(elements)
}
