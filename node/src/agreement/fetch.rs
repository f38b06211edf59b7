//! Fetches a table from another member, part by part.

use std::time::{Duration, Instant};

use super::message::{Message, WINDOW, parts};
use super::table::{Name, Table, Version};

/// A part that has not arrived after this time is requested again.
pub(super) const RESEND: Duration = Duration::from_millis(100);

/// The transfer of one table.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) from: Name,
    pub(super) version: Version,
    parts: Vec<Option<Vec<u8>>>,
    received: usize,
    total: Option<u32>,
    began: Instant,
    last_asked: Instant,
    /// The requested window: from this part up to, but not including, that one.
    asked: std::ops::Range<usize>,
    /// When the last new part arrived.
    last_part: Instant,
}

impl Fetch {
    /// Starts the transfer; the request is the first message to send.
    pub(super) fn new(from: Name, version: Version, now: Instant) -> (Self, Message) {
        let mut fetch = Self {
            from,
            version,
            parts: Vec::new(),
            received: 0,
            total: None,
            began: now,
            last_asked: now,
            asked: 0..0,
            last_part: now,
        };
        let ask = fetch.ask(now);
        (fetch, ask)
    }

    fn ask(&mut self, now: Instant) -> Message {
        // All parts before the last window have arrived.
        let before = self.asked.start;
        let missing = self.parts.iter().skip(before).position(Option::is_none);
        let start = before + missing.unwrap_or(0);
        let first = u32::try_from(start).unwrap_or(u32::MAX);
        self.last_asked = now;
        self.asked = start..start + usize::try_from(WINDOW).unwrap_or(0);
        Message::Fetch {
            version: self.version.clone(),
            first,
            count: WINDOW,
        }
    }

    /// Repeats the request if nothing has arrived for a while.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Message> {
        let quiet = now.saturating_duration_since(self.last_asked.max(self.last_part));
        (quiet >= RESEND).then(|| self.ask(now))
    }

    /// Whether the other side has delivered nothing for so long that another member should be asked.
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        let quiet = now.saturating_duration_since(self.last_part);
        // The slowest accepted pace is ten parts a second: a member that sends a part now and then must not keep others from
        // being asked.
        let received = u32::try_from(self.received).unwrap_or(u32::MAX);
        let slowest = RESEND.saturating_mul(received.saturating_add(20));
        quiet >= 20 * RESEND || now.saturating_duration_since(self.began) >= slowest
    }

    /// Processes a part. With the last part, returns the whole table (or an error if the bytes are not one); otherwise possibly a
    /// message.
    pub(super) fn part(
        &mut self,
        total: u32,
        index: u32,
        bytes: Vec<u8>,
        now: Instant,
    ) -> Progress {
        let size = usize::try_from(total).unwrap_or(usize::MAX);
        if self.total.is_some_and(|known| known != total) {
            // The other side now runs a different program, or invents the parts.
            return Progress::Done(Err(
                "the table changed its size while it was sent".to_owned()
            ));
        }
        if self.total.is_none() {
            self.total = Some(total);
            self.parts = vec![None; usize::try_from(parts(size)).unwrap_or(0)];
        }
        let Some(slot) = self
            .parts
            .get_mut(usize::try_from(index).unwrap_or(usize::MAX))
        else {
            return Progress::Going(None);
        };
        if slot.is_none() {
            *slot = Some(bytes);
            self.last_part = now;
            self.received += 1;
        }
        if self.received == self.parts.len() {
            let whole: Vec<u8> = self.parts.iter().flatten().flatten().copied().collect();
            return Progress::Done(Table::decode(self.version.clone(), &whole));
        }
        let window = self.asked.start..self.asked.end.min(self.parts.len());
        let window_done = self
            .parts
            .get(window)
            .is_some_and(|w| w.iter().all(Option::is_some));
        Progress::Going(window_done.then(|| self.ask(now)))
    }
}

/// The progress of a transfer after one part.
pub(super) enum Progress {
    /// Incomplete; the request for the next window if the current one is complete.
    Going(Option<Message>),
    /// The whole table, or why the bytes are not one.
    Done(Result<Table, String>),
}
