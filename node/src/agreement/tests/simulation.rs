//! Scenarios with simulated members; each seed is a different sequence of events.

use super::lies::Lies;
use super::world::World;
use crate::agreement::leap::LEAP;
use crate::agreement::table::MAX_ROUND;

fn seeds() -> std::ops::Range<u64> {
    0..60
}

#[test]
fn a_single_node_agrees_with_itself_at_once() {
    let mut w = World::new(1, 1);
    w.services = 5;
    assert!(w.settle(2000) <= 500);
}

#[test]
fn three_and_five_nodes_agree_on_a_quiet_network() {
    for (seed, n) in seeds().zip([3, 5].into_iter().cycle()) {
        let mut w = World::new(seed, n);
        w.services = 20;
        w.settle(5000);
    }
}

#[test]
fn a_table_of_many_parts_arrives_everywhere_in_frames() {
    let mut w = World::new(3, 3);
    w.services = 180;
    w.loss = 10;
    w.run(8000);
    w.settle(20_000);
    assert!(w.widest > 700);
}

#[test]
fn loss_and_reordering_delay_but_never_divide() {
    for seed in seeds() {
        let mut w = World::new(seed, if seed.is_multiple_of(2) { 3 } else { 5 });
        w.services = 10;
        w.disk_delay = 60;
        w.loss = 20;
        w.run(4000);
        w.settle(8000);
    }
}

#[test]
fn a_minority_agrees_on_nothing_new_and_loses_nothing() {
    for seed in seeds() {
        let mut w = World::new(seed, 3);
        w.services = 4;
        w.settle(5000);
        w.crash(1);
        w.crash(2);
        w.services = 9;
        w.run(3000);
        assert_eq!(w.most_in_force(), 4);
        w.settle(6000);
    }
}

#[test]
fn the_allocator_may_die_between_any_two_of_its_actions() {
    for seed in seeds() {
        let mut w = World::new(seed, if seed.is_multiple_of(3) { 5 } else { 3 });
        w.disk_delay = 60;
        w.loss = 3;
        for round in 1..=8 {
            w.services = 3 * round;
            w.deadly = 10;
            w.run(1000);
            w.deadly = 0;
            w.run(300);
            for i in 0..5 {
                if i < 3 || seed.is_multiple_of(3) {
                    w.boot(i);
                }
            }
        }
        w.settle(8000);
    }
}

#[test]
fn partitions_and_crashes_together_keep_every_promise() {
    for seed in seeds() {
        let n = if seed.is_multiple_of(2) { 5 } else { 3 };
        let mut w = World::new(seed, n);
        w.disk_delay = 60;
        w.loss = 8;
        for round in 1..=10 {
            w.services = 2 * round;
            match w.rng.below(4) {
                0 => w.split(),
                1 => w.heal(),
                2 => {
                    let up = w.up();
                    if let Some(i) = up.first() {
                        w.crash(*i);
                    }
                }
                _ => w.deadly = 5,
            }
            w.run(700);
            w.deadly = 0;
            if w.rng.chance(60) {
                (0..n).for_each(|i| w.boot(i));
            }
        }
        w.settle(8000);
    }
}

#[test]
fn members_that_take_different_ones_for_elected_still_never_divide() {
    for seed in seeds() {
        let n = if seed.is_multiple_of(2) { 5 } else { 3 };
        let mut w = World::new(seed, n);
        (w.loss, w.confusion) = (10, 15);
        for round in 1..=20 {
            w.services = 3 * round;
            w.run(400);
        }
        w.settle(8000);
    }
}

#[test]
fn while_a_majority_can_write_every_new_service_is_given_an_address() {
    for seed in seeds() {
        let n = if seed.is_multiple_of(2) { 5 } else { 3 };
        let mut w = World::new(seed, n);
        w.disk_delay = if seed.is_multiple_of(3) { 40 } else { 0 };
        // The elected one comes first.
        w.full.insert(0);
        for round in 1..=8 {
            w.services = 2 * round;
            w.settle(4000);
            w.full.clear();
            for _ in 0..w.rng.below(1 + n as u64 / 2) {
                let i = w.rng.below(n as u64);
                w.full.insert(usize::try_from(i).unwrap());
            }
            if w.rng.chance(30) {
                let i = usize::try_from(w.rng.below(n as u64)).unwrap();
                w.crash(i);
                w.boot(i);
            }
            let pause = w.rng.below(6000);
            w.run(pause);
        }
    }
}

#[test]
fn where_most_disks_are_full_nothing_new_is_given_until_there_is_room() {
    for seed in seeds() {
        let mut w = World::new(seed, 3);
        w.services = 4;
        w.settle(5000);
        w.full.extend([0, 2]);
        w.services = 9;
        w.run(6000);
        assert_eq!(w.most_in_force(), 4);
        w.full.remove(&2);
        w.settle(6000);
    }
}

#[test]
fn disks_that_fill_up_amid_loss_and_crashes_lose_nothing() {
    for seed in seeds() {
        let n = if seed.is_multiple_of(2) { 5 } else { 3 };
        let mut w = World::new(seed, n);
        (w.loss, w.disk_delay, w.confusion) = (8, 40, 10);
        for round in 1..=12 {
            w.services = 2 * round;
            for i in 0..n {
                match w.rng.below(4) {
                    0 => drop(w.full.insert(i)),
                    1 | 2 => drop(w.full.remove(&i)),
                    _ if w.rng.chance(30) => w.crash(i),
                    _ => w.boot(i),
                }
            }
            w.run(900);
        }
        w.full.clear();
        w.settle(12_000);
    }
}

#[test]
fn one_message_with_a_round_that_leaps_ends_nothing() {
    let rounds = [u64::MAX, (1 << 63) - 1, MAX_ROUND, MAX_ROUND - 1, 2 * LEAP];
    for (seed, round) in seeds().zip(rounds.into_iter().cycle()) {
        let n = if seed.is_multiple_of(2) { 5 } else { 3 };
        let mut w = World::new(seed, n);
        w.services = 3;
        w.settle(5000);
        let liar = usize::try_from(w.rng.below(n as u64)).unwrap();
        w.claim(liar, round);
        w.run(500);
        assert_eq!(
            w.named.iter().collect::<Vec<_>>(),
            [&w.names[liar]],
            "round {round}"
        );
        assert!(w.newest_promise().round < 1000, "{:?}", w.newest_promise());
        w.services = 7;
        w.settle(5000);
        // After a restart of all members, nothing is poisoned.
        (0..n).for_each(|i| w.crash(i));
        w.services = 9;
        w.settle(5000);
    }
}

#[test]
fn a_leap_that_is_believed_ends_nothing_either() {
    for seed in seeds() {
        let mut w = World::new(seed, 3);
        w.services = 3;
        w.settle(5000);
        for _ in 0..3 {
            let liar = usize::try_from(w.rng.below(3)).unwrap();
            w.claim(liar, w.newest_promise().round + LEAP / 4);
            w.run(300);
        }
        w.services = 7;
        w.settle(6000);
        assert!(w.named.is_empty(), "{:?}", w.named);
    }
}

#[test]
fn the_others_allocate_beside_a_member_that_lies_all_the_time() {
    for seed in seeds() {
        let n = if seed.is_multiple_of(2) { 5 } else { 3 };
        let mut w = World::new(seed, n);
        w.services = 2;
        w.settle(5000);
        w.corrupt(1 + usize::try_from(seed).unwrap() % (n - 1), Lies::Anything);
        for round in 2..=5 {
            w.services = 2 * round;
            // Each time a new member leads, among the liar's promises.
            w.crash(0);
            w.run(300);
            w.settle(40_000);
        }
    }
}

#[test]
fn an_elected_member_whose_rounds_leap_does_not_lead() {
    for seed in seeds() {
        let n = if seed.is_multiple_of(2) { 5 } else { 3 };
        let mut w = World::new(seed, n);
        w.services = 2;
        w.settle(5000);
        w.corrupt(0, Lies::Leaps);
        w.services = 8;
        w.settle(5000);
    }
}
