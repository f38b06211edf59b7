//! From what the kernel holds to what it should hold: an ordered list of operations, empty if nothing differs.
//!
//! The order ensures that every packet takes the old or the new path, or is refused cleanly. No packet reaches a host socket, or
//! an endpoint that does not fit its masquerade class:
//!
//! 1. add hairpin elements of endpoints that may come, then servers behind marks that packets are about to get;
//! 2. add real servers to virtual servers already in use;
//! 3. remove virtual servers, then their addresses: from here on the guard refuses, because the address is still in `vip`;
//! 4. apply one transaction of elements;
//! 5. add new virtual servers: until now the guard refused;
//! 6. remove real servers, and servers behind marks that no packet gets any more;
//! 7. add new addresses, and remove hairpin elements of endpoints that are gone.
//!
//! If a key changes from masquerading everybody to keeping the client's address, its remote real servers are removed
//! before the elements change (step 4). In the opposite case they are added after that.
//!
//! A policy that no longer uses an endpoint does not end its TCP connections: the real server gets weight 0 ([`Wanted::stay`]).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;

use crate::desired::Desired;
use crate::kernel::rule::{Key, Value, Verdict};
use crate::kernel::table::{class, set};
use crate::kernel::{Element, Family, Observed, Op, RealServer, VirtualServer, VirtualServerId};
use crate::lower::ipvs::Wanted;
use crate::lower::{Lowered, Touched};
use crate::state::State;

#[cfg(test)]
mod tests;

/// Kubernetes' default range of node ports (`--service-node-port-range`).
const NODE_PORTS: Range<u16> = 30000..32768;

/// Hairpin elements are added before their endpoint can be chosen, and removed after it is gone.
const HAIRPINS: [&str; 2] = [set::hairpin(Family::V4), set::hairpin(Family::V6)];

/// Everything that a full pass compares: what should be there, and what is there and is ours.
///
/// Ours are all addresses on `kube-ipvs0`, no matter who put them there, and the virtual servers on them. Also ours are the
/// virtual servers in the node-port range on this node's addresses, those whose key is in our own map, and those behind our
/// marks. `excludeCIDRs` are left alone.
pub fn full(held: &Observed, desired: &Desired, state: &State, marks: &Range<u32>) -> Touched {
    let mut all = desired.lowered().everything();
    let excluded = &state.proxy().exclude_cidrs;
    let vips = |addr| {
        let key = [Key::Addr(addr)];
        held.element(set::vip(Family::of(addr)), &key).is_some()
    };
    let free = |addr| !excluded.iter().any(|net: &IpNet| net.contains(&addr));
    let addresses = held.addresses.iter().copied();
    all.addresses
        .extend(addresses.filter(|a| free(*a) || vips(*a)));
    let own: BTreeSet<IpAddr> = state
        .own_addresses()
        .chain(state.node_port_addresses())
        .collect();
    let node_port = |addr, port: u16| NODE_PORTS.contains(&port) && own.contains(&addr);
    let ours = |id: &&VirtualServerId| held.owns(id, excluded, marks, node_port);
    all.servers
        .extend(held.servers.keys().filter(ours).copied());
    for (set, elements) in &held.elements {
        for element in elements {
            all.element(set, element);
        }
    }
    all
}

/// The operations that bring everything in `touched` into the desired state.
pub fn diff(held: &Observed, desired: &Desired, touched: &Touched) -> Vec<Op> {
    let desired = desired.lowered();
    let mut steps = Steps::default();
    for id in &touched.servers {
        steps.server(*id, held, desired);
    }
    for addr in &touched.addresses {
        match (held.addresses.contains(addr), desired.has_address(*addr)) {
            (false, true) => steps.addresses.push(Op::AddAddress(*addr)),
            (true, false) => steps.gone.push(Op::DelAddress(*addr)),
            _ => {}
        }
    }
    for (set, keys) in &touched.elements {
        for key in keys {
            let have = held.element(set, key);
            let want = desired.element(set, key);
            if have != want {
                let del = have.map(|e| Op::DelElement(set, e.clone()));
                let add = want.map(|e| Op::AddElement(set, e.clone()));
                if HAIRPINS.contains(set) {
                    steps.old_hairpins.extend(del);
                    steps.new_hairpins.extend(add);
                } else {
                    steps.del_elements.extend(del);
                    steps.add_elements.extend(add);
                }
            }
        }
    }
    steps.in_order()
}

#[derive(Debug, Default)]
struct Steps {
    new_hairpins: Vec<Op>,
    marked: Vec<Op>,
    coming: Vec<Op>,
    gone: Vec<Op>,
    del_elements: Vec<Op>,
    add_elements: Vec<Op>,
    new: Vec<Op>,
    going: Vec<Op>,
    addresses: Vec<Op>,
    old_hairpins: Vec<Op>,
}

impl Steps {
    fn in_order(self) -> Vec<Op> {
        let parts = [
            self.new_hairpins,
            self.marked,
            self.coming,
            self.gone,
            self.del_elements,
            self.add_elements,
            self.new,
            self.going,
            self.addresses,
            self.old_hairpins,
        ];
        parts.into_iter().flatten().collect()
    }

    fn server(&mut self, id: VirtualServerId, held: &Observed, desired: &Lowered) {
        let marked = matches!(id, VirtualServerId::Fwmark { .. });
        match (held.servers.get(&id), desired.server(&id)) {
            (None, None) => {}
            (Some(_), None) if marked => self.going.push(Op::DelVirtualServer(id)),
            (Some(_), None) => self.gone.push(Op::DelVirtualServer(id)),
            (None, Some(Wanted { server, reals, .. })) => {
                let step = if marked {
                    &mut self.marked
                } else {
                    &mut self.new
                };
                step.push(Op::SetVirtualServer(server.clone()));
                step.extend(reals.values().map(|r| Op::SetRealServer(id, *r)));
            }
            (Some(have), Some(want)) if want.is(have) => {}
            (Some((old, had)), Some(want)) => {
                let reals = &want.reals;
                self.edit(id, old, &want.server);
                let turn = Turn::of(&id, held, desired);
                for (addr, real) in reals {
                    match had.get(addr) {
                        Some(h) if h == real => {}
                        Some(h) if real.weight < h.weight => {
                            self.leaves(turn, Op::SetRealServer(id, *real))
                        }
                        _ => self.comes(turn, id, real),
                    }
                }
                for real in had.values().filter(|r| !reals.contains_key(&r.addr)) {
                    if want.stays(real) {
                        continue;
                    }
                    let op = if want.stay.contains(&real.addr) {
                        Op::SetRealServer(id, RealServer { weight: 0, ..*real })
                    } else {
                        Op::DelRealServer(id, real.addr)
                    };
                    self.leaves(turn, op);
                }
            }
        }
    }

    fn edit(&mut self, id: VirtualServerId, old: &VirtualServer, new: &VirtualServer) {
        if old != new {
            let marked = matches!(id, VirtualServerId::Fwmark { .. });
            let step = if marked {
                &mut self.marked
            } else {
                &mut self.coming
            };
            step.push(Op::SetVirtualServer(new.clone()));
        }
    }

    fn comes(&mut self, turn: Turn, id: VirtualServerId, real: &RealServer) {
        let step = match turn {
            Turn::Widens => &mut self.new,
            _ => &mut self.coming,
        };
        step.push(Op::SetRealServer(id, *real));
    }

    fn leaves(&mut self, turn: Turn, op: Op) {
        let step = match turn {
            Turn::Narrows => &mut self.gone,
            _ => &mut self.going,
        };
        step.push(op);
    }
}

/// How the masquerade class of a key changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Everybody was masqueraded; now clients keep their address.
    Narrows,
    /// The reverse.
    Widens,
    Stays,
}

impl Turn {
    fn of(id: &VirtualServerId, held: &Observed, desired: &Lowered) -> Self {
        let VirtualServerId::Address {
            addr,
            port,
            protocol,
        } = *id
        else {
            return Self::Stays;
        };
        let family = Family::of(addr);
        let key = [Key::Addr(addr), Key::Proto(protocol), Key::Port(port)];
        let everybody = |element: Option<&Element>| {
            let goto = Value::Verdict(Verdict::Goto(class::masq_all(family)));
            element.is_some_and(|e| e.value == Some(goto))
        };
        let before = everybody(held.element(set::masq(family), &key));
        let after = everybody(desired.element(set::masq(family), &key));
        match (before, after) {
            (true, false) => Self::Narrows,
            (false, true) => Self::Widens,
            _ => Self::Stays,
        }
    }
}
