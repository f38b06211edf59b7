//! Machines that are slow all the time: stalls of 0.2 to 2 s, for 10 to 70% of the time, on one node and on all.
//!
//! There are two kinds of stall. Either a process does not run while its kernel queues what arrives (`SIGSTOP`, a busy
//! processor), or the machine stands still and loses it (an overcommitted hypervisor).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ferrolb_speaker::message::Status;

use super::sim::net::Net;
use super::sim::{Agent, Queue, World, ms};
use super::{Times, seeds};

/// The interval at which the world is checked.
const STEP: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    One,
    AllInPhase,
    AllOutOfPhase,
}

#[derive(Clone, Copy, Debug)]
struct Slow {
    who: Who,
    stall: Duration,
    /// Percent of the time.
    duty: u64,
    /// What happens to packets during a stall.
    queue: Queue,
    net: Net,
    /// Whether the nodes are slow from their start, or only after they agreed.
    from_start: bool,
}

/// What was observed, summed over all addresses.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Time in which the last node to answer for an address was running.
    owned: Duration,
    /// The part of it in which the address was answered.
    answered: Duration,
    /// The longest time in which two nodes answered for one address.
    both: Duration,
    /// ARP answers by a node that just woke, for an address that another node answers for.
    wrong: usize,
    moves: usize,
    /// Nodes that were declared dead while they were alive.
    deaths: usize,
}

impl Seen {
    fn share(&self) -> f64 {
        self.answered.as_secs_f64() / self.owned.as_secs_f64().max(1e-9)
    }

    fn add(&mut self, other: Self) {
        self.owned += other.owned;
        self.answered += other.answered;
        self.both = self.both.max(other.both);
        self.wrong += other.wrong;
        self.moves += other.moves;
        self.deaths += other.deaths;
    }
}

/// Pauses and resumes slow nodes, and watches which nodes answer.
struct Watcher {
    slow: Slow,
    /// When each node's pause begins or ends.
    turn: Vec<Duration>,
    owner: BTreeMap<IpAddr, usize>,
    both: BTreeMap<IpAddr, Duration>,
    seen: Seen,
    /// Which node declared which other dead, and in which incarnation.
    deaths: BTreeSet<(usize, String, u64)>,
}

impl Watcher {
    fn new(world: &mut World, slow: Slow) -> Self {
        let n = world.nodes.len();
        let period = slow.stall * 100 / u32::try_from(slow.duty).unwrap();
        let same = world.rng.up_to(period);
        let one = usize::try_from(world.rng.below(n as u64)).unwrap();
        let mut begin = |i: usize| match slow.who {
            Who::One if i != one => Duration::MAX,
            Who::AllOutOfPhase => world.now + world.rng.up_to(period),
            _ => world.now + same,
        };
        let turn = (0..n).map(&mut begin).collect();
        world.nodes.iter_mut().for_each(|n| n.queue = slow.queue);
        Self {
            slow,
            turn,
            owner: BTreeMap::new(),
            both: BTreeMap::new(),
            seen: Seen::default(),
            deaths: BTreeSet::new(),
        }
    }

    /// A length within a tenth of `around`. All nodes get the same one if they are slow in phase.
    fn about(&self, world: &mut World, around: Duration, node: usize) -> Duration {
        if self.slow.who == Who::AllInPhase {
            // Two processors do not wake at the same microsecond.
            return around + ms(node as u64) / 2;
        }
        around * 9 / 10 + world.rng.up_to(around / 5)
    }

    fn run(&mut self, world: &mut World, time: Duration) {
        let until = world.now + time;
        let run = self.slow.stall * u32::try_from(100 - self.slow.duty).unwrap()
            / u32::try_from(self.slow.duty).unwrap();
        while world.now < until {
            world.run(STEP);
            for i in 0..world.nodes.len() {
                if world.now < self.turn[i] {
                    continue;
                }
                match world.nodes[i].agent {
                    Agent::Running => {
                        world.pause(i);
                        self.turn[i] = world.now + self.about(world, self.slow.stall, i);
                    }
                    Agent::Paused => {
                        world.resume(i);
                        self.turn[i] = world.now + self.about(world, run, i);
                    }
                    Agent::Absent => {}
                }
            }
            self.look(world);
        }
    }

    fn look(&mut self, world: &World) {
        for addr in &world.addrs {
            let answering = world.answering(addr);
            if let Some(last) = answering.last() {
                self.owner.insert(*addr, *last);
            }
            let runs = |i: &usize| world.nodes[*i].agent == Agent::Running && world.nodes[*i].up;
            if self.owner.get(addr).is_some_and(runs) {
                self.seen.owned += STEP;
                self.seen.answered += if answering.is_empty() {
                    Duration::ZERO
                } else {
                    STEP
                };
            }
            let both = self.both.entry(*addr).or_default();
            *both = if answering.len() > 1 {
                *both + STEP
            } else {
                Duration::ZERO
            };
            self.seen.both = self.seen.both.max(*both);
        }
        if world.now.as_millis() % 100 < STEP.as_millis() {
            for (i, node) in world.nodes.iter().enumerate() {
                let members = node.machine.iter().flat_map(|m| m.members());
                let dead = members.filter(|m| m.status == Status::Dead);
                self.deaths
                    .extend(dead.map(|m| (i, m.node.to_string(), m.incarnation)));
            }
        }
    }
}

/// Three nodes that are slow for a minute.
fn slow_for_a_minute(slow: Slow, seed: u64) -> Seen {
    let (n, k) = (3, 4);
    let mut world = if slow.from_start {
        let mut world = World::new(n, k, slow.net, seed);
        for i in 0..n {
            let after = world.rng.up_to(ms(50));
            world.start_after(i, after);
        }
        world.run(ms(50));
        world
    } else {
        World::booted(n, k, slow.net, seed, ms(50))
    };
    world.wrong_answers = 0;
    let mut watcher = Watcher::new(&mut world, slow);
    watcher.run(&mut world, ms(60_000));
    let mut seen = watcher.seen;
    (seen.wrong, seen.moves) = (world.wrong_answers, world.moves);
    seen.deaths = watcher.deaths.len();
    seen
}

const STALLS: [u64; 5] = [200, 350, 500, 1000, 2000];
const DUTIES: [u64; 4] = [10, 30, 50, 70];

/// Every stall length at every duty. The seed decides where packets wait and whether the nodes were slow from their start.
fn every_stall(who: Who) {
    println!("| {who:?}: answered %, false deaths, moves, two announcers (ms), by stall and duty");
    for stall in STALLS {
        let mut row = String::new();
        for (cell, duty) in (stall / 50..).zip(DUTIES) {
            let mut all = Seen::default();
            for seed in seeds(1) {
                let variant = cell + seed;
                let slow = Slow {
                    who,
                    stall: ms(stall),
                    duty,
                    queue: if variant % 2 == 0 {
                        Queue::Socket
                    } else {
                        Queue::Host
                    },
                    net: Net::Quiet,
                    from_start: variant / 2 % 2 == 0,
                };
                let seen = slow_for_a_minute(slow, seed);
                let what = format!("seed {seed}, {slow:?}: {seen:?}");
                assert!(seen.owned > Duration::ZERO, "{what}");
                assert!(seen.share() >= 0.9, "answered {:.3}; {what}", seen.share());
                assert_eq!(seen.wrong, 0, "{what}");
                assert!(seen.both <= ms(10), "{what}");
                all.add(seen);
            }
            let (share, both) = (100.0 * all.share(), all.both.as_millis());
            let (deaths, moves) = (all.deaths, all.moves);
            row += &format!(" | {duty}% {share:5.1} {deaths:>4} {moves:>4} {both:>2}");
        }
        println!("| {stall:>4} ms{row}");
    }
}

#[test]
fn one_slow_node_of_three_costs_no_address_a_tenth_of_its_owners_time() {
    every_stall(Who::One);
}

#[test]
fn three_nodes_that_are_slow_together_answer_nine_tenths_of_the_time_that_they_run() {
    every_stall(Who::AllInPhase);
}

#[test]
fn three_nodes_that_are_slow_by_turns_answer_nine_tenths_of_the_time_that_they_run() {
    every_stall(Who::AllOutOfPhase);
}

#[test]
fn a_machine_that_was_slow_is_replaced_as_quickly_as_ever_after_a_calm_minute() {
    let (mut times, range) = (Times::default(), seeds(5));
    let count = range.end;
    for seed in range {
        let slow = Slow {
            who: Who::AllOutOfPhase,
            stall: ms(500),
            duty: 50,
            queue: Queue::Socket,
            net: Net::Quiet,
            from_start: false,
        };
        let mut world = World::booted(3, 6, slow.net, seed, ms(50));
        let mut watcher = Watcher::new(&mut world, slow);
        watcher.run(&mut world, ms(10_000));
        for i in 0..3 {
            if world.nodes[i].agent == Agent::Paused {
                world.resume(i);
            }
        }
        let multiplier =
            |world: &World, i: usize| world.nodes[i].machine.as_ref().unwrap().multiplier();
        world.run(ms(1000));
        assert!((0..3).all(|i| multiplier(&world, i) > 1), "seed {seed}");
        world.run(ms(61_000));
        assert!((0..3).all(|i| multiplier(&world, i) == 1), "seed {seed}");
        world.converge(ms(2000), &format!("calm again, seed {seed}"));
        world.mark();
        let dead = super::victim(&mut world);
        world.crash(dead);
        world.run(ms(400));
        world.converge(ms(2000), &format!("crash after a calm minute, seed {seed}"));
        times.0.append(&mut world.gaps);
    }
    times.row("crash a minute after slowness n=3", count, "");
    assert!(times.at(99) <= ms(550));
}

#[test]
fn a_slow_node_that_dies_is_replaced_within_its_own_patience() {
    let (mut times, range) = (Times::default(), seeds(5));
    let count = range.end;
    for seed in range {
        let slow = Slow {
            who: Who::AllOutOfPhase,
            stall: ms(500),
            duty: 50,
            queue: Queue::Socket,
            net: Net::Quiet,
            from_start: false,
        };
        let mut world = World::booted(3, 6, slow.net, seed, ms(50));
        let mut watcher = Watcher::new(&mut world, slow);
        watcher.run(&mut world, ms(10_000));
        let dead = super::victim(&mut world);
        world.mark();
        world.crash(dead);
        watcher.turn[dead] = Duration::MAX;
        watcher.run(&mut world, ms(6000));
        let others = |i: &usize| *i != dead;
        for addr in &world.addrs {
            let claims = (0..3)
                .filter(others)
                .filter_map(|i| world.nodes[i].machine.as_ref());
            for machine in claims {
                let owner = machine.owner(addr).map(|c| c.node.clone());
                assert_ne!(
                    owner.as_ref(),
                    Some(&world.nodes[dead].name),
                    "seed {seed}: {addr}"
                );
            }
        }
        times.0.append(&mut world.gaps);
    }
    times.row(
        "crash while all are slow n=3",
        count,
        "stalls among the gaps",
    );
    assert!(times.at(100) <= ms(4000));
}
