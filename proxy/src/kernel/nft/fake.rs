//! A fake nf_tables with one table for tests, at the level of nfnetlink messages. A dump returns what each object was created
//! from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

use super::super::netlink::attr::{attributes, behind, text};
use super::super::netlink::faulty::{Message, Peer, Said, nla};
use super::decode::{
    CHAIN_NAME, CHAIN_USE, ELEM_DATA, ELEM_FLAGS, ELEM_KEY, GEN_ID, HEADER, LIST_ELEMENTS,
    NEW_CHAIN, NEW_ELEMENT, NEW_RULE, NEW_SET, RULE_CHAIN, SET_NAME, TABLE, element_list,
};
use super::element::elements;
use crate::kernel::rule::{Element, SetDef};

/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
const BEGIN: u16 = 16;
const END: u16 = 17;
const SUBSYSTEM: u16 = 0x0a00;

/// Elements by key and end flag: the value, and the whole element.
type Elements = BTreeMap<(Vec<u8>, Vec<u8>), (Option<Vec<u8>>, Vec<u8>)>;

/// The table.
#[derive(Debug, Default, Clone)]
pub(in crate::kernel) struct FakeTables {
    table: Option<Vec<u8>>,
    sets: BTreeMap<String, Vec<u8>>,
    chains: BTreeMap<String, Vec<u8>>,
    rules: Vec<(String, Vec<u8>)>,
    elements: BTreeMap<String, Elements>,
    generation: u32,
}

impl Peer for FakeTables {
    fn answer(&mut self, messages: &[Message]) -> Vec<Said> {
        if messages[0].kind != BEGIN {
            return messages.iter().map(|m| self.one(m)).collect();
        }
        let before = self.clone();
        let said: Vec<Said> = messages.iter().map(|m| self.one(m)).collect();
        if said.iter().any(Result::is_err) {
            *self = before;
        } else {
            self.generation += 1;
        }
        said
    }
}

fn field(block: &[u8], wanted: u16) -> Option<Vec<u8>> {
    let found = attributes(block).map(Result::unwrap);
    found
        .into_iter()
        .find(|(k, _)| *k == wanted)
        .map(|(_, v)| v.to_vec())
}

impl FakeTables {
    /// The elements of a set.
    pub(in crate::kernel) fn elements(
        &self,
        set: &SetDef,
        chains: &[&'static str],
    ) -> BTreeSet<Element> {
        let table = self.table.as_ref().map(|t| text(t).unwrap().to_owned());
        let raws = self.lists(set.name).into_iter().flat_map(|(_, payload)| {
            element_list(&payload, table.as_ref().unwrap(), chains).unwrap()
        });
        elements(set, raws.collect())
    }

    /// How many rules there are.
    pub(in crate::kernel) fn rules(&self) -> usize {
        self.rules.len()
    }

    fn lists(&self, set: &str) -> Vec<(u16, Vec<u8>)> {
        let all: Vec<_> = self.elements[set].values().map(|(_, raw)| raw).collect();
        let list = |elements: &[&Vec<u8>]| {
            let elements = elements
                .iter()
                .flat_map(|raw| nla(1, raw))
                .collect::<Vec<_>>();
            let parts = [
                nla(TABLE, self.table.as_ref().unwrap()),
                nla(SET_NAME, set.as_bytes()),
            ];
            let block = [parts.concat(), nla(LIST_ELEMENTS, &elements)].concat();
            (NEW_ELEMENT, [vec![1, 0, 0, 0], block].concat())
        };
        all.chunks(2).map(list).collect()
    }

    fn one(&mut self, message: &Message) -> Said {
        if matches!(message.kind, BEGIN | END) {
            return Ok(Vec::new());
        }
        let block = behind(&message.payload, HEADER).unwrap();
        let name = |kind| field(block, kind).map(|n| text(&n).unwrap().to_owned());
        let done = || Ok(Vec::new());
        match message.kind - SUBSYSTEM {
            // Tables.
            0 => self.table = field(block, TABLE),
            2 => {
                self.table.as_ref().ok_or(Errno::ENOENT)?;
                let generation = self.generation;
                *self = Self {
                    generation,
                    ..Self::default()
                };
            }
            // Chains.
            3 => {
                let name = name(CHAIN_NAME).unwrap();
                self.chains.entry(name).or_insert(message.payload.clone());
            }
            4 => {
                let one = name(CHAIN_NAME);
                let all = self.chains.iter();
                let wanted = all.filter(|(n, _)| one.as_ref().is_none_or(|one| one == *n));
                let show = |(name, payload): (&String, &Vec<u8>)| {
                    let rules = self.rules.iter().filter(|(c, _)| c == name).count() as u32;
                    let uses = nla(CHAIN_USE, &rules.to_be_bytes());
                    (NEW_CHAIN, [payload.clone(), uses].concat())
                };
                let found: Vec<_> = wanted.map(show).collect();
                let missing = found.is_empty() && !message.is_dump();
                return if missing {
                    Err(Errno::ENOENT)
                } else {
                    Ok(found)
                };
            }
            5 => {
                let gone = self.chains.remove(&name(CHAIN_NAME).unwrap());
                gone.ok_or(Errno::ENOENT)?;
            }
            // Rules.
            6 => {
                let chain = name(RULE_CHAIN).unwrap();
                self.chains.get(&chain).ok_or(Errno::ENOENT)?;
                self.rules.push((chain, message.payload.clone()));
            }
            7 => {
                let all = self.rules.iter();
                return Ok(all
                    .map(|(_, payload)| (NEW_RULE, payload.clone()))
                    .collect());
            }
            8 => {
                let chain = name(RULE_CHAIN).unwrap();
                self.rules.retain(|(c, _)| *c != chain);
            }
            // Sets. Anonymous sets of rules are not kept.
            9 => {
                let name = name(SET_NAME).unwrap();
                if !name.starts_with("__") {
                    self.elements.entry(name.clone()).or_default();
                    self.sets.entry(name).or_insert(message.payload.clone());
                }
            }
            10 => {
                let all = self.sets.values();
                return Ok(all.map(|payload| (NEW_SET, payload.clone())).collect());
            }
            11 => {
                let name = name(SET_NAME).unwrap();
                self.sets.remove(&name).ok_or(Errno::ENOENT)?;
                self.elements.remove(&name);
            }
            // Elements.
            kind @ (12 | 14) => {
                let set = name(SET_NAME).unwrap();
                if set.starts_with("__") {
                    return done();
                }
                let elements = self.elements.get_mut(&set).ok_or(Errno::ENOENT)?;
                let list = field(block, LIST_ELEMENTS).unwrap();
                for element in attributes(&list) {
                    let (_, raw) = element.unwrap();
                    let end = field(raw, ELEM_FLAGS).unwrap_or_default();
                    let key = (field(raw, ELEM_KEY).unwrap(), end);
                    let value = field(raw, ELEM_DATA);
                    match elements.get(&key) {
                        None if kind == 14 => return Err(Errno::ENOENT),
                        Some((old, _)) if kind == 12 && *old != value => return Err(Errno::EEXIST),
                        Some(_) if kind == 14 => {
                            elements.remove(&key);
                        }
                        _ => {
                            elements.insert(key, (value, raw.to_vec()));
                        }
                    }
                }
            }
            13 => {
                let set = name(SET_NAME).unwrap();
                self.sets.get(&set).ok_or(Errno::ENOENT)?;
                return Ok(self.lists(&set));
            }
            16 => {
                let id = nla(GEN_ID, &self.generation.to_be_bytes());
                return Ok(vec![(SUBSYSTEM + 15, [vec![0; HEADER], id].concat())]);
            }
            other => panic!("message {other}"),
        }
        done()
    }
}
