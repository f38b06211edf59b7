//! Membership: nodes that are known but absent, lists that change during the run, clusters that grow from one node, a node whose
//! link flaps, and numbers that nobody could exceed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ferrolb_speaker::machine::Leaper;
use ferrolb_speaker::message::{ClaimEntry, Heartbeat, MemberEntry, Message, State, Status};

use super::sim::net::Net;
use super::sim::{World, ms};
use super::{Times, seeds, victim};

/// `absent` nodes that never run and whose names sort first, and three that run.
fn beside_absent_nodes(absent: usize, seed: u64) -> World {
    let n = absent + 3;
    let mut world = World::new(n, 9, Net::Quiet, seed);
    for i in 0..absent {
        // With its kernel up it refuses, otherwise it is silent.
        world.nodes[i].up = seed.is_multiple_of(2);
    }
    for i in absent..n {
        let after = world.rng.up_to(ms(50));
        world.start_after(i, after);
    }
    world.run(ms(60));
    world.converge(ms(5000), &format!("{absent} absent, seed {seed}"));
    let settled = world.now;
    world.run(ms(1000));
    assert!(settled <= ms(2800), "seed {seed}: {settled:?}");
    world
}

#[test]
fn three_nodes_agree_however_many_others_are_known_and_absent() {
    for absent in [1, 3, 16, 40, 300] {
        let (mut times, range) = (Times::default(), seeds(if absent > 100 { 1 } else { 6 }));
        let count = range.end;
        for seed in range {
            let mut world = beside_absent_nodes(absent, seed);
            assert_eq!(world.disagreement(), None, "seed {seed}");
            assert_eq!(
                world.moves, 0,
                "seed {seed}: announced by two after another"
            );
            assert_eq!(world.dup, Duration::ZERO, "seed {seed}: announced by two");
            assert!(world.spread() <= 1, "seed {seed}: {:?}", world.loads());
            world.mark();
            let dead = victim(&mut world);
            world.crash(dead);
            world.run(ms(400));
            world.converge(
                ms(2000),
                &format!("crash beside {absent} absent, seed {seed}"),
            );
            times.0.append(&mut world.gaps);
        }
        times.row(&format!("crash, 3 live and {absent} absent"), count, "");
        assert!(times.at(100) <= ms(750));
    }
}

#[test]
fn an_absent_node_that_starts_at_last_is_found_and_takes_nothing() {
    for seed in seeds(6) {
        let mut world = beside_absent_nodes(40, seed);
        world.mark();
        let late = usize::try_from(world.rng.below(40)).unwrap();
        world.nodes[late].up = true;
        world.start(late);
        world.converge(ms(3000), &format!("late start, seed {seed}"));
        world.run(ms(1000));
        assert_eq!((world.moves, world.dup), (0, Duration::ZERO), "seed {seed}");
    }
}

#[test]
fn a_list_of_nodes_that_changes_in_mid_run_moves_nothing() {
    for seed in seeds(20) {
        // Three nodes run. Nodes 3 to 6 come and go as names only; one of them is known from the start.
        let mut world = World::new(7, 9, Net::Quiet, seed);
        for i in 0..3 {
            world.knows(i, 0..4);
            let after = world.rng.up_to(ms(50));
            world.start_after(i, after);
        }
        world.converge(ms(5000), &format!("boot, seed {seed}"));
        world.run(ms(1500));
        world.mark();
        for _ in 0..12 {
            let (i, wait) = (world.rng.below(3), world.rng.up_to(ms(400)));
            let i = usize::try_from(i).unwrap();
            if world.rng.chance(40) {
                world.move_address(i);
                for other in (0..3).filter(|o| *o != i) {
                    let lag = world.rng.up_to(ms(100));
                    world.run(lag);
                    world.learn_address(other, i);
                }
            } else {
                let more = usize::try_from(world.rng.below(5)).unwrap();
                world.knows(i, 0..3 + more);
            }
            world.run(wait);
        }
        world.run(ms(1000));
        assert_eq!(world.disagreement(), None, "seed {seed}");
        assert_eq!((world.moves, world.dup), (0, Duration::ZERO), "seed {seed}");
    }
}

#[test]
fn a_member_that_is_removed_from_the_list_is_replaced_at_once_and_may_come_back() {
    for seed in seeds(10) {
        let mut world = World::booted(4, 12, Net::Quiet, seed, ms(50));
        let gone = victim(&mut world);
        world.crash(gone);
        for i in (0..4).filter(|i| *i != gone) {
            let lag = world.rng.up_to(ms(30));
            world.run(lag);
            world.knows(i, (0..4).filter(|n| *n != gone));
        }
        world.converge(ms(1000), &format!("removed, seed {seed}"));
        assert!(
            world.gaps.iter().all(|gap| *gap <= ms(300)),
            "seed {seed}: {:?}",
            world.gaps
        );
        world.mark();
        for i in (0..4).filter(|i| *i != gone) {
            world.knows(i, 0..4);
        }
        world.start(gone);
        world.converge(ms(2000), &format!("back, seed {seed}"));
        world.run(ms(1000));
        assert_eq!((world.moves, world.dup), (0, Duration::ZERO), "seed {seed}");
    }
}

/// A cluster that grows from one node to `n`. Each node learns of the next one within `lag`.
fn grows(n: usize, lag: Duration, seed: u64) -> (World, BTreeMap<IpAddr, Vec<usize>>) {
    let mut world = World::new(n, 10, Net::Quiet, seed);
    world.knows(0, [0]);
    world.start(0);
    world.converge(ms(1000), &format!("alone, seed {seed}"));
    world.run(ms(200));
    world.mark();
    let first = world
        .addrs
        .iter()
        .map(|a| (*a, world.announcers(a)))
        .collect();
    for new in 1..n {
        world.knows(new, 0..=new);
        world.start(new);
        let mut lags: Vec<(Duration, usize)> =
            (0..new).map(|i| (world.rng.up_to(lag), i)).collect();
        lags.sort_unstable();
        let begin = world.now;
        for (at, i) in lags {
            world.run((begin + at).saturating_sub(world.now));
            world.knows(i, 0..=new);
        }
        if world.rng.chance(50) {
            world.run(ms(1000));
        }
    }
    world.run(ms(500));
    world.converge(ms(4000), &format!("grown, seed {seed}"));
    world.run(ms(1000));
    (world, first)
}

#[test]
fn a_cluster_that_grows_from_one_node_moves_nothing() {
    for seed in seeds(20) {
        let (world, _) = grows(5, ms(1500), seed);
        assert_eq!(world.disagreement(), None, "seed {seed}");
        assert_eq!((world.moves, world.dup), (0, Duration::ZERO), "seed {seed}");
    }
}

#[test]
fn a_newcomer_of_whom_nobody_heard_for_long_gives_back_what_it_took_for_its_own() {
    let mut dup = Duration::ZERO;
    for seed in seeds(10) {
        let (world, first) = grows(2, ms(6000), seed);
        assert_eq!(world.disagreement(), None, "seed {seed}");
        for (addr, owner) in first {
            assert_eq!(world.announcers(&addr), owner, "seed {seed}: {addr}");
        }
        dup = dup.max(world.dup);
    }
    println!("| {:<34} | dup <= {dup:?}", "newcomer unheard for 6 s");
}

fn flap(n: usize, base: u64) {
    let (mut times, range) = (Times::default(), seeds(base));
    let count = range.end;
    let mut kept = 0;
    for seed in range {
        let mut world = World::booted(n, 3 * n, Net::Quiet, seed, ms(50));
        let node = victim(&mut world);
        let before: BTreeMap<IpAddr, Vec<usize>> = world
            .addrs
            .iter()
            .map(|a| (*a, world.announcers(a)))
            .collect();
        let (all, own_interface) = (world.addrs.clone(), world.rng.chance(50));
        let mut groups = vec![0; n];
        groups[node] = 1;
        world.partition(&groups);
        if own_interface {
            // Its own interface goes down, so it sees that it can announce nothing.
            world.set_eligible(node, Default::default());
        }
        // With five nodes, not all watch all: until the first one is declared dead, the node does not know that it is alone.
        let least = if n > 3 { ms(1000) } else { ms(200) };
        let down = least + world.rng.up_to(ms(4000));
        world.run(down);
        if own_interface {
            world.set_eligible(node, all);
            let soon = world.rng.up_to(ms(150));
            world.run(soon);
        }
        world.mark();
        world.heal();
        times
            .0
            .push(world.converge(ms(4000), &format!("flap, seed {seed}, {down:?}")));
        world.run(ms(1500));
        assert_eq!(world.disagreement(), None, "seed {seed}");
        for (addr, owner) in before {
            let now = world.announcers(&addr);
            let what = format!(
                "seed {seed}, {down:?}, {own_interface}: {addr} moved from {owner:?} to {now:?}"
            );
            assert!(owner == [node] || now == owner, "{what}");
            kept += u64::from(now == owner);
        }
        if down > ms(1500) {
            assert_eq!(
                world.owned(node),
                0,
                "seed {seed}: what moved while it was away stays"
            );
        }
    }
    times.row(
        &format!("link flap of 0.2 to 4.2 s n={n}"),
        count,
        &format!("{kept} addresses kept"),
    );
}

#[test]
fn a_link_flap_moves_no_address_of_another_node() {
    flap(3, 60);
    flap(5, 20);
}

fn poison(incarnation: u64) -> Message {
    Message::Heartbeat(Heartbeat {
        incarnation,
        settled: true,
        multiplier: 1,
        watchers: Vec::new(),
        members: 0,
        claims: 0,
    })
}

fn as_seen(world: &World, by: usize, of: usize) -> Status {
    let members = world.nodes[by].machine.as_ref().unwrap().members();
    let name = &world.nodes[of].name;
    members.iter().find(|m| m.node == *name).unwrap().status
}

#[test]
fn a_node_lives_on_whatever_was_said_in_its_name() {
    for seed in seeds(10) {
        for incarnation in [
            u64::MAX,
            u64::MAX - 1,
            u64::MAX / 2,
            1 << 44,
            1 << 43,
            1 << 42,
        ] {
            let mut world = World::booted(3, 9, Net::Quiet, seed, ms(50));
            let node = victim(&mut world);
            let others: Vec<usize> = (0..3).filter(|i| *i != node).collect();
            for i in &others {
                world.forge(*i, node, poison(incarnation));
                let dead = MemberEntry {
                    node: world.nodes[node].name.clone(),
                    incarnation,
                    status: Status::Dead,
                    settled: true,
                    multiplier: 1,
                    hold_ms: 0,
                };
                let of = world.nodes[others[0]].machine.as_ref().unwrap().members();
                let me = of
                    .iter()
                    .find(|m| m.node == world.nodes[others[0]].name)
                    .unwrap()
                    .incarnation;
                let state = State {
                    incarnation: me,
                    settled: true,
                    parts: 1,
                    members: vec![dead],
                    ..State::default()
                };
                if *i != others[0] {
                    world.forge(*i, others[0], Message::State(state));
                }
            }
            world.run(ms(500));
            world.crash(node);
            world.converge(ms(2500), &format!("dead, seed {seed}, {incarnation}"));
            world.start(node);
            world.run(ms(3000));
            world.converge(ms(3000), &format!("back, seed {seed}, {incarnation}"));
            for i in others {
                assert_eq!(
                    as_seen(&world, i, node),
                    Status::Alive,
                    "seed {seed}, {incarnation}"
                );
                let leaps: Vec<_> = world.nodes[i].machine.as_ref().unwrap().leaps().collect();
                assert_eq!(!leaps.is_empty(), incarnation >= 1 << 44, "{leaps:?}");
            }
        }
    }
}

#[test]
fn an_address_can_move_again_whatever_epoch_was_said_for_it() {
    for seed in seeds(10) {
        for epoch in [u64::MAX, u64::MAX - 1, u64::MAX / 2, 1 << 43, 1 << 42] {
            let mut world = World::booted(3, 3, Net::Quiet, seed, ms(50));
            let (addr, liar) = (*world.addrs.first().unwrap(), victim(&mut world));
            let members = world.nodes[liar].machine.as_ref().unwrap().members();
            let name = world.nodes[liar].name.clone();
            let incarnation = members.iter().find(|m| m.node == name).unwrap().incarnation;
            let claim = ClaimEntry {
                addr,
                node: name.clone(),
                epoch,
                provisional: true,
            };
            let state = State {
                incarnation,
                settled: true,
                parts: 1,
                claims: vec![claim],
                ..State::default()
            };
            for i in (0..3).filter(|i| *i != liar) {
                world.forge(i, liar, Message::State(state.clone()));
            }
            world.run(ms(1500));
            world.crash(liar);
            world.converge(ms(2500), &format!("liar dead, seed {seed}, {epoch}"));
            let next = world.announcers(&addr)[0];
            world.crash(next);
            world.converge(ms(2500), &format!("heir dead, seed {seed}, {epoch}"));
            let leaps = |i: usize| {
                world.nodes[i].machine.as_ref().map_or(0, |m| {
                    m.leaps()
                        .filter(|l| l.what == Leaper::Epoch(addr) && l.by == name)
                        .count()
                })
            };
            let named: usize = (0..3).map(leaps).sum();
            assert_eq!(named > 0, epoch > 1 << 44, "seed {seed}, {epoch}");
        }
    }
}
