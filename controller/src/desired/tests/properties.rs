//! Properties that hold for every sequence of events.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Change;
use ferrolb_api::view::Protocol;
use proptest::prelude::*;

use crate::allocator::Allocator;
use crate::assignment::Assignments;
use crate::desired::desired;
use crate::pool::sharing::Terms;
use crate::state::State;
use crate::testing::*;

fn name(i: u8) -> String {
    format!("{}/s{i}", if i.is_multiple_of(3) { "shop" } else { "a" })
}

fn one_service() -> impl Strategy<Value = Change> {
    (
        0u8..10,
        0u8..14,
        1u8..9,
        0u8..3,
        0u16..3,
        any::<(bool, bool)>(),
    )
        .prop_map(|(i, ask, ip, share, port, (udp, local))| {
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let mut b = service(&name(i)).port(protocol, 80 + port);
            b = match ask {
                0 | 1 => b.asks(&format!("10.0.0.{ip}")),
                2 => b.pool("b"),
                3 => b.asks("10.9.9.9"),
                4 => b.asks("10.0.0.1").annotated("10.0.0.1"),
                5 => b.cluster_only(),
                6 => b.cluster_ip(&format!("10.96.0.{ip}")),
                7 => b.asks("1::1"),
                8 => b.external(&format!("10.0.0.{ip}")),
                9 => b
                    .external("10.0.0.2,10.0.0.3")
                    .asks(&format!("10.0.0.{ip}")),
                10 => b.cluster_ip(&format!("10.0.0.{ip}")),
                _ => b,
            };
            if share < 2 {
                b = b.shares(if share == 0 { "k" } else { "l" });
            }
            if local {
                b = b.local("x=y");
            }
            put(b)
        })
}

fn one_pool() -> impl Strategy<Value = Change> {
    prop_oneof![
        (1u8..4, 4u8..7).prop_map(|(a, b)| put_pool(pool("a", &format!("10.0.0.{a}-10.0.0.{b}")))),
        (5u8..9, 6u8..10).prop_map(|(a, b)| put_pool(pool("b", &format!("10.0.0.{a}-10.0.0.{b}")))),
        Just(put_pool(pinned(
            pool("c", "10.0.1.1-10.0.1.1,1::1/128"),
            1,
            "shop",
            ""
        ))),
        Just(drop_pool("a")),
        Just(drop_pool("b")),
        Just(drop_pool("c")),
    ]
}

/// Nodes with addresses or pods in the pools.
fn one_node() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0u8..3, 1u8..9).prop_map(|(n, ip)| put_node(
            &format!("n{n}"),
            &format!("10.0.0.{ip}"),
            ""
        )),
        (0u8..3, 0u8..4).prop_map(|(n, quarter)| {
            let pods = format!("10.0.0.{}/30", 4 * quarter);
            put_node(&format!("n{n}"), "10.7.0.1", &pods)
        }),
        (0u8..3).prop_map(|n| drop_node(&format!("n{n}"))),
    ]
}

fn batches() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let change = prop_oneof![
        8 => one_service(),
        3 => (0u8..10).prop_map(|i| drop_service(&name(i))),
        1 => one_pool(),
        1 => one_node(),
    ];
    prop::collection::vec(prop::collection::vec(change, 1..5), 1..12)
}

fn begin() -> State {
    state("10.96.0.0/28", [put_pool(pool("a", "10.0.0.1-10.0.0.4"))])
}

/// With ClusterIPs that are given here, or by an API server.
fn begins() -> impl Strategy<Value = State> {
    let pools = || [put_pool(pool("a", "10.0.0.1-10.0.0.4"))];
    prop_oneof![
        Just(state("10.96.0.0/28", pools())),
        Just(state("10.0.0.0/29", pools())),
        Just(state("", pools())),
    ]
}

/// Nobody gets an address that belongs to somebody else, and nobody keeps one that its owner uses if it can have another one.
fn owned(state: &State, before: &Assignments, after: &Assignments) -> Result<(), TestCaseError> {
    let given: BTreeMap<IpAddr, &ObjectKey> = after
        .iter()
        .flat_map(|(key, a)| a.cluster_ips.iter().map(move |ip| (*ip, key)))
        .collect();
    for (key, a) in after {
        let had = before.get(key);
        let service = &state.services()[key];
        let mine = Terms::of(service);
        let asks = |ip| {
            service.load_balancer_ip == Some(ip) || service.annotations.requested.contains(&ip)
        };
        for ip in &a.addresses {
            if had.is_some_and(|had| had.addresses.contains(ip)) {
                continue;
            }
            prop_assert_eq!(given.get(ip), None, "{} got the ClusterIP {}", key, ip);
            let node = state.ownership().evicts(*ip);
            prop_assert_eq!(node, None, "{} got {}", key, ip);
            for other in state.services().values().filter(|s| s.key != *key) {
                let shares = mine.clash(&Terms::of(other)).is_none();
                let lists = other.external_ips.contains(ip);
                prop_assert!(
                    shares || !lists || asks(*ip),
                    "{} got {} of {}",
                    key,
                    ip,
                    other.key
                );
            }
        }
    }
    Ok(())
}

/// No address is assigned twice, unless both Services may share it.
fn legal(state: &State, assignments: &Assignments) -> Result<(), TestCaseError> {
    let mut holders: BTreeMap<IpAddr, Vec<&ObjectKey>> = BTreeMap::new();
    let mut cluster: BTreeMap<IpAddr, &ObjectKey> = BTreeMap::new();
    for (key, a) in assignments {
        let mine = Terms::of(&state.services()[key]);
        for ip in &a.addresses {
            for other in holders.entry(*ip).or_default().iter() {
                let theirs = Terms::of(&state.services()[*other]);
                prop_assert_eq!(mine.clash(&theirs), None, "{} and {} on {}", key, other, ip);
            }
            holders.entry(*ip).or_default().push(key);
        }
        for ip in &a.cluster_ips {
            prop_assert!(cluster.insert(*ip, key).is_none(), "{} twice", ip);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn step_by_step_and_all_at_once_end_the_same(mut state in begins(), batches in batches()) {
        let mut allocator = Allocator::new(Assignments::new());
        for batch in batches {
            let before = allocator.assignments().clone();
            state.apply_all(&batch);
            let dirty = state.take_dirty();
            let outcomes = allocator.outcomes().clone();
            let changed = allocator.decide(&state, &dirty);
            let full = desired(&state, &before);
            prop_assert_eq!(&allocator.desired(&state), &full);
            legal(&state, &full.assignments)?;
            owned(&state, &before, &full.assignments)?;
            // The result is stable: deciding again changes nothing.
            prop_assert_eq!(&desired(&state, &full.assignments), &full);
            for key in state.services().keys().filter(|k| !changed.contains(*k)) {
                prop_assert_eq!(before.get(key), full.assignments.get(key));
                prop_assert_eq!(outcomes.get(key), full.outcomes.get(key));
            }
        }
    }

    #[test]
    fn whoever_has_an_address_and_asks_for_nothing_else_keeps_it(batches in batches()) {
        let mut state = begin();
        let mut have = Assignments::new();
        for batch in batches {
            let old = state.clone();
            state.apply_all(&batch);
            let next = desired(&state, &have).assignments;
            for (key, a) in &have {
                // A Service whose pool was removed moves once there is room.
                let inside = a.addresses.iter().all(|ip| state.pools().containing(*ip).is_some());
                let unchanged = old.services().get(key) == state.services().get(key);
                let evicted = a.addresses.iter().any(|ip| state.ownership().evicts(*ip).is_some());
                if unchanged && !evicted && old.pools() == state.pools() && inside && !a.addresses.is_empty() {
                    let now = next.get(key).map(|n| &n.addresses);
                    let service = &state.services()[key];
                    let asks = service.load_balancer_ip.is_some_and(|ip| now == Some(&vec![ip]));
                    let waits = service.annotations.pool.is_some();
                    prop_assert!(now == Some(&a.addresses) || asks || waits, "{} lost {:?}", key, a);
                }
            }
            have = next;
        }
    }

    #[test]
    fn the_order_of_changes_in_a_batch_does_not_matter(changes in prop::collection::vec(one_service(), 1..8), seed: u64) {
        let mut last = BTreeMap::new();
        for change in changes {
            let Change::Upsert(object) = &change else { unreachable!() };
            last.insert(object.key(), change);
        }
        let mut order: Vec<Change> = last.into_values().collect();
        let mut one = begin();
        one.apply_all(&order);
        let turn = usize::try_from(seed % order.len() as u64).unwrap();
        order.rotate_left(turn);
        if seed.is_multiple_of(2) { order.reverse(); }
        let mut two = begin();
        two.apply_all(&order);
        prop_assert_eq!(desired(&one, &Assignments::new()), desired(&two, &Assignments::new()));
    }

    #[test]
    fn the_lowest_free_address_comes_first(taken in prop::collection::btree_set(1u8..9, 0..8)) {
        let mut state = state("", [put_pool(pool("a", "10.0.0.1-10.0.0.9")), put(service("z/new"))]);
        for ip in &taken {
            state.apply(&put(service(&format!("a/{ip}")).asks(&format!("10.0.0.{ip}"))));
        }
        let lowest = (1u8..=9).find(|n| !taken.contains(n)).unwrap();
        let d = desired(&state, &Assignments::new());
        prop_assert_eq!(&d.assignments[&key("z/new")].addresses, &ips(&format!("10.0.0.{lowest}")));
    }
}

#[test]
fn a_huge_pool_that_is_well_filled_is_searched_in_no_time() {
    let mut state = state("", [put_pool(pool("a", "10.0.0.0/8,fd00::/8"))]);
    let all: Vec<Change> = (0..20_000)
        .map(|i| put(service(&format!("a/{i}"))))
        .collect();
    state.apply_all(&all);
    let mut allocator = Allocator::new(Assignments::new());
    let dirty = state.take_dirty();
    allocator.decide(&state, &dirty);
    state.apply(&put(service("a/last")));
    let dirty = state.take_dirty();
    let changed = allocator.decide(&state, &dirty);
    assert_eq!(changed.len(), 1);
    assert_eq!(
        allocator.assignments()[&key("a/last")].addresses,
        ips("10.0.78.32")
    );
}
