//! What a node tells the API server, for people and for programs: events about Services, and who announces what.
//!
//! Both are made of the status of this node, which is put together only when something may have changed, and not more than once a second.

pub(crate) mod events;
pub(crate) mod l2_status;
#[cfg(test)]
mod testing;

use std::time::{Duration, Instant};

use ferrolb_api::ObjectKey;

use self::events::Teller;
use self::events::publish::Publisher;
use self::l2_status::Announcements;
use self::l2_status::write::Writer;
use crate::report::view::NodeStatus;

/// At most so often a node looks at what there is to tell.
const LOOK: Duration = Duration::from_secs(1);

/// What a node of a cluster tells, and whether it is time to look.
#[derive(Debug)]
pub(crate) struct Desk {
    teller: Teller,
    publisher: Publisher,
    announcements: Announcements,
    writer: Writer,
    changed: bool,
    next: Instant,
}

impl Desk {
    /// Nothing told yet.
    pub(crate) fn new(publisher: Publisher, writer: Writer, now: Instant) -> Self {
        Self {
            teller: Teller::new(now),
            publisher,
            announcements: Announcements::default(),
            writer,
            changed: true,
            next: now,
        }
    }

    /// Something that a status would show may be another one.
    pub(crate) fn touch(&mut self) {
        self.changed = true;
    }

    /// Whether a status is wanted.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let due = [self.teller.due(), self.announcements.due()];
        now >= self.next && (self.changed || due.into_iter().flatten().any(|due| due <= now))
    }

    /// Tells what is new in this status. `owner`: the uid of this node's Node object.
    pub(crate) fn look(
        &mut self,
        status: &NodeStatus,
        uid: impl Fn(&ObjectKey) -> String,
        owner: Option<&str>,
        now: Instant,
    ) {
        self.changed = false;
        self.next = now + LOOK;
        self.publisher.send(self.teller.tell(status, now), &uid);
        // A node that has not heard the others yet cannot say that it announces nothing.
        if status.settled {
            let mut wanted = self.announcements.wanted(status, &uid, now);
            wanted.owner = owner.map(str::to_owned);
            self.writer.want(wanted);
        }
    }
}
