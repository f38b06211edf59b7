//! Everything that comes in is merged here and answered at once where the answer needs no decision; decisions wait for the tick.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Action, Machine};
use crate::claim::rules::{self, Claim};
use crate::member::watch::Duty;
use crate::message::{
    ClaimEntry, ELIGIBLE_NODES, ELIGIBLE_PART, Eligible, EligibleChange, Heartbeat, MAX_WATCHERS,
    MemberEntry, Message, NodeName, State, Status,
};

/// The most promises to listen for somebody.
const MAX_DUTIES: usize = 256;

fn send(to: &NodeName, message: Message) -> Action {
    Action::Send {
        to: vec![to.clone()],
        message,
    }
}

impl Machine {
    pub(super) fn receive(&mut self, from: &NodeName, message: Message, out: &mut Vec<Action>) {
        if *from == self.me || self.members.get(from).is_none() {
            return;
        }
        self.heard_for_others(from, out);
        match message {
            Message::Heartbeat(h) => {
                if self.observe(from, h.incarnation, h.settled, out) {
                    self.heartbeat(from, h, out);
                }
            }
            Message::State(s) => self.state(from, s, out),
            Message::Goodbye {
                incarnation,
                hold_ms,
            } => self.goodbye(from, incarnation, hold_ms),
            other => {
                self.sign_of_life(from, out);
                self.small(from, other, out);
            }
        }
    }

    fn small(&mut self, from: &NodeName, message: Message, out: &mut Vec<Action>) {
        match message {
            Message::Ping => {
                out.push(send(from, Message::Pong));
                if !self.targets.contains(from) {
                    out.push(send(from, Message::Unwatch));
                }
            }
            Message::Unwatch => {
                if let Some(m) = self.members.touch(from) {
                    m.watching = false;
                    m.suspicion = None;
                }
            }
            Message::Suspect { member } => self.suspected(from, member, out),
            Message::Answer { member, heard } => self.answered(from, &member, heard),
            Message::Ack { seq } if self.placer.grants.get(&seq).is_some_and(|g| g.to == *from) => {
                self.placer.grants.remove(&seq);
            }
            _ => {}
        }
    }

    /// A frame that names no incarnation.
    fn sign_of_life(&mut self, from: &NodeName, out: &mut Vec<Action>) {
        let now = self.now();
        match self.members.touch(from) {
            Some(m) if m.status == Status::Alive => {
                m.heard = Some(now);
                m.silent_from = now;
                m.suspicion = None;
            }
            Some(_) => self.tell(from, out),
            None => {}
        }
    }

    /// Tells somebody what I take it for, so that it can refute.
    fn tell(&mut self, to: &NodeName, out: &mut Vec<Action>) {
        let now = self.now();
        let gap = self.config.heartbeat / 2;
        let Some(m) = self.members.touch(to).filter(|m| m.tell_next <= now) else {
            return;
        };
        m.tell_next = now + gap;
        let you = Some((m.status, m.incarnation));
        out.push(send(
            to,
            Message::State(State {
                you,
                ..self.blank()
            }),
        ));
    }

    /// A frame that names an incarnation; `false` if it comes from a life that is over in my view.
    fn observe(
        &mut self,
        from: &NodeName,
        incarnation: u64,
        settled: bool,
        out: &mut Vec<Action>,
    ) -> bool {
        let now = self.now();
        let Some(m) = self.members.get(from) else {
            return false;
        };
        let (was, same) = (m.status, m.incarnation == incarnation);
        if incarnation < m.incarnation || (same && was > Status::Alive) {
            self.tell(from, out);
            return false;
        }
        if !(same && was == Status::Alive && (m.settled || !settled)) {
            self.change_member(from, |m| {
                m.settled = settled || (same && m.settled);
                m.incarnation = incarnation;
                m.status = Status::Alive;
                if was == Status::Dead {
                    m.rejoined = Some(now);
                }
            });
            if was != Status::Alive {
                self.outbox.introduce.insert(from.clone());
            }
        }
        if let Some(m) = self.members.touch(from) {
            m.heard = Some(now);
            m.silent_from = now;
            m.suspicion = None;
        }
        true
    }

    fn heartbeat(&mut self, from: &NodeName, mut h: Heartbeat, out: &mut Vec<Action>) {
        let now = self.now();
        h.watchers.truncate(MAX_WATCHERS);
        let same = h.members == self.members.digest() && h.claims == self.claims.digest();
        let compare = h.settled && self.start.is_none();
        let gap = self.config.transfer_gap;
        let Some(m) = self.members.touch(from) else {
            return;
        };
        m.watching = h.watchers.contains(&self.me);
        m.watchers = h.watchers;
        if !compare {
            return;
        }
        if same {
            m.mismatches = 0;
            m.transfer_gap = gap;
            return;
        }
        m.mismatches = m.mismatches.saturating_add(1);
        if m.mismatches >= 2 && m.transfer_next <= now {
            m.transfer_next = now + m.transfer_gap.max(gap);
            m.transfer_gap = (m.transfer_gap.max(gap) * 2).min(gap * 16);
            self.send_full(from, true, out);
        }
    }

    fn suspected(&mut self, from: &NodeName, member: NodeName, out: &mut Vec<Action>) {
        if member == self.me {
            out.push(send(
                from,
                Message::Answer {
                    member,
                    heard: true,
                },
            ));
            return;
        }
        let Some(m) = self.members.get(&member) else {
            return;
        };
        if self.duties.len() >= MAX_DUTIES
            || self
                .duties
                .iter()
                .any(|d| d.asker == *from && d.member == member)
        {
            return;
        }
        out.push(if m.status == Status::Held {
            Action::KernelPing(member.clone())
        } else {
            send(&member, Message::Ping)
        });
        self.duties.push(Duty {
            asker: from.clone(),
            member,
            since: self.now(),
        });
    }

    /// Whoever asked about `member` hears that it spoke.
    fn heard_for_others(&mut self, member: &NodeName, out: &mut Vec<Action>) {
        self.duties.retain(|d| {
            if d.member == *member {
                out.push(send(
                    &d.asker,
                    Message::Answer {
                        member: member.clone(),
                        heard: true,
                    },
                ));
            }
            d.member != *member
        });
    }

    fn answered(&mut self, from: &NodeName, member: &NodeName, heard: bool) {
        let now = self.now();
        let Some(m) = self.members.touch(member) else {
            return;
        };
        let Some(s) = &mut m.suspicion else {
            return;
        };
        let Some(i) = s.pending.iter().position(|p| p == from) else {
            return;
        };
        s.pending.swap_remove(i);
        if heard {
            m.suspicion = None;
            m.silent_from = now;
        } else {
            s.silent += 1;
        }
    }

    fn goodbye(&mut self, from: &NodeName, incarnation: u64, hold_ms: u32) {
        let known = self.members.get(from).map(|m| (m.incarnation, m.status));
        let newer =
            known.is_some_and(|(i, s)| incarnation > i || (incarnation == i && s < Status::Held));
        if newer {
            self.hold(from, incarnation, hold_ms);
        }
    }

    /// Keeps a member's addresses for it, while its kernel answers.
    fn hold(&mut self, node: &NodeName, incarnation: u64, hold_ms: u32) {
        let now = self.now();
        let hold = std::time::Duration::from_millis(u64::from(hold_ms)).min(self.config.hold);
        self.change_member(node, |m| {
            m.incarnation = incarnation;
            m.status = Status::Held;
            m.hold_until = now + hold;
            m.silent_from = now;
            m.suspicion = None;
            m.kernel_next = now;
        });
    }

    /// The node answers, its agent does not: an implied goodbye. One that was heard a moment ago may have been refused
    /// before it came back, so the next refusal is waited for.
    pub(super) fn refused(&mut self, node: &NodeName) {
        let Some(m) = self.members.get(node) else {
            return;
        };
        let fresh = m
            .heard
            .is_some_and(|h| self.now().saturating_sub(h) < self.config.heartbeat / 2);
        if m.status != Status::Alive || *node == self.me || fresh {
            return;
        }
        let hold_ms = u32::try_from(self.config.crash_hold.as_millis()).unwrap_or(u32::MAX);
        self.hold(node, m.incarnation, hold_ms);
        if let Some(entry) = self.members.entry(node, self.now()) {
            self.outbox.notices.insert(node.clone(), entry);
        }
    }

    pub(super) fn kernel_answered(&mut self, node: &NodeName, out: &mut Vec<Action>) {
        let now = self.now();
        let Some(m) = self
            .members
            .touch(node)
            .filter(|m| m.status == Status::Held)
        else {
            return;
        };
        m.silent_from = now;
        m.suspicion = None;
        self.heard_for_others(node, out);
    }

    fn state(&mut self, from: &NodeName, s: State, out: &mut Vec<Action>) {
        let current = self.observe(from, s.incarnation, s.settled, out);
        if let Some((status, incarnation)) = s.you {
            self.told(from, status, incarnation);
        }
        if !current {
            return;
        }
        for entry in &s.members {
            self.merge_member(from, entry, out);
        }
        for entry in &s.eligible {
            self.merge_eligible(entry);
        }
        for change in &s.changes {
            self.merge_change(change);
        }
        if s.settled {
            for entry in &s.claims {
                self.merge_claim(from, entry, out);
            }
        }
        if s.ack {
            out.push(send(from, Message::Ack { seq: s.seq }));
        }
        if s.full && s.settled {
            self.transfer_part(from, &s, out);
        }
        if s.want {
            self.wanted(from, out);
        }
    }

    /// Somebody asks for my table: at most one in a transfer gap, and none while I have none.
    fn wanted(&mut self, from: &NodeName, out: &mut Vec<Action>) {
        let (now, gap) = (self.now(), self.config.transfer_gap);
        if self.start.is_some() {
            self.outbox.introduce.insert(from.clone());
            self.urgent = true;
            return;
        }
        let Some(m) = self.members.touch(from).filter(|m| m.transfer_next <= now) else {
            return;
        };
        // A little less than the gap, or the jitter of the network makes the asker miss every second turn.
        m.transfer_next = now + gap / 2;
        self.send_full(from, false, out);
    }

    /// What somebody takes me for. Dead or held in this very life, or a life that I can't remember: I begin a new one (rule 8).
    fn told(&mut self, from: &NodeName, status: Status, incarnation: u64) {
        let mine = self.incarnation();
        if incarnation > mine || (incarnation == mine && status > Status::Alive) {
            let me = self.me.clone();
            self.change_member(&me, |m| m.incarnation = incarnation.saturating_add(1));
            let all = self
                .members
                .iter()
                .map(|(n, _)| n.clone())
                .filter(|n| *n != me);
            self.outbox.introduce.extend(all);
            self.urgent = true;
        } else if incarnation < mine || status == Status::Unknown {
            self.outbox.introduce.insert(from.clone());
            self.urgent = true;
        }
    }

    fn merge_member(&mut self, from: &NodeName, e: &MemberEntry, out: &mut Vec<Action>) {
        if e.node == self.me {
            if e.incarnation > self.incarnation() || e.status > Status::Alive {
                self.told(from, e.status, e.incarnation);
            }
            return;
        }
        let Some(m) = self.members.get(&e.node) else {
            return;
        };
        let newer = e.incarnation > m.incarnation;
        let same = e.incarnation == m.incarnation;
        let grows = e.status > m.status || (e.settled && !m.settled);
        if e.status == Status::Unknown || !(newer || (same && grows)) {
            return;
        }
        let (was, now) = (m.status, self.now());
        if e.status == Status::Dead && m.live() && self.just_back(from) {
            // First hand beats rumour: what a node believed on its side of a partition is for the subject to refute.
            let you = Some((Status::Dead, e.incarnation));
            out.push(send(
                &e.node,
                Message::State(State {
                    you,
                    ..self.blank()
                }),
            ));
            return;
        }
        match e.status {
            Status::Dead => self.bury(&e.node, e.incarnation),
            Status::Held if newer || was < Status::Held => {
                self.hold(&e.node, e.incarnation, e.hold_ms)
            }
            _ => {
                self.change_member(&e.node, |m| {
                    m.status = if newer {
                        e.status
                    } else {
                        m.status.max(e.status)
                    };
                    m.settled = e.settled || (same && m.settled);
                    m.incarnation = e.incarnation;
                    if was != Status::Alive {
                        m.silent_from = now;
                    }
                    if was == Status::Dead {
                        m.rejoined = Some(now);
                    }
                });
            }
        }
        if e.settled {
            self.change_member(&e.node, |m| m.settled = true);
        }
    }

    fn just_back(&self, node: &NodeName) -> bool {
        let rejoined = self.members.get(node).and_then(|m| m.rejoined);
        rejoined.is_some_and(|at| self.now().saturating_sub(at) < self.config.rumour)
    }

    /// Takes a member for dead and forgets what it could announce.
    pub(super) fn bury(&mut self, node: &NodeName, incarnation: u64) {
        let could = self.change_member(node, |m| {
            m.incarnation = incarnation;
            m.status = Status::Dead;
            m.suspicion = None;
            m.watching = false;
            m.eligible.clear()
        });
        self.eligibility_changed(node, could.unwrap_or_default());
    }

    fn merge_eligible(&mut self, entry: &Eligible) {
        for (node, version) in entry.nodes.iter().take(ELIGIBLE_NODES) {
            if *node == self.me && self.eligible_given {
                self.outdo(*version);
                continue;
            }
            let alive = self
                .members
                .get(node)
                .is_some_and(|m| m.status != Status::Dead);
            if !alive {
                continue;
            }
            let changed = self
                .members
                .update(node, |m| m.eligible.receive(*version, entry))
                .flatten();
            self.eligibility_changed(node, changed.unwrap_or_default());
        }
    }

    fn merge_change(&mut self, change: &EligibleChange) {
        if change.added.len() + change.removed.len() > ELIGIBLE_PART || change.node == self.me {
            return;
        }
        let changed = self
            .members
            .update(&change.node, |m| m.eligible.change(change))
            .flatten();
        self.eligibility_changed(&change.node, changed.unwrap_or_default());
    }

    /// Somebody has a list of mine that is newer than mine: it is of an earlier life, and mine must get above it.
    fn outdo(&mut self, version: u64) {
        let me = self.me.clone();
        let outdone = self.members.update(&me, |m| {
            if version <= m.eligible.version() {
                return false;
            }
            let list = m.eligible.addresses().clone();
            m.eligible.replace(version.saturating_add(1), list);
            true
        });
        if outdone == Some(true) {
            self.outbox.eligible = true;
            self.urgent = true;
        }
    }

    /// Rules 1 and 6 for one claim that `from` holds.
    pub(super) fn merge_claim(
        &mut self,
        from: &NodeName,
        entry: &ClaimEntry,
        out: &mut Vec<Action>,
    ) {
        let addr = entry.addr;
        let Some(slot) = self.claims.get(&addr) else {
            self.claims.keep_early(entry, self.clock.now);
            return;
        };
        let new = Claim::from(entry);
        let old = slot.claim.clone();
        self.claims.saw(&addr, entry.epoch);
        if old.as_ref() == Some(&new) {
            if *from == new.node && new.node != self.me {
                self.cease(addr, out);
            }
            return;
        }
        let better = old
            .as_ref()
            .is_none_or(|old| rules::order(&addr, &new, old, |n| self.members.live(n)).is_gt());
        if better {
            self.adopt(from, addr, &new, old.as_ref(), out);
        }
        let Some(old) = old.filter(|_| self.start.is_none()) else {
            return;
        };
        let (winner, loser) = if better { (&new, &old) } else { (&old, &new) };
        if loser.epoch > winner.epoch {
            if winner.node == self.me {
                self.outbox.bump.insert(addr);
            } else if winner.node != *from {
                self.outbox
                    .forwards
                    .entry(winner.node.clone())
                    .or_default()
                    .insert(addr, loser.entry(addr));
            }
            self.urgent = true;
        }
        if !better && entry.node == *from {
            self.outbox
                .corrections
                .entry(from.clone())
                .or_default()
                .insert(addr);
            self.urgent = true;
        }
    }

    /// A better claim takes the slot.
    fn adopt(
        &mut self,
        from: &NodeName,
        addr: IpAddr,
        new: &Claim,
        old: Option<&Claim>,
        out: &mut Vec<Action>,
    ) {
        self.claims.set(addr, Some(new.clone()));
        self.dirty.insert(addr);
        self.changed = true;
        self.urgent = true;
        if new.node == self.me {
            if *from != self.me && self.start.is_none() {
                self.outbox.statements.insert(addr);
            }
            return;
        }
        if old.is_some_and(|c| c.node == self.me) {
            if self.own.limited(&addr) && *from != new.node && self.members.live(&new.node) {
                self.own.limit(addr, self.now() + self.config.tail);
            } else {
                self.cease(addr, out);
            }
        } else if *from == new.node {
            self.cease(addr, out);
        }
    }

    /// Stops answering for an address.
    pub(super) fn cease(&mut self, addr: IpAddr, out: &mut Vec<Action>) {
        if self.own.stop(&addr) {
            out.push(Action::Withdraw(addr));
            self.changed = true;
        }
    }

    /// What this node may announce.
    pub(super) fn eligible(&mut self, set: BTreeSet<IpAddr>, _out: &mut Vec<Action>) {
        let me = self.me.clone();
        let first = !std::mem::replace(&mut self.eligible_given, true);
        let wall = self.clock.wall;
        if first {
            self.dirty.extend(self.claims.of(&me).copied());
            self.urgent = true;
        }
        let Some(mine) = self.members.get(&me).map(|m| &m.eligible) else {
            return;
        };
        if mine.version() > 0 && *mine.addresses() == set {
            return;
        }
        let from = mine.version();
        let change = EligibleChange {
            node: me.clone(),
            from,
            to: rules::next_epoch(from, wall),
            added: set.difference(mine.addresses()).copied().collect(),
            removed: mine.addresses().difference(&set).copied().collect(),
        };
        let changed = self
            .members
            .update(&me, |m| m.eligible.replace(change.to, set));
        self.eligibility_changed(&me, changed.unwrap_or_default());
        let small = from > 0 && change.added.len() + change.removed.len() <= ELIGIBLE_PART;
        if small && self.outbox.change.is_none() && !self.outbox.eligible {
            self.outbox.change = Some(change);
        } else {
            self.outbox.change = None;
            self.outbox.eligible = true;
        }
        self.urgent = true;
        self.changed = true;
    }

    /// All addresses that exist.
    pub(super) fn addresses(&mut self, set: &BTreeSet<IpAddr>, out: &mut Vec<Action>) {
        let me = self.me.clone();
        let gone: Vec<IpAddr> = self
            .claims
            .addresses()
            .filter(|a| !set.contains(*a))
            .copied()
            .collect();
        for addr in gone {
            self.cease(addr, out);
            self.claims.remove(addr);
            self.placer.orphans.remove(&addr);
            self.changed = true;
        }
        let new: Vec<IpAddr> = set
            .iter()
            .filter(|a| self.claims.get(a).is_none())
            .copied()
            .collect();
        for addr in new {
            let early = self.claims.add(addr);
            self.dirty.insert(addr);
            if let Some(entry) = early {
                self.merge_claim(&me, &entry, out);
            }
            self.changed = true;
        }
        self.urgent = true;
    }

    /// All nodes that exist.
    pub(super) fn known(&mut self, set: &BTreeSet<NodeName>, _out: &mut Vec<Action>) {
        let gone: Vec<NodeName> = self
            .members
            .iter()
            .map(|(n, _)| n.clone())
            .filter(|n| *n != self.me && !set.contains(n))
            .collect();
        for node in gone {
            self.dirty.extend(self.claims.of(&node).copied());
            self.members.remove(&node);
        }
        for node in set {
            self.members.add(node);
        }
        self.peers_changed = true;
        self.candidates_changed = true;
        self.urgent = true;
        self.changed = true;
    }
}
