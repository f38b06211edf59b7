//! Firewall marks: one per Service port under a Local policy, the same on all its addresses and in both families.
//!
//! A mark survives a restart, because it is adopted from the kernel's mark map. It is not reused while a server in the kernel
//! still has it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use ferrolb_api::ObjectKey;
use ferrolb_api::view::Protocol;

use crate::kernel::rule::{Key, Value};
use crate::kernel::table::set;
use crate::kernel::{Family, Observed, VirtualServerId};
use crate::plan::FrontKey;

/// A port of a Service: its name (empty for an unnamed one), number and protocol.
pub type PortKey = (ObjectKey, String, u16, Protocol);

/// The assigned marks.
#[derive(Debug, Clone)]
pub struct Marks {
    range: Range<u32>,
    given: BTreeMap<PortKey, u32>,
    taken: BTreeSet<u32>,
    found: BTreeMap<FrontKey, u32>,
}

impl Marks {
    /// No mark assigned yet. Marks come from this range.
    pub fn new(range: Range<u32>) -> Self {
        Self {
            range,
            given: BTreeMap::new(),
            taken: BTreeSet::new(),
            found: BTreeMap::new(),
        }
    }

    /// Remembers the marks in the kernel's map for ports that ask for one later.
    pub fn adopt(&mut self, observed: &Observed) {
        self.found.clear();
        for family in Family::ALL {
            let elements = observed.elements.get(set::mark(family));
            for element in elements.into_iter().flatten() {
                if let (
                    [Key::Addr(addr), Key::Proto(protocol), Key::Port(port)],
                    Some(Value::Mark(mark)),
                ) = (element.key.as_slice(), element.value)
                    && self.range.contains(&mark)
                {
                    self.found.insert((*addr, *port, *protocol), mark);
                }
            }
        }
    }

    /// The mark of a port that is served on `keys`: its current one, else the one that the kernel has for one of its keys, else
    /// the lowest that is free both here and in the kernel. `None` if the range is used up.
    pub fn give(&mut self, port: PortKey, keys: &[FrontKey], held: &Observed) -> Option<u32> {
        if let Some(mark) = self.given.get(&port) {
            return Some(*mark);
        }
        let adopted = keys
            .iter()
            .filter_map(|k| self.found.get(k))
            .find(|m| !self.taken.contains(m));
        let mark = match adopted {
            Some(mark) => *mark,
            None => self.free(held)?,
        };
        self.given.insert(port, mark);
        self.taken.insert(mark);
        Some(mark)
    }

    /// Releases the marks of a Service's ports that are not in `kept`.
    pub fn keep(&mut self, service: &ObjectKey, kept: &BTreeSet<PortKey>) {
        let first = (service.clone(), String::new(), 0, Protocol::Tcp);
        let gone: Vec<PortKey> = self
            .given
            .range(first..)
            .map(|(key, _)| key)
            .take_while(|key| key.0 == *service)
            .filter(|key| !kept.contains(key))
            .cloned()
            .collect();
        for key in gone {
            if let Some(mark) = self.given.remove(&key) {
                self.taken.remove(&mark);
            }
        }
    }

    /// Whether a port that asks for a mark would get one.
    pub fn any_free(&self, held: &Observed) -> bool {
        self.free(held).is_some()
    }

    fn free(&self, held: &Observed) -> Option<u32> {
        let in_kernel = |mark| {
            Family::ALL.into_iter().any(|family| {
                held.servers
                    .contains_key(&VirtualServerId::Fwmark { mark, family })
            })
        };
        let found: BTreeSet<u32> = self.found.values().copied().collect();
        self.range
            .clone()
            .find(|m| *m != 0 && !self.taken.contains(m) && !found.contains(m) && !in_kernel(*m))
    }

    /// Forgets the marks found in the kernel: every port that could adopt one has done so.
    pub fn settled(&mut self) {
        self.found.clear();
    }
}
