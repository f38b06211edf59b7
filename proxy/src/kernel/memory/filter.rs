//! Runs the rules of the table on one packet.

use std::net::IpAddr;

use ferrolb_api::proxy_config::InterfaceName;

use super::packet::Payload;
use crate::kernel::rule::{Hook, HookPoint, Key, Selector, Statement, Value, Verdict};
use crate::kernel::{Element, Family, Observed, Table};

/// What rules can read of a packet, and the mark that they can set.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) dport: u16,
    pub(super) payload: Payload,
    /// Destination of the flow's first packet.
    pub(super) original: (IpAddr, u16),
    pub(super) new: bool,
    pub(super) source_is_local: bool,
    /// Where it came in. `None`: from the node itself.
    pub(super) input: Option<InterfaceName>,
    pub(super) output: Option<&'static str>,
    pub(super) mark: u32,
}

/// The result of a base chain, or of all chains of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Accept,
    Drop,
    Reset,
    Unreachable,
    Masquerade,
    Kept,
}

enum Step {
    Next,
    Return,
    End(End),
}

pub(super) struct Filter<'a> {
    pub(super) table: &'a Table,
    pub(super) held: &'a Observed,
}

impl Filter<'_> {
    /// The chains of a hook whose priority is in `priorities`, by priority.
    pub(super) fn hook(
        &self,
        point: HookPoint,
        nat: bool,
        priorities: std::ops::RangeInclusive<i32>,
        view: &mut View,
    ) -> End {
        let here = |h: &Hook| h.point == point && h.nat == nat && priorities.contains(&h.priority);
        let mut chains: Vec<_> = self
            .table
            .chains
            .iter()
            .filter_map(|c| c.hook.filter(here).map(|h| (h.priority, c.name)))
            .collect();
        chains.sort_unstable();
        for (_, name) in chains {
            match self.chain(name, view, 0) {
                Step::Next | Step::Return | Step::End(End::Accept) => {}
                Step::End(end) => return end,
            }
        }
        End::Accept
    }

    fn chain(&self, name: &str, view: &mut View, depth: usize) -> Step {
        // The kernel allows 16 levels of jumps and never loads a loop.
        let Some(chain) = self
            .table
            .chains
            .iter()
            .find(|c| c.name == name && depth < 16)
        else {
            return Step::End(End::Drop);
        };
        if !self.held.rules_loaded {
            return Step::Next;
        }
        for rule in &chain.rules {
            match self.rule(&rule.statements, view, depth) {
                Step::Next => {}
                Step::Return => return Step::Next,
                end => return end,
            }
        }
        Step::Next
    }

    fn rule(&self, statements: &[Statement], view: &mut View, depth: usize) -> Step {
        for statement in statements {
            let matched = match *statement {
                Statement::Family(family) => Family::of(view.dst) == family,
                Statement::L4Proto(protocol) => view.payload.protocol() == Some(protocol),
                Statement::StateNew(new) => view.new == new,
                Statement::InSet([Selector::InputInterface], set, wanted) => {
                    let key = view.input.map(|name| [Key::Interface(name)]);
                    let found = key.is_some_and(|key| self.lookup(set, &key).is_some());
                    found == wanted
                }
                Statement::InSet(selectors, set, wanted) => match key(selectors, view) {
                    Some(key) => self.lookup(set, &key).is_some() == wanted,
                    None => false,
                },
                Statement::SourceIsLocal => view.source_is_local,
                Statement::OutputInterface(name) => view.output == Some(name),
                Statement::Icmp(types) => icmp(view, Family::V4, types),
                Statement::Icmpv6(types) => icmp(view, Family::V6, types),
                Statement::VerdictMap(selectors, map) => {
                    let found = key(selectors, view).and_then(|key| self.lookup(map, &key));
                    match found.and_then(|e| e.value) {
                        Some(Value::Verdict(verdict)) => match self.verdict(verdict, view, depth) {
                            Step::Next => true,
                            end => return end,
                        },
                        _ => false,
                    }
                }
                Statement::SetMarkBit(bit) => {
                    view.mark |= bit;
                    true
                }
                Statement::HasMarkBit(bit) => view.mark & bit != 0,
                Statement::MarkFromMap(selectors, map) => {
                    let found = key(selectors, view).and_then(|key| self.lookup(map, &key));
                    match found.and_then(|e| e.value) {
                        Some(Value::Mark(mark)) => {
                            view.mark = mark;
                            true
                        }
                        _ => false,
                    }
                }
                Statement::Verdict(verdict) => match self.verdict(verdict, view, depth) {
                    Step::Next => true,
                    end => return end,
                },
                Statement::RejectTcpReset => return Step::End(End::Reset),
                Statement::Reject => return Step::End(End::Unreachable),
                Statement::Masquerade => return Step::End(End::Masquerade),
                Statement::DnatToSelf(family) => {
                    if Family::of(view.dst) == family {
                        return Step::End(End::Kept);
                    }
                    false
                }
            };
            if !matched {
                break;
            }
        }
        Step::Next
    }

    fn verdict(&self, verdict: Verdict, view: &mut View, depth: usize) -> Step {
        match verdict {
            Verdict::Accept => Step::End(End::Accept),
            Verdict::Drop => Step::End(End::Drop),
            Verdict::Return => Step::Return,
            Verdict::Jump(chain) => self.chain(chain, view, depth + 1),
            // The rest of the calling chain is skipped.
            Verdict::Goto(chain) => match self.chain(chain, view, depth + 1) {
                Step::Next => Step::Return,
                end => end,
            },
        }
    }

    fn lookup(&self, set: &str, key: &[Key]) -> Option<&Element> {
        self.held.elements.get(set)?.iter().find(|element| {
            element.key.len() == key.len()
                && element
                    .key
                    .iter()
                    .zip(key)
                    .all(|(have, want)| match (have, want) {
                        (Key::Range(first, last), Key::Addr(addr)) => first <= addr && addr <= last,
                        (Key::Interfaces(prefix), Key::Interface(name)) => {
                            name.as_str().starts_with(prefix.as_str())
                        }
                        _ => have == want,
                    })
        })
    }
}

fn icmp(view: &View, family: Family, types: &[u8]) -> bool {
    matches!(view.payload, Payload::Icmp(kind) if Family::of(view.dst) == family && types.contains(&kind))
}

/// The key that selectors read. `None` if the packet has no such field (another family, no transport protocol with ports).
fn key(selectors: &[Selector], view: &View) -> Option<Vec<Key>> {
    let address = |addr: IpAddr, family| (Family::of(addr) == family).then_some(Key::Addr(addr));
    selectors
        .iter()
        .map(|selector| match *selector {
            Selector::Saddr(family) => address(view.src, family),
            Selector::Daddr(family) => address(view.dst, family),
            Selector::OriginalDaddr(family) => address(view.original.0, family),
            Selector::L4Proto => view.payload.protocol().map(Key::Proto),
            Selector::Dport => view.payload.protocol().map(|_| Key::Port(view.dport)),
            Selector::InputInterface => view.input.map(Key::Interface),
            Selector::OriginalDport => view.payload.protocol().map(|_| Key::Port(view.original.1)),
        })
        .collect()
}
