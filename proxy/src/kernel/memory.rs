//! A kernel in memory. It takes the same operations as the real kernel, refuses the same ones, and sends packets through the
//! emitted table, elements and virtual servers ([`Memory::send`]).
//!
//! It knows nothing about the desired state. It does not model timers, schedulers other than round robin, or NAT of ports.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrolb_api::proxy_config::ProxyConfig;

use super::rule::{Data, Field, Key, SetDef, Value, Verdict};
use super::table::table;
use super::{
    Damage, Element, Family, Kernel, KernelError, Look, Mended, Observed, Op, Table,
    VirtualServerId,
};
use crate::surroundings::{Listeners, Surroundings};

mod filter;
pub mod packet;

#[cfg(test)]
mod tests;

pub use packet::{From, Outcome, Packet, Payload, Source};

/// Linux error numbers.
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;

/// The state of the kernel in memory.
#[derive(Debug, Clone)]
pub struct Memory {
    /// The state that [`Kernel::read`] returns.
    pub held: Observed,
    /// Addresses of the node itself. Something listens on every port of them.
    pub node: BTreeSet<IpAddr>,
    /// Marks of our virtual servers.
    pub marks: Range<u32>,
    /// What [`Look::look`] returns; `None`: it fails.
    pub around: Option<Surroundings>,
    /// How often [`Look::look`] was called.
    pub looks: usize,
    /// Whether the dummy interface exists.
    pub link: bool,
    /// How often [`Kernel::read`] was called.
    pub reads: usize,
    /// How often settings were put right.
    pub mends: usize,
    /// Settings that somebody else changed.
    pub meddled: Vec<Mended>,
    /// The configuration whose timeouts and limits are in force, if it is not the first one.
    pub tuned: Option<ProxyConfig>,
    /// Schedulers that are not there.
    pub lacks: BTreeSet<String>,
    /// Operations that are refused.
    pub refuse: Option<fn(&Op) -> bool>,
    /// Operations that are done but not answered. Operations after them are not sent.
    pub swallow: Option<fn(&Op) -> bool>,
    /// Nothing is answered, with no timeout.
    pub hangs: bool,
    /// Every requested operation.
    pub log: Vec<Op>,
    table: Table,
    flows: packet::Flows,
}

/// A handle to a [`Memory`]; clones share it.
#[derive(Debug, Clone)]
pub struct MemoryKernel(Arc<Mutex<Memory>>);

impl MemoryKernel {
    /// A kernel of a node with these addresses.
    pub fn new(node: impl IntoIterator<Item = IpAddr>) -> Self {
        Self(Arc::new(Mutex::new(Memory::new(node))))
    }

    /// Gives access to the state.
    pub fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// A fresh kernel of a node with these addresses.
    pub fn new(node: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            held: Observed::default(),
            node: node.into_iter().collect(),
            marks: 0x00fe_0000..0x00ff_0000,
            around: Some(Surroundings {
                listeners: Some(Listeners::default()),
                ..Surroundings::default()
            }),
            looks: 0,
            link: false,
            reads: 0,
            mends: 0,
            meddled: Vec::new(),
            tuned: None,
            lacks: BTreeSet::new(),
            refuse: None,
            swallow: None,
            hangs: false,
            log: Vec::new(),
            table: table(),
            flows: packet::Flows::default(),
        }
    }

    /// Creates the dummy and loads the table. Existing elements stay.
    pub fn prepare(&mut self) {
        for set in &self.table.sets {
            self.held.elements.entry(set.name).or_default();
        }
        self.held.rules_loaded = true;
        self.link = true;
    }

    /// Somebody deletes the dummy, and all addresses with it.
    pub fn delete_link(&mut self) {
        self.link = false;
        self.held.addresses.clear();
    }

    /// Somebody flushes all virtual servers (`ipvsadm -C`).
    pub fn flush_servers(&mut self) {
        self.held.servers.clear();
    }

    /// Somebody deletes the table.
    pub fn flush_table(&mut self) {
        self.held.elements.clear();
        self.held.rules_loaded = false;
    }

    /// Applies a batch. Consecutive element operations form a transaction; all others are applied one by one.
    pub fn apply(&mut self, ops: &[Op]) -> Vec<(usize, KernelError)> {
        let silent = self.swallow.and_then(|s| ops.iter().position(s));
        if let Some((last, unsent)) = silent.and_then(|at| ops.get(at..)?.split_first()) {
            let swallow = self.swallow.take();
            let sent = ops.len() - unsent.len();
            let mut failed = self.apply(ops.get(..sent).unwrap_or_default());
            self.swallow = swallow;
            failed.retain(|(i, _)| *i + 1 != sent);
            let what = |op: &Op| format!("{op:?}");
            failed.push((sent - 1, KernelError::Unanswered { what: what(last) }));
            let unsent = unsent
                .iter()
                .map(|op| KernelError::Unsent { what: what(op) });
            failed.extend((sent..).zip(unsent));
            return failed;
        }
        let mut failed = Vec::new();
        let mut start = 0;
        for run in ops.chunk_by(|a, b| is_element(a) && is_element(b)) {
            self.log.extend_from_slice(run);
            let before = run
                .first()
                .is_some_and(is_element)
                .then(|| self.held.elements.clone());
            let bad = run
                .iter()
                .find_map(|op| self.one(op).err().map(|errno| (op, errno)));
            if let Some((op, errno)) = bad {
                // A transaction is all or nothing.
                if let Some(elements) = before {
                    self.held.elements = elements;
                }
                failed.extend((start..start + run.len()).map(|i| (i, refused(op, errno))));
            }
            start += run.len();
        }
        failed
    }

    fn one(&mut self, op: &Op) -> Result<(), i32> {
        if self.refuse.is_some_and(|refuse| refuse(op)) {
            return Err(EINVAL);
        }
        match op {
            Op::SetRealServer(id, real) => {
                let (_, reals) = self.held.servers.get_mut(id).ok_or(ESRCH)?;
                reals.insert(real.addr, *real);
            }
            Op::SetVirtualServer(server) if self.lacks.contains(&server.scheduler) => {
                return Err(ENOENT);
            }
            Op::SetVirtualServer(server) => {
                let entry = self.held.servers.entry(server.id);
                entry.or_insert_with(|| (server.clone(), BTreeMap::new())).0 = server.clone();
            }
            Op::AddElement(set, element) => self.add_element(set, element)?,
            Op::DelElement(set, element) => {
                let elements = self.held.elements.get_mut(set).ok_or(ENOENT)?;
                elements.retain(|e| e.key != element.key);
            }
            Op::AddAddress(_) if !self.link => return Err(ENODEV),
            Op::AddAddress(addr) => {
                self.held.addresses.insert(*addr);
            }
            Op::DelAddress(addr) => {
                self.held.addresses.remove(addr);
            }
            Op::DelVirtualServer(id) => {
                self.held.servers.remove(id);
            }
            Op::DelRealServer(id, addr) => {
                if let Some((_, reals)) = self.held.servers.get_mut(id) {
                    reals.remove(addr);
                }
            }
        }
        Ok(())
    }

    fn add_element(&mut self, set: &'static str, element: &Element) -> Result<(), i32> {
        let def = self
            .table
            .sets
            .iter()
            .find(|s| s.name == set)
            .ok_or(ENOENT)?;
        if !fits(def, element) {
            return Err(EINVAL);
        }
        if let Some(Value::Verdict(Verdict::Goto(chain) | Verdict::Jump(chain))) = element.value
            && !self.table.chains.iter().any(|c| c.name == chain)
        {
            return Err(ENOENT);
        }
        let elements = self.held.elements.get_mut(set).ok_or(ENOENT)?;
        if elements.contains(element) {
            return Ok(());
        }
        let clash = if def.interval {
            elements.iter().any(|e| overlap(e, element))
        } else {
            let first = Element {
                key: element.key.clone(),
                value: None,
            };
            elements
                .range(first..)
                .next()
                .is_some_and(|e| e.key == element.key)
        };
        if clash {
            return Err(EEXIST);
        }
        elements.insert(element.clone());
        Ok(())
    }
}

fn is_element(op: &Op) -> bool {
    matches!(op, Op::AddElement(..) | Op::DelElement(..))
}

fn refused(op: &Op, errno: i32) -> KernelError {
    if let (Op::SetVirtualServer(server), ENOENT) = (op, errno) {
        let name = server.scheduler.clone();
        return KernelError::NoScheduler { name };
    }
    KernelError::Refused {
        what: format!("{op:?}"),
        source: io::Error::from_raw_os_error(errno),
    }
}

fn fits(def: &SetDef, element: &Element) -> bool {
    let part = |(field, key): (&Field, &Key)| match (field, key) {
        (Field::Addr(family), Key::Addr(addr)) => Family::of(*addr) == *family,
        (Field::Addr(family), Key::Range(a, b)) => {
            def.interval && Family::of(*a) == *family && Family::of(*b) == *family && a < b
        }
        (Field::Proto, Key::Proto(_)) => true,
        (Field::Port, Key::Port(port)) => *port != 0,
        (Field::Interface, Key::Interface(_)) => true,
        (Field::Interface, Key::Interfaces(_)) => def.interval,
        _ => false,
    };
    let value = matches!(
        (def.data, element.value),
        (None, None)
            | (Some(Data::Mark), Some(Value::Mark(_)))
            | (Some(Data::Verdict), Some(Value::Verdict(_)))
    );
    value && def.key.len() == element.key.len() && def.key.iter().zip(&element.key).all(part)
}

/// Whether a name, or all that begin so, begins as a prefix says.
fn begins(name: &Key, prefix: &Key) -> bool {
    match (name, prefix) {
        (Key::Interface(name) | Key::Interfaces(name), Key::Interfaces(prefix)) => {
            name.as_str().starts_with(prefix.as_str())
        }
        _ => false,
    }
}

fn overlap(a: &Element, b: &Element) -> bool {
    let bounds = |key: &Key| match key {
        Key::Addr(addr) => Some((*addr, *addr)),
        Key::Range(first, last) => Some((*first, *last)),
        _ => None,
    };
    a.key
        .iter()
        .zip(&b.key)
        .all(|(a, b)| match (bounds(a), bounds(b)) {
            (Some((a0, a1)), Some((b0, b1))) => a0 <= b1 && b0 <= a1,
            _ => a == b || begins(a, b) || begins(b, a),
        })
}

impl Kernel for MemoryKernel {
    async fn prepare(&mut self) -> Result<(), KernelError> {
        self.lock().prepare();
        Ok(())
    }

    async fn read(&mut self) -> Result<Observed, KernelError> {
        let mut memory = self.lock();
        memory.reads += 1;
        Ok(memory.held.clone())
    }

    async fn damage(
        &mut self,
        sentinel: Option<&VirtualServerId>,
    ) -> Result<Option<Damage>, KernelError> {
        let memory = self.lock();
        if !memory.link || !memory.held.rules_loaded {
            return Ok(Some(Damage::Ground));
        }
        let served = sentinel.is_none_or(|id| memory.held.servers.contains_key(id));
        let local = sentinel.is_none_or(|id| match id {
            VirtualServerId::Address { addr, .. } => {
                memory.held.addresses.contains(addr) || memory.node.contains(addr)
            }
            VirtualServerId::Fwmark { .. } => true,
        });
        Ok((!served || !local).then_some(Damage::Server))
    }

    fn tune(&mut self, config: &ProxyConfig) {
        self.lock().tuned = Some(config.clone());
    }

    async fn mend(&mut self) -> Result<Vec<Mended>, KernelError> {
        let mut memory = self.lock();
        memory.mends += 1;
        Ok(std::mem::take(&mut memory.meddled))
    }

    async fn apply(&mut self, ops: &[Op]) -> Vec<(usize, KernelError)> {
        if self.lock().hangs {
            std::future::pending::<()>().await;
        }
        self.lock().apply(ops)
    }

    async fn cleanup(&mut self) -> Vec<KernelError> {
        let mut memory = self.lock();
        let held = memory.held.clone();
        let marks = memory.marks.clone();
        memory
            .held
            .servers
            .retain(|id, _| !held.owns(id, &[], &marks, |_, _| false));
        memory.flush_table();
        memory.delete_link();
        Vec::new()
    }
}

impl Look for MemoryKernel {
    async fn look(&mut self) -> Result<Surroundings, KernelError> {
        let mut memory = self.lock();
        memory.looks += 1;
        memory.around.clone().ok_or_else(|| KernelError::Protocol {
            what: "read the surroundings".to_owned(),
            detail: "nobody knows them".to_owned(),
        })
    }
}
