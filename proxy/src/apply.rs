//! Hands operations to the kernel and keeps the picture of what it holds up to date: what succeeded is in it, what failed
//! is not, so that the next diff asks for it again.

use crate::desired::services::ServiceDesired;
use crate::kernel::{Kernel, Observed, Op};

/// Applies a batch; `held` follows what succeeded. Returns what the kernel said to the rest.
pub async fn apply<K: Kernel>(kernel: &mut K, held: &mut Observed, ops: &[Op]) -> Vec<String> {
    if ops.is_empty() {
        return Vec::new();
    }
    let failed = kernel.apply(ops).await;
    let mut bad: Vec<usize> = failed.iter().map(|(index, _)| *index).collect();
    bad.sort_unstable();
    for (index, op) in ops.iter().enumerate() {
        if bad.binary_search(&index).is_err() {
            note(held, op);
        }
    }
    failed
        .into_iter()
        .map(|(_, error)| error.to_string())
        .collect()
}

/// Follows one operation that succeeded.
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

/// Whether connections to a Service get anywhere: its addresses are local, its virtual servers are there, and none has lost all of
/// its real servers.
pub fn stands(held: &Observed, service: &ServiceDesired) -> bool {
    service.addresses.is_subset(&held.addresses)
        && service.servers.iter().all(|(id, (_, reals))| {
            held.servers.get(id).is_some_and(|(_, held)| {
                reals.is_empty() || reals.keys().any(|addr| held.contains_key(addr))
            })
        })
}

/// Whether the kernel holds everything that a Service asks for.
pub fn holds(held: &Observed, service: &ServiceDesired) -> bool {
    let elements = |(set, element): &(&'static str, _)| {
        held.elements.get(set).is_some_and(|e| e.contains(element))
    };
    service.addresses.is_subset(&held.addresses)
        && service
            .servers
            .iter()
            .all(|(id, server)| held.servers.get(id) == Some(server))
        && service.elements.iter().all(elements)
}
