//! What happens as time passes: heartbeats, suspicion and death, probes of the dead, and the decisions that follow from these.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Action, Machine};
use crate::member::table::Member;
use crate::member::watch::{Suspicion, Verdict, judge};
use crate::message::{Heartbeat, Message, NodeName, State, Status};

/// How many random members are asked about a silent one, in addition to its other watchers.
const RANDOM_HELPERS: usize = 3;

/// The most absent nodes that a settled node probes in one heartbeat.
const PROBES: usize = 16;

/// The number of heartbeats in half of that time.
const SETTLE_BEATS: usize = 10;

/// The limit for a node that has just started. It probes all nodes within half the time after which it would settle alone, but
/// not more than this in one heartbeat.
const MAX_PROBES: usize = 256;

impl Machine {
    pub(super) fn tick(&mut self, out: &mut Vec<Action>) {
        self.urgent = false;
        if self.slow.reading {
            // Nothing is decided before the queue is read, but this node may show that it is awake.
            self.urgent = true;
            self.beat(out);
            return;
        }
        self.sweep();
        self.watch(out);
        self.duties_over(out);
        self.settle_tick(out);
        if std::mem::take(&mut self.peers_changed) {
            self.retarget(out);
        }
        if self.start.is_none() {
            self.settle_dirty(out);
            self.place(out);
            self.reissue();
            self.resend_grants(out);
        }
        self.end_limits(out);
        self.ask_patience(out);
        self.flush(out);
        // After the flush: a digest must not arrive before the news that explains it.
        self.beat(out);
        self.urgent = false;
    }

    /// When the next action is due.
    pub(super) fn earliest(&self) -> Duration {
        let mut at = self.next_heartbeat.min(self.next_sweep);
        let mut sooner = |t: Option<Duration>| at = at.min(t.unwrap_or(Duration::MAX));
        for (name, m) in self
            .members
            .iter()
            .filter(|(n, m)| m.live() && **n != self.me)
        {
            if m.status == Status::Held {
                sooner(self.hold_over(name));
                sooner(m.watching.then_some(m.kernel_next));
            }
            if m.watching {
                match judge(&self.config, m, self.multiplier(), self.now()) {
                    Verdict::Wait(until) => sooner(Some(until)),
                    _ => sooner(Some(self.now())),
                }
            }
        }
        sooner(self.duties.iter().map(|d| d.until).min());
        sooner(self.settle_at());
        sooner(self.want_at());
        sooner(self.own.next());
        sooner(self.ask_at());
        if self.start.is_none() && !self.placer.orphans.is_empty() {
            let outlook = self.outlook();
            sooner(
                self.placer
                    .orphans
                    .values()
                    .filter_map(|o| o.due(&self.config, outlook))
                    .min(),
            );
        }
        sooner(self.placer.grants.values().map(|g| g.resend).min());
        at
    }

    /// Housekeeping, at most a few times a second.
    fn sweep(&mut self) {
        let now = self.now();
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + self.config.heartbeat * 10;
        self.changed |= self.leaps.forget(now);
        self.claims
            .forget_early(now.saturating_sub(self.config.forget));
        if !self.eligible_given && now >= self.begun + self.config.hold {
            // Others keep addresses for a node that never reports what it can announce, but only as long as a hold.
            self.eligible(&BTreeSet::new());
        }
    }

    /// When a held member's time is over. Its watchers declare it dead then; the others do so only if no notice arrives.
    fn hold_over(&self, node: &NodeName) -> Option<Duration> {
        let m = self
            .members
            .get(node)
            .filter(|m| m.status == Status::Held)?;
        Some(if m.watching {
            m.hold_until
        } else {
            m.hold_until + self.config.suspect
        })
    }

    /// Applies rule 7 to every member that I watch.
    fn watch(&mut self, out: &mut Vec<Action>) {
        let now = self.now();
        let mut dead = Vec::new();
        let mut silent = Vec::new();
        for (name, m) in self.members.iter() {
            if !m.live() || *name == self.me {
                continue;
            }
            if self.hold_over(name).is_some_and(|at| at <= now) {
                dead.push(name.clone());
            } else if m.watching {
                match judge(&self.config, m, self.multiplier(), now) {
                    Verdict::Suspect => silent.push(name.clone()),
                    Verdict::Declare => dead.push(name.clone()),
                    Verdict::Wait(_) => {}
                }
            }
        }
        for name in silent {
            self.suspect(&name, out);
        }
        let unanswered = |n: &NodeName| {
            let suspicion = self.members.get(n).and_then(|m| m.suspicion.as_ref());
            suspicion.is_some_and(|s| !s.pending.is_empty())
        };
        let mass = dead.iter().any(unanswered);
        for name in dead {
            let incarnation = self.members.get(&name).map_or(0, |m| m.incarnation);
            self.bury(&name, incarnation);
            if let Some(entry) = self.members.entry(&name, now) {
                self.outbox.notices.insert(name, entry);
            }
        }
        if mass {
            self.watch_all(out);
        }
        let every = self.config.heartbeat;
        for (name, m) in self.members.touch_all() {
            if m.status == Status::Held && m.watching && m.kernel_next <= now {
                m.kernel_next = now + every;
                out.push(Action::KernelPing(name.clone()));
            }
        }
    }

    /// Rule 9: a member died, and one that was asked about it is silent too. Many may be gone, or this node is cut off. It
    /// watches all members for a shortened round, instead of finding the deaths a few at a time.
    fn watch_all(&mut self, out: &mut Vec<Action>) {
        let from = self.now().saturating_sub(self.config.verdict);
        let mut to = Vec::new();
        for (name, m) in self.members.touch_all() {
            if m.status == Status::Alive && !m.watching && *name != self.me {
                m.watching = true;
                m.silent_from = from;
                m.suspicion = None;
                to.push(name.clone());
            }
        }
        if !to.is_empty() {
            out.push(Action::Send {
                to,
                message: Message::Ping,
            });
        }
    }

    /// Pings a silent member and asks its other watchers and some random members to do the same.
    fn suspect(&mut self, node: &NodeName, out: &mut Vec<Action>) {
        let Some(m) = self.members.get(node) else {
            return;
        };
        let held = m.status == Status::Held;
        let mut others = self.members.peers(&self.me);
        others.retain(|n| n != node);
        let (mut ask, mut others): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|n| m.watchers.contains(n));
        for _ in 0..RANDOM_HELPERS.min(others.len()) {
            let pick = self.rng.below(others.len());
            ask.push(others.swap_remove(pick));
        }
        out.push(if held {
            Action::KernelPing(node.clone())
        } else {
            Action::Send {
                to: vec![node.clone()],
                message: Message::Ping,
            }
        });
        if let Some(m) = self.members.touch(node) {
            m.suspicion = Some(Suspicion {
                asked: ask.len(),
                pending: ask.clone(),
                silent: 0,
            });
        }
        if !ask.is_empty() {
            out.push(Action::Send {
                to: ask,
                message: Message::Suspect {
                    member: node.clone(),
                },
            });
        }
    }

    /// Reports "not heard" when a promise to listen has run out.
    fn duties_over(&mut self, out: &mut Vec<Action>) {
        let now = self.now();
        self.duties.retain(|d| {
            let over = d.until <= now;
            if over {
                let message = Message::Answer {
                    member: d.member.clone(),
                    heard: false,
                };
                out.push(Action::Send {
                    to: vec![d.asker.clone()],
                    message,
                });
            }
            !over
        });
    }

    /// Chooses the members that I heartbeat, and watches those that I must watch now that others are gone.
    fn retarget(&mut self, out: &mut Vec<Action>) {
        let now = self.now();
        let hash_of = |n: &NodeName| self.members.get(n).map_or(0, |m| m.hash);
        let targets = self.members.watchers_of(&self.me, hash_of(&self.me));
        let left: Vec<NodeName> = self
            .targets
            .iter()
            .filter(|n| !targets.contains(n) && self.members.live(n))
            .cloned()
            .collect();
        if !left.is_empty() {
            out.push(Action::Send {
                to: left,
                message: Message::Unwatch,
            });
        }
        if targets != self.targets {
            self.next_heartbeat = now;
        }
        let mine: Vec<NodeName> = self
            .members
            .iter()
            .filter(|(n, m)| **n != self.me && m.live() && !m.watching)
            .filter(|(n, m)| self.members.watchers_of(n, m.hash).contains(&self.me))
            .map(|(n, _)| n.clone())
            .collect();
        for name in mine {
            if let Some(m) = self.members.touch(&name) {
                m.watching = true;
                m.silent_from = now;
                m.suspicion = None;
            }
        }
        self.targets = targets;
    }

    /// Sends the heartbeat, and with it the probes of absent nodes (rule 10).
    fn beat(&mut self, out: &mut Vec<Action>) {
        let now = self.now();
        if now < self.next_heartbeat {
            return;
        }
        self.next_heartbeat = now + self.config.heartbeat;
        if !self.targets.is_empty() {
            let message = Message::Heartbeat(Heartbeat {
                incarnation: self.incarnation(),
                settled: self.start.is_none(),
                multiplier: self.multiplier(),
                watchers: self.targets.clone(),
                members: self.members.digest(),
                claims: self.claims.digest(),
            });
            out.push(Action::Send {
                to: self.targets.clone(),
                message,
            });
        }
        self.probe(out);
    }

    /// Probes absent nodes. All live nodes together probe an absent node once per heartbeat. A node that has just started probes
    /// every node. If there are too many for one heartbeat, the next one continues where this one ended, so that each node gets
    /// its turn whatever its name.
    fn probe(&mut self, out: &mut Vec<Action>) {
        let gone = |m: &Member| matches!(m.status, Status::Unknown | Status::Dead);
        let absent = self.members.iter().filter(|(_, m)| gone(m)).count();
        let live = self.members.iter().filter(|(_, m)| m.live()).count();
        let most = match self.start {
            Some(_) => absent.div_ceil(SETTLE_BEATS).clamp(PROBES, MAX_PROBES),
            None => PROBES,
        };
        let last = self.probed.take();
        let after = |n: &NodeName| last.as_ref().is_none_or(|l| n > l);
        let (later, earlier): (Vec<_>, Vec<_>) = self
            .members
            .iter()
            .filter(|(_, m)| gone(m))
            .map(|(n, m)| (n.clone(), (m.status, m.incarnation)))
            .partition(|(n, _)| after(n));
        let blank = self.blank();
        let mut probes = 0;
        for (name, you) in later.into_iter().chain(earlier) {
            if self.start.is_none() && self.rng.below(live) != 0 {
                continue;
            }
            if probes == most {
                break;
            }
            probes += 1;
            self.probed = Some(name.clone());
            let state = State {
                you: Some(you),
                ..blank.clone()
            };
            out.push(Action::Send {
                to: vec![name],
                message: Message::State(state),
            });
        }
    }

    /// Says goodbye twice, then does nothing more (rule 15).
    pub(super) fn stop(&mut self, out: &mut Vec<Action>) {
        let to = self.members.peers(&self.me);
        self.stopped = true;
        if to.is_empty() {
            return;
        }
        let hold_ms = u32::try_from(self.config.hold.as_millis()).unwrap_or(u32::MAX);
        let message = Message::Goodbye {
            incarnation: self.incarnation(),
            hold_ms,
        };
        for _ in 0..2 {
            out.push(Action::Send {
                to: to.clone(),
                message: message.clone(),
            });
        }
    }
}
