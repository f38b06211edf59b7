//! Scenarios of the simulated members; every seed is another course of events.

use super::world::World;

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
