//! How a member that has the right key can try to stop allocation.

use std::sync::Arc;

use super::world::World;
use crate::agreement::message::{Message, PART, Status, parts};
use crate::agreement::table::{Ballot, MAX_ROUND, Name, Version};

/// The kind of lies that a member tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lies {
    /// Only rounds that leap.
    Leaps,
    /// Also plausible rounds, tables and failures.
    Anything,
}

impl World {
    /// A member claims once, to all others, that it promised this round.
    pub(super) fn claim(&mut self, liar: usize, round: u64) {
        self.lied = true;
        let status = Status {
            promised: ballot(round, &self.names[liar]),
            ..Status::default()
        };
        self.say(liar, &Message::Status(status));
    }

    fn say(&mut self, liar: usize, message: &Message) {
        let bytes = message.encode();
        for to in (0..self.names.len()).filter(|to| *to != liar) {
            self.deliver(liar, to, bytes.clone());
        }
    }

    /// A lying member makes a claim, and sometimes repeats it for seconds.
    pub(super) fn lie(&mut self, liar: usize, lies: Lies) {
        let status = match self.lie.take() {
            Some((until, status)) if until > self.now => {
                self.lie = Some((until, status.clone()));
                status
            }
            _ => {
                let status = self.invent(liar, lies);
                let until = self.now + if self.rng.chance(80) { 0 } else { 6000 };
                self.lie = Some((until, status.clone()));
                status
            }
        };
        self.say(liar, &Message::Status(status));
    }

    fn invent(&mut self, liar: usize, lies: Lies) -> Status {
        let name = self.names[liar].clone();
        let newest = self.newest_promise();
        let kinds = match (lies, self.names.len()) {
            (Lies::Leaps, _) => 3,
            // With three members, a false promise cannot endanger what the two others hold.
            (Lies::Anything, 3) => 8,
            (Lies::Anything, _) => 7,
        };
        let made_up = Version {
            ballot: ballot(newest.round + self.rng.below(3), &name),
            number: 1 + self.rng.below(1 << 40),
        };
        let mut status = Status::default();
        match self.rng.below(kinds) {
            0 => status.promised = ballot((1 << 63) - 1, &name),
            1 => status.promised = ballot(u64::MAX, &name),
            2 => status.promised = ballot(MAX_ROUND - 1, &name),
            3 => status.promised = ballot(newest.round + 1 + self.rng.below(1 << 20), &name),
            4 => status.agreed = made_up,
            5 => status.held = made_up,
            6 => status.yields = true,
            _ => (status.promised, status.held) = (newest, made_up),
        }
        status
    }

    /// A lying member that is asked for a table sends nothing, or sends bytes that are not a table.
    pub(super) fn answer_falsely(&mut self, liar: usize, to: usize, bytes: &[u8]) {
        let Ok(Message::Fetch { version, first, .. }) = Message::decode(bytes) else {
            return;
        };
        let total = u32::try_from(PART * 3).unwrap();
        let index = first.min(parts(PART * 3) - 1);
        if self.rng.chance(50) {
            let bytes = vec![b'['; PART];
            let part = Message::Part {
                version,
                total,
                index,
                bytes,
            };
            self.deliver(liar, to, part.encode());
        }
    }
}

fn ballot(round: u64, name: &Name) -> Ballot {
    Ballot {
        round,
        proposer: Arc::clone(name),
        boot: 1,
    }
}
