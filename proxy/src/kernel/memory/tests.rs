#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ferrolb_api::view::Protocol;

use super::Memory;
use crate::kernel::rule::{Key, Statement, Verdict};
use crate::kernel::table::{class, set, table};
use crate::kernel::{Element, Family, Op};
use crate::lower::{ipvs, nft};
use crate::plan::Way;
use crate::testing::ip;

fn memory() -> Memory {
    let mut memory = Memory::new([ip("A")]);
    memory.prepare();
    memory
}

fn errno(memory: &mut Memory, ops: &[Op]) -> Vec<(usize, i32)> {
    let failed = memory.apply(ops);
    let number = |e| match e {
        crate::kernel::KernelError::Refused { source, .. } => source.raw_os_error().unwrap(),
        other => panic!("{other}"),
    };
    failed.into_iter().map(|(i, e)| (i, number(e))).collect()
}

fn add((set, element): nft::Item) -> Op {
    Op::AddElement(set, element)
}

#[test]
fn a_real_server_without_its_virtual_server_is_refused() {
    let key = (ip("10.96.0.1"), 80, Protocol::Tcp);
    let real = ipvs::real(SocketAddr::new(ip("a1"), 80), 1, Way::Translate);
    let id = ipvs::address_id(key);
    let ops = [
        Op::SetRealServer(id, real),
        Op::DelRealServer(id, real.addr),
        Op::DelVirtualServer(id),
    ];
    assert_eq!(errno(&mut memory(), &ops), [(0, super::ESRCH)]);
}

#[test]
fn a_transaction_is_all_or_nothing_and_does_not_stop_the_rest() {
    let mut memory = memory();
    let key = (ip("10.96.0.1"), 80, Protocol::Tcp);
    let ops = [
        add(nft::vip(key.0)),
        add(nft::class(key, Verdict::Goto("nowhere"))),
        Op::AddAddress(key.0),
    ];
    assert_eq!(
        errno(&mut memory, &ops),
        [(0, super::ENOENT), (1, super::ENOENT)]
    );
    assert!(memory.held.elements[set::vip(Family::V4)].is_empty());
    assert!(memory.held.addresses.contains(&key.0));
}

#[test]
fn an_element_takes_its_key_once_and_ranges_do_not_overlap() {
    let mut memory = memory();
    let key = (ip("10.96.0.1"), 80, Protocol::Tcp);
    let reject = add(nft::class(key, Verdict::Goto(class::REJECT)));
    let accept = add(nft::class(key, Verdict::Accept));
    let range = |net: &str| {
        let key = vec![Key::net(&net.parse().unwrap())];
        Op::AddElement(set::svccidr(Family::V4), Element { key, value: None })
    };
    let ops = [reject.clone(), reject, range("10.96.0.0/16")];
    assert_eq!(errno(&mut memory, &ops), []);
    assert_eq!(errno(&mut memory, &[accept]), [(0, super::EEXIST)]);
    assert_eq!(
        errno(&mut memory, &[range("10.96.1.0/24")]),
        [(0, super::EEXIST)]
    );
    let six = Element {
        key: vec![Key::Addr(ip("fd00::1"))],
        value: None,
    };
    let wrong = Op::AddElement(set::vip(Family::V4), six);
    assert_eq!(errno(&mut memory, &[wrong]), [(0, super::EINVAL)]);
}

#[test]
fn every_set_and_chain_that_the_table_names_is_there() {
    let table = table();
    let sets: BTreeSet<_> = table.sets.iter().map(|s| s.name).collect();
    let chains: BTreeSet<_> = table.chains.iter().map(|c| c.name).collect();
    assert_eq!(
        (sets.len(), chains.len()),
        (table.sets.len(), table.chains.len())
    );
    let rules = table.chains.iter().flat_map(|c| &c.rules);
    for statement in rules.flat_map(|r| &r.statements) {
        match *statement {
            Statement::InSet(key, name, _)
            | Statement::VerdictMap(key, name)
            | Statement::MarkFromMap(key, name) => {
                let set = table.sets.iter().find(|s| s.name == name).unwrap();
                assert_eq!(set.key.len(), key.len(), "{name}");
            }
            Statement::Verdict(Verdict::Jump(name) | Verdict::Goto(name)) => {
                assert!(chains.contains(name), "{name}");
            }
            _ => {}
        }
    }
    for family in Family::ALL {
        for name in [
            class::int_mark(family),
            class::int_only(family),
            class::masq_node(family),
            class::masq_far(family),
        ] {
            assert!(chains.contains(name), "{name}");
        }
    }
}
