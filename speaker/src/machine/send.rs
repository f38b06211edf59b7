//! Builds `State` messages: splits lists into parts that fit a datagram, and sends what a tick collected.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Machine};
use crate::message::{
    ClaimEntry, ELIGIBLE_NODES, Eligible, EligibleChange, MemberEntry, Message, NodeName,
    STATE_BUDGET, State, Status, name_size,
};

/// The most distinct names in one part, because the encoding refers to each by one octet.
const MAX_NAMES: usize = 255;

/// Fills one `State` after another.
struct Splitter {
    base: State,
    done: Vec<State>,
    open: State,
    names: BTreeSet<NodeName>,
    size: usize,
}

impl Splitter {
    fn new(base: State) -> Self {
        Self {
            open: base.clone(),
            base,
            done: Vec::new(),
            names: BTreeSet::new(),
            size: State::EMPTY,
        }
    }

    /// Finds the place for the next entry with this size and these names: the open part or a new one.
    fn room<'a>(
        &mut self,
        size: usize,
        names: impl IntoIterator<Item = &'a NodeName, IntoIter: Clone>,
    ) -> &mut State {
        let names = names.into_iter();
        let new = |have: &BTreeSet<NodeName>| -> (usize, usize) {
            let fresh = names.clone().filter(|n| !have.contains(*n));
            fresh.fold((0, 0), |(count, bytes), n| {
                (count + 1, bytes + name_size(n))
            })
        };
        let (count, bytes) = new(&self.names);
        let fits =
            self.size + size + bytes <= STATE_BUDGET && self.names.len() + count <= MAX_NAMES;
        if !fits && self.size > State::EMPTY {
            let full = std::mem::replace(&mut self.open, self.base.clone());
            self.done.push(full);
            self.names.clear();
            self.size = State::EMPTY;
        }
        let (_, bytes) = new(&self.names);
        self.size += size + bytes;
        self.names.extend(names.cloned());
        &mut self.open
    }

    fn finish(mut self) -> Vec<State> {
        self.done.push(self.open);
        let parts = u16::try_from(self.done.len()).unwrap_or(u16::MAX);
        for (i, state) in self.done.iter_mut().enumerate() {
            (state.part, state.parts) = (u16::try_from(i).unwrap_or(u16::MAX), parts);
        }
        self.done
    }
}

impl Machine {
    /// A `State` of mine that carries nothing but a sign of life.
    pub(super) fn blank(&self) -> State {
        State {
            incarnation: self.incarnation(),
            settled: self.start.is_none(),
            multiplier: self.multiplier(),
            company: self.company(),
            parts: 1,
            ..State::default()
        }
    }

    /// As many parts as these entries need, at least one. Each fits a datagram.
    pub(super) fn split(
        &self,
        base: State,
        members: Vec<MemberEntry>,
        claims: Vec<ClaimEntry>,
        eligible: Vec<Eligible>,
        changes: Vec<EligibleChange>,
    ) -> Vec<State> {
        let mut parts = Splitter::new(base);
        for e in members {
            parts.room(e.size(), [&e.node]).members.push(e);
        }
        for e in eligible {
            parts
                .room(e.size(), e.nodes.iter().map(|n| &n.0))
                .eligible
                .push(e);
        }
        for e in changes {
            parts.room(e.size(), [&e.node]).changes.push(e);
        }
        for e in claims {
            parts.room(e.size(), [&e.node]).claims.push(e);
        }
        parts.finish()
    }

    /// The lists of these nodes. Equal lists share their entries.
    fn eligible_entries<'a>(&self, nodes: impl Iterator<Item = &'a NodeName>) -> Vec<Eligible> {
        let mut groups: BTreeMap<(usize, u64), Vec<&NodeName>> = BTreeMap::new();
        for node in nodes {
            if let Some(m) = self
                .members
                .get(node)
                .filter(|m| m.live() && m.eligible.version() > 0)
            {
                groups.entry(m.eligible.content()).or_default().push(node);
            }
        }
        let mut entries = Vec::new();
        for group in groups.into_values() {
            for nodes in share(&group) {
                let Some(list) = nodes.first().and_then(|n| self.members.get(n)) else {
                    continue;
                };
                let lists = list.eligible.parts();
                let parts = u16::try_from(lists.len()).unwrap_or(u16::MAX);
                let version =
                    |n: &NodeName| self.members.get(n).map_or(0, |m| m.eligible.version());
                let names: Vec<(NodeName, u64)> =
                    nodes.iter().map(|n| ((*n).clone(), version(n))).collect();
                for (part, addresses) in (0..parts).zip(lists) {
                    entries.push(Eligible {
                        nodes: names.clone(),
                        part,
                        parts,
                        addresses,
                    });
                }
            }
        }
        entries
    }

    /// My whole table for one peer (rules 8 and 11).
    pub(super) fn send_full(&mut self, to: &NodeName, want: bool, out: &mut Vec<Action>) {
        self.seq += 1;
        let base = State {
            full: true,
            want,
            seq: self.seq,
            ..self.blank()
        };
        let known: Vec<&NodeName> = self
            .members
            .iter()
            .filter(|(_, m)| m.status != Status::Unknown)
            .map(|(n, _)| n)
            .collect();
        let members = known
            .iter()
            .filter_map(|n| self.members.entry(n, self.now()))
            .collect();
        let claims = if self.start.is_none() {
            self.claims.iter().map(|(a, c)| c.entry(*a)).collect()
        } else {
            Vec::new()
        };
        let eligible = self.eligible_entries(known.into_iter());
        let mut states = self.split(base, members, claims, eligible, Vec::new());
        // One request is enough for all parts. It goes with the last one, which arrives when the others are there.
        let last = states.len().saturating_sub(1);
        for (i, state) in states.iter_mut().enumerate() {
            state.want = want && i == last;
        }
        let to = vec![to.clone()];
        out.extend(states.into_iter().map(|s| Action::Send {
            to: to.clone(),
            message: Message::State(s),
        }));
    }

    /// Sends what this tick collected.
    pub(super) fn flush(&mut self, out: &mut Vec<Action>) {
        let outbox = std::mem::take(&mut self.outbox);
        let peers = self.members.peers(&self.me);
        let claims: Vec<ClaimEntry> = outbox
            .statements
            .iter()
            .filter_map(|a| self.claims.claim(a).map(|c| c.entry(*a)))
            .collect();
        let eligible = if outbox.eligible {
            self.eligible_entries(std::iter::once(&self.me))
        } else {
            Vec::new()
        };
        let settled = self.start.is_none();
        let claims = if settled { claims } else { Vec::new() };
        let changes: Vec<EligibleChange> = outbox.change.into_iter().collect();
        if !(outbox.notices.is_empty()
            && claims.is_empty()
            && eligible.is_empty()
            && changes.is_empty())
        {
            let mut to = peers.clone();
            to.extend(
                outbox
                    .notices
                    .keys()
                    .filter(|n| !peers.contains(n))
                    .cloned(),
            );
            let members = outbox.notices.into_values().collect();
            self.send_all(to, self.blank(), members, claims, eligible, changes, out);
        }
        if !outbox.introduce.is_empty() {
            let mine: Vec<MemberEntry> = self
                .members
                .entry(&self.me, self.now())
                .into_iter()
                .collect();
            let claims = self
                .claims
                .of(&self.me)
                .filter_map(|a| self.claims.claim(a).map(|c| c.entry(*a)));
            let claims: Vec<ClaimEntry> = if settled {
                claims.collect()
            } else {
                Vec::new()
            };
            let eligible = if self.eligible_given {
                self.eligible_entries(std::iter::once(&self.me))
            } else {
                Vec::new()
            };
            let dead = |n: &NodeName| {
                let m = self.members.get(n)?;
                (m.status == Status::Dead).then_some((m.status, m.incarnation))
            };
            // A node that was dead in my view must learn that first, because it decides whose claims count.
            let (gone, to): (Vec<_>, Vec<_>) = outbox
                .introduce
                .into_iter()
                .partition(|n| dead(n).is_some());
            for one in gone {
                let base = State {
                    you: dead(&one),
                    ..self.blank()
                };
                let (mine, claims) = (mine.clone(), claims.clone());
                let to = vec![one];
                self.send_all(to, base, mine, claims, eligible.clone(), Vec::new(), out);
            }
            self.send_all(to, self.blank(), mine, claims, eligible, Vec::new(), out);
        }
        for (to, addrs) in outbox.corrections {
            let claims = addrs
                .iter()
                .filter_map(|a| self.claims.claim(a).map(|c| c.entry(*a)))
                .collect();
            self.send_all(
                vec![to],
                self.blank(),
                Vec::new(),
                claims,
                Vec::new(),
                Vec::new(),
                out,
            );
        }
        for (to, entries) in outbox.forwards {
            let claims = entries.into_values().collect();
            self.send_all(
                vec![to],
                self.blank(),
                Vec::new(),
                claims,
                Vec::new(),
                Vec::new(),
                out,
            );
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn send_all(
        &self,
        to: Vec<NodeName>,
        base: State,
        members: Vec<MemberEntry>,
        claims: Vec<ClaimEntry>,
        eligible: Vec<Eligible>,
        changes: Vec<EligibleChange>,
        out: &mut Vec<Action>,
    ) {
        if to.is_empty() {
            return;
        }
        for state in self.split(base, members, claims, eligible, changes) {
            out.push(Action::Send {
                to: to.clone(),
                message: Message::State(state),
            });
        }
    }
}

/// Splits a group so that its names and one part of its list fit a datagram together.
fn share<'a>(group: &[&'a NodeName]) -> Vec<Vec<&'a NodeName>> {
    let room = STATE_BUDGET - State::EMPTY - 800;
    let mut shares: Vec<Vec<&NodeName>> = Vec::new();
    let mut used = 0;
    for node in group {
        let size = name_size(node) + 9;
        match shares
            .last_mut()
            .filter(|s| s.len() < ELIGIBLE_NODES && used + size <= room)
        {
            Some(open) => {
                open.push(node);
                used += size;
            }
            None => {
                shares.push(vec![node]);
                used = size;
            }
        }
    }
    shares
}
