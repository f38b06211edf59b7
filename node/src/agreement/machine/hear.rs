//! Processes what the others send: their state, requests for tables, and parts of tables.

use std::sync::Arc;
use std::time::Instant;

use super::{Action, Doubt, Machine, Role};
use crate::agreement::fetch::{Fetch, Progress};
use crate::agreement::message::{Malformed, Message, PART, Status, WINDOW, parts};
use crate::agreement::table::{Ballot, Name, Table, Version};

impl Machine {
    pub(super) fn receive(&mut self, from: &Name, bytes: &[u8], now: Instant) {
        if *from == self.me || !self.view.live.contains(from) {
            return;
        }
        match Message::decode(bytes) {
            Ok(Message::Status(status)) => self.hear(from, status, now),
            Ok(Message::Fetch {
                version,
                first,
                count,
            }) => self.serve(from, version, first, count),
            Ok(Message::Part {
                version,
                total,
                index,
                bytes,
            }) => {
                self.part(from, &version, (total, index, bytes), now);
            }
            Err(Malformed::TooHigh(round)) => self.leapt(from, round, now),
            Err(why @ (Malformed::Content | Malformed::Format(_))) => {
                self.out.push(Action::Refused {
                    from: from.clone(),
                    why: why.to_string(),
                })
            }
        }
    }

    fn hear(&mut self, from: &Name, status: Status, now: Instant) {
        let own = self.saved.promised.round;
        if !self.allowance.permits(own, status.round(), now) {
            return self.leapt(from, status.round(), now);
        }
        self.doubts.clear(Doubt::Round, from);
        if status.yields {
            self.doubts.raise(Doubt::Disk, from, now);
        } else {
            self.doubts.clear(Doubt::Disk, from);
        }
        // This may have changed the leader.
        self.elect(false, now);
        let promise = &status.promised;
        if self.leads(from) && promise.proposer == *from {
            self.promise(promise, now);
        }
        let behind = status.agreed < self.saved.agreed.version || status.held != self.durable.held;
        let news = self.peers.insert(from.clone(), status.clone()) != Some(status);
        // A member that reports something new and lacks what is known here is updated at once.
        if news && behind {
            self.tell(&from.clone());
        }
        self.learn(now);
    }

    /// Ignores a member's message that leaps too far, and bars the member from leading.
    fn leapt(&mut self, from: &Name, round: u64, now: Instant) {
        self.doubts.raise(Doubt::Round, from, now);
        self.peers.remove(from);
        if self.fetch.as_ref().is_some_and(|f| f.from == *from) {
            self.fetch = None;
        }
        self.out.push(Action::Leapt {
            from: from.clone(),
            round,
        });
    }

    /// Promises a ballot, unless a higher one has been promised.
    fn promise(&mut self, ballot: &Ballot, now: Instant) {
        if *ballot > self.saved.promised {
            let promised = self.saved.promised.round;
            self.allowance.spend(promised, ballot.round, now);
            self.saved.promised = ballot.clone();
        }
    }

    /// Learns from the peers' states that the table held here is agreed, or that a newer one can be fetched: first what the
    /// leader offers, then what the leader knows to be agreed, then what others know.
    pub(super) fn learn(&mut self, now: Instant) {
        let (held, agreed) = (&self.saved.held, &self.saved.agreed);
        let known = |s: &Status| s.agreed == held.version;
        if held.version > agreed.version && self.peers.values().any(known) {
            self.agree(held.clone());
        }
        let leader = self.leader.clone().filter(|leader| *leader != self.me);
        if let Some((leader, of_leader)) = leader.and_then(|l| self.peers.get_key_value(&l))
            && self.acceptable(leader, &of_leader.held)
        {
            return self.get(leader.clone(), of_leader.held.clone(), now);
        }
        if self.base().is_some() {
            return;
        }
        let newer = self.peers.iter().filter(|(name, s)| {
            s.agreed > self.saved.agreed.version && !self.doubts.has(Doubt::Silent, name)
        });
        let source = newer.max_by_key(|(name, s)| (self.leads(name), &s.agreed));
        if let Some((from, s)) = source {
            self.get(from.clone(), s.agreed.clone(), now);
        }
    }

    fn acceptable(&self, from: &Name, offer: &Version) -> bool {
        self.leads(from)
            && offer.ballot.proposer == *from
            && offer.ballot >= self.saved.promised
            && *offer > self.saved.held.version
    }

    pub(super) fn get(&mut self, from: Name, version: Version, now: Instant) {
        if self.fetch.as_ref().is_some_and(|f| f.version == version) {
            return;
        }
        let (fetch, ask) = Fetch::new(from.clone(), version, now);
        self.fetch = Some(fetch);
        self.send(from, &ask);
    }

    fn serve(&mut self, to: &Name, version: Version, first: u32, count: u32) {
        let Some(table) = self.own(&version) else {
            return;
        };
        // Keep only tables that can still be requested: otherwise tables that were proposed but never agreed on would accumulate.
        let (held, agreed) = (&self.saved.held.version, &self.saved.agreed.version);
        self.encoded.retain(|v, _| v == held || v == agreed);
        let bytes = self
            .encoded
            .entry(version.clone())
            .or_insert_with(|| table.encode().into())
            .clone();
        let Ok(total) = u32::try_from(bytes.len()) else {
            return;
        };
        let end = parts(bytes.len()).min(first.saturating_add(count.min(WINDOW)));
        for index in first..end {
            let at = usize::try_from(index)
                .unwrap_or(usize::MAX)
                .saturating_mul(PART);
            let piece = bytes.get(at..bytes.len().min(at.saturating_add(PART)));
            let part = Message::Part {
                version: version.clone(),
                total,
                index,
                bytes: piece.unwrap_or_default().to_vec(),
            };
            self.send(to.clone(), &part);
        }
    }

    fn part(
        &mut self,
        from: &Name,
        version: &Version,
        (total, index, bytes): (u32, u32, Vec<u8>),
        now: Instant,
    ) {
        let Some(fetch) = self
            .fetch
            .as_mut()
            .filter(|f| f.from == *from && f.version == *version)
        else {
            return;
        };
        match fetch.part(total, index, bytes, now) {
            Progress::Going(Some(ask)) => self.send(from.clone(), &ask),
            Progress::Going(None) => {}
            Progress::Done(Err(why)) => {
                self.fetch = None;
                self.doubts.raise(Doubt::Silent, from, now);
                self.out.push(Action::Refused {
                    from: from.clone(),
                    why,
                });
            }
            Progress::Done(Ok(table)) => {
                self.fetch = None;
                self.got(from, Arc::new(table), now);
            }
        }
    }

    /// A table arrived: because it is agreed, because it is proposed here, or as the base of the next proposal.
    fn got(&mut self, from: &Name, table: Arc<Table>, now: Instant) {
        let known_agreed = self.peers.values().any(|s| s.agreed == table.version);
        if known_agreed && table.version > self.saved.agreed.version {
            if table.version > self.saved.held.version {
                // A member that holds a table has promised its ballot.
                self.promise(&table.version.ballot, now);
                self.saved.held = table.clone();
            }
            self.agree(table.clone());
        } else if self.acceptable(from, &table.version) {
            self.promise(&table.version.ballot, now);
            self.saved.held = table.clone();
        }
        if matches!(self.role, Role::Preparing(_)) && self.base() == Some(table.version.clone()) {
            self.lead(table);
        }
        self.learn(now);
    }

    pub(super) fn agree(&mut self, table: Arc<Table>) {
        self.saved.agreed = table.clone();
        self.out.push(Action::Agreed(table));
    }
}
