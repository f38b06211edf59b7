//! Members on a virtual network with loss, delay and reordering, partitions, crashes between any two actions, and restarts.
//!
//! It checks every table that any member puts into force, and stops at the first violation of a guarantee.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrolb_api::ObjectKey;
use ferrolb_controller::allocator::Allocator;
use ferrolb_controller::assignment::Assignments;
use ferrolb_controller::state::State;
use ferrolb_controller::testing::{pool, put, put_pool, service, state};

use super::lies::Lies;
use crate::agreement::machine::{Action, Event, Machine, View};
use crate::agreement::message::Status;
use crate::agreement::table::{Ballot, Name, Saved, Table, Version};

/// xorshift64*: small, seeded, and the same on every platform.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

struct Node {
    machine: Option<Machine>,
    /// The boot number of the machine.
    life: u64,
    disk: Saved,
    allocator: Allocator,
    leading: Option<Ballot>,
    /// The allocator's last result; it sends only changes.
    said: Option<Assignments>,
    /// The state as this node sees it: Services reach the nodes at different times.
    state: State,
    seen: usize,
}

pub(super) struct World {
    pub(super) rng: Rng,
    start: Instant,
    pub(super) now: u64,
    pub(super) names: Vec<Name>,
    nodes: Vec<Node>,
    /// Keyed by due time and a number that keeps messages with equal times in order of sending.
    wire: BTreeMap<(u64, u64), (usize, usize, Vec<u8>)>,
    sent: u64,
    side: Vec<u8>,
    boots: u64,
    pub(super) loss: u64,
    /// Members whose disk accepts no write.
    pub(super) full: BTreeSet<usize>,
    /// The maximum duration of a write in ms.
    pub(super) disk_delay: u64,
    writes: BTreeMap<(u64, u64), (usize, u64, Arc<Saved>)>,
    /// The member that lies.
    pub(super) liar: Option<(usize, Lies)>,
    /// Its current claim, and until when it repeats it.
    pub(super) lie: Option<(u64, Status)>,
    /// Whether a lie was told: members may then refuse messages.
    pub(super) lied: bool,
    /// Members that others reported for a leap.
    pub(super) named: BTreeSet<Name>,
    /// Percentage of actions before which the node crashes.
    pub(super) deadly: u64,
    /// Percentage of steps in which some node considers the first or the second live member elected, and sticks to it.
    pub(super) confusion: u64,
    belief: Vec<usize>,
    /// The number of Services; node i sees them a while later than node i-1.
    pub(super) services: usize,
    agreed: BTreeMap<Version, Arc<Table>>,
    pub(super) widest: usize,
}

impl World {
    pub(super) fn new(seed: u64, nodes: usize) -> Self {
        let base = state("10.96.0.0/16", [put_pool(pool("p", "10.0.0.1-10.0.0.200"))]);
        let mut world = Self {
            rng: Rng::new(seed),
            start: Instant::now(),
            now: 0,
            names: (0..nodes).map(|i| Name::from(format!("n{i}"))).collect(),
            nodes: Vec::new(),
            wire: BTreeMap::new(),
            sent: 0,
            side: vec![0; nodes],
            boots: 0,
            loss: 0,
            full: BTreeSet::new(),
            disk_delay: 0,
            writes: BTreeMap::new(),
            liar: None,
            lie: None,
            lied: false,
            named: BTreeSet::new(),
            deadly: 0,
            confusion: 0,
            belief: vec![0; nodes],
            services: 0,
            agreed: BTreeMap::new(),
            widest: 0,
        };
        for _ in 0..nodes {
            let mut state = base.clone();
            // A node whose files are behind frees nothing.
            state.keep_absent(true);
            world.nodes.push(Node {
                machine: None,
                life: 0,
                disk: Saved::default(),
                allocator: Allocator::new(Assignments::new()),
                leading: None,
                said: None,
                state,
                seen: 0,
            });
        }
        (0..nodes).for_each(|i| world.boot(i));
        world
    }

    fn at(&self) -> Instant {
        self.start + Duration::from_millis(self.now)
    }

    pub(super) fn boot(&mut self, i: usize) {
        if self.nodes[i].machine.is_some() || self.lies(i) {
            return;
        }
        self.boots += 1;
        self.nodes[i].life = self.boots;
        let disk = self.nodes[i].disk.clone();
        let table = disk.agreed.clone();
        self.nodes[i].machine = Some(Machine::new(self.names[i].clone(), self.boots, disk));
        self.in_force(&table);
    }

    pub(super) fn crash(&mut self, i: usize) {
        self.nodes[i].machine = None;
        self.nodes[i].leading = None;
        let pending = self.writes.extract_if(.., |_, (of, ..)| *of == i);
        let pending: Vec<_> = pending.map(|(_, (.., saved))| saved).collect();
        for saved in pending {
            // The disk received all of it, or nothing.
            if self.rng.chance(50) {
                self.nodes[i].disk = (*saved).clone();
            }
        }
    }

    /// This member lies from now on, until the end.
    pub(super) fn corrupt(&mut self, i: usize, lies: Lies) {
        self.crash(i);
        (self.liar, self.lied) = (Some((i, lies)), true);
    }

    fn lies(&self, i: usize) -> bool {
        self.liar.is_some_and(|(liar, _)| liar == i)
    }

    /// The highest ballot on any disk.
    pub(super) fn newest_promise(&self) -> Ballot {
        let promised = self.nodes.iter().map(|n| n.disk.promised.clone());
        promised.max().unwrap_or_default()
    }

    pub(super) fn up(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|i| self.nodes[*i].machine.is_some())
            .collect()
    }

    pub(super) fn split(&mut self) {
        for i in 0..self.side.len() {
            self.side[i] = u8::try_from(self.rng.below(2)).unwrap();
        }
    }

    pub(super) fn heal(&mut self) {
        self.side.fill(0);
    }

    fn view(&self, i: usize) -> View {
        let live: BTreeSet<Name> = self
            .up()
            .into_iter()
            .chain(self.liar.map(|(liar, _)| liar))
            .filter(|j| self.side[*j] == self.side[i])
            .map(|j| self.names[j].clone())
            .collect();
        let believed = if self.confusion > 0 {
            self.belief[i]
        } else {
            0
        };
        View {
            placer: live.iter().nth(believed).or(live.first()).cloned(),
            known: self.nodes.len(),
            live,
        }
    }

    /// One step of 10 ms.
    pub(super) fn step(&mut self) {
        self.now += 10;
        if self.rng.chance(self.confusion) {
            let i = usize::try_from(self.rng.below(self.nodes.len() as u64)).unwrap();
            self.belief[i] = usize::from(self.rng.chance(50));
        }
        for i in self.up() {
            // Views lag: not every node updates its view at every step.
            if self.rng.chance(20) {
                let view = self.view(i);
                self.give(i, Event::View(view));
            }
            if self.now.is_multiple_of(50) {
                self.give(i, Event::Tick);
            }
            self.allocate(i);
        }
        if let Some((liar, lies)) = self.liar
            && self.now.is_multiple_of(50)
        {
            self.lie(liar, lies);
        }
        while let Some(entry) = self.writes.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (i, life, saved) = entry.remove();
            if self.nodes[i].life == life && self.nodes[i].machine.is_some() {
                self.wrote(i, &saved);
            }
        }
        while let Some(entry) = self.wire.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (from, to, bytes) = entry.remove();
            if self.lies(to) {
                self.answer_falsely(to, from, &bytes);
            } else if self.side[from] == self.side[to] {
                let from = self.names[from].clone();
                self.give(to, Event::Received { from, bytes });
            }
        }
    }

    fn allocate(&mut self, i: usize) {
        let lag = self.rng.below(3) == 0;
        let node = &mut self.nodes[i];
        if node.seen < self.services && lag {
            node.state
                .apply(&put(service(&format!("d/s{:03}", node.seen))));
            node.seen += 1;
        }
        let Some(ballot) = node.leading.clone() else {
            return;
        };
        let dirty = node.state.take_dirty();
        node.allocator.decide(&node.state, &dirty);
        if node.said.as_ref() != Some(node.allocator.assignments()) {
            let assignments = node.allocator.assignments().clone();
            node.said = Some(assignments.clone());
            self.give(
                i,
                Event::Wanted {
                    ballot,
                    assignments,
                },
            );
        }
    }

    fn give(&mut self, i: usize, event: Event) {
        let now = self.at();
        let Some(machine) = &mut self.nodes[i].machine else {
            return;
        };
        let actions = machine.step(event, now);
        for action in actions {
            if self.deadly > 0 && self.rng.below(1000) < self.deadly {
                self.crash(i);
                return;
            }
            self.act(i, action);
        }
    }

    fn act(&mut self, i: usize, action: Action) {
        match action {
            Action::Send { to, bytes } => {
                assert!(bytes.len() <= 1100);
                self.widest = self.widest.max(bytes.len());
                let to = self.names.iter().position(|n| *n == to).unwrap();
                if self.rng.chance(self.loss) {
                    return;
                }
                let twice = if self.rng.chance(self.loss / 2) { 2 } else { 1 };
                for _ in 0..twice {
                    self.deliver(i, to, bytes.clone());
                }
            }
            Action::Persist(saved) if self.disk_delay > 0 => {
                self.sent += 1;
                let due = self.now + self.rng.below(self.disk_delay);
                let life = self.nodes[i].life;
                self.writes.insert((due, self.sent), (i, life, saved));
            }
            Action::Persist(saved) => self.wrote(i, &saved),
            Action::Agreed(table) => self.in_force(&table),
            Action::Lead { ballot, base } => {
                let node = &mut self.nodes[i];
                node.allocator.rebase(&base.assignments);
                node.leading = Some(ballot);
                node.said = None;
            }
            Action::Follow => self.nodes[i].leading = None,
            Action::Leapt { from, round } => {
                assert!(self.lied, "{from} said {round}");
                self.named.insert(from);
            }
            Action::Stalled => {}
            Action::Refused { from, why } => assert!(self.lied, "{from}: {why}"),
        }
    }

    /// Puts a message on the wire.
    pub(super) fn deliver(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        self.sent += 1;
        let slow = if self.rng.chance(self.loss) { 300 } else { 12 };
        let due = self.now + self.rng.below(slow);
        self.wire.insert((due, self.sent), (from, to, bytes));
    }

    fn wrote(&mut self, i: usize, saved: &Saved) {
        if self.full.contains(&i) || self.loss > 0 && self.rng.chance(3) {
            return self.give(i, Event::PersistFailed);
        }
        self.nodes[i].disk = saved.clone();
        self.give(i, Event::Persisted);
    }

    /// Checks the guarantees: a version identifies one table; no address has two owners; what was agreed is never lost or
    /// changed, since nobody in this world asks for a change.
    fn in_force(&mut self, table: &Arc<Table>) {
        if let Some(same) = self.agreed.get(&table.version) {
            assert_eq!(same, table, "two tables of one version");
            return;
        }
        let mut owners: BTreeMap<IpAddr, &ObjectKey> = BTreeMap::new();
        for (key, a) in &table.assignments {
            for ip in a.addresses.iter().chain(&a.cluster_ips) {
                assert!(owners.insert(*ip, key).is_none(), "{ip} has two owners");
            }
        }
        for (version, other) in &self.agreed {
            let (old, new) = if *version < table.version {
                (other, table)
            } else {
                (table, other)
            };
            for (key, a) in &old.assignments {
                assert_eq!(
                    new.assignments.get(key),
                    Some(a),
                    "{key}: {} then {}",
                    old.version,
                    new.version
                );
            }
        }
        self.agreed.insert(table.version.clone(), table.clone());
    }

    /// Whether all honest members have all Services in one table in force.
    pub(super) fn converged(&self) -> bool {
        let tables: BTreeSet<&Version> = self
            .nodes
            .iter()
            .filter_map(|n| n.machine.as_ref())
            .map(|m| &m.agreed().version)
            .collect();
        let full = self.nodes.iter().enumerate().all(|(i, n)| {
            let complete = |m: &Machine| m.agreed().assignments.len() == self.services;
            self.lies(i) || n.machine.as_ref().is_some_and(complete)
        });
        tables.len() == 1 && full
    }

    pub(super) fn most_in_force(&self) -> usize {
        self.agreed
            .values()
            .map(|t| t.assignments.len())
            .max()
            .unwrap_or(0)
    }

    pub(super) fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.step();
        }
    }

    /// No further faults from now on, except full disks and lies. Returns how long it takes until all agree.
    pub(super) fn settle(&mut self, within: u64) -> u64 {
        (self.loss, self.deadly, self.confusion) = (0, 0, 0);
        self.heal();
        (0..self.nodes.len()).for_each(|i| self.boot(i));
        let start = self.now;
        while !self.converged() {
            self.step();
            assert!(self.now - start < within, "no agreement within {within} ms");
        }
        self.now - start
    }
}
