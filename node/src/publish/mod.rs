//! What a node reports to the API server, for people and programs: events about Services, and which node announces what.
//!
//! Both are derived from the Services whose status changed, at most once a second.

pub(crate) mod events;
pub mod heartbeat;
pub(crate) mod l2_status;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrolb_api::ObjectKey;
use ferrolb_api::delta::Delta;

use self::events::Teller;
use self::events::publish::Publisher;
use self::l2_status::Announcements;
use self::l2_status::write::Writer;
use crate::report::book::Entries;
use crate::report::view::ServiceStatus;

/// How long a node waits at least between two reports.
const LOOK: Duration = Duration::from_secs(1);

/// What changed since the last report, and the current state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct News<'a> {
    /// The name of this node.
    pub(crate) me: &'a str,
    /// This node's view of the others has settled.
    pub(crate) settled: bool,
    /// This node speaks for all members.
    pub(crate) elected: bool,
    /// Services whose status changed, and Services that are gone.
    pub(crate) changed: &'a Delta<ObjectKey, Arc<ServiceStatus>>,
    /// All Services.
    pub(crate) entries: &'a Entries,
}

/// What a node of a cluster reports, and when the next report is due.
#[derive(Debug)]
pub(crate) struct Desk {
    teller: Teller,
    publisher: Publisher,
    announcements: Announcements,
    writer: Writer,
    /// Something that a status shows may have changed.
    touched: bool,
    /// Services whose status changed since the last report.
    changed: Delta<ObjectKey, Arc<ServiceStatus>>,
    next: Instant,
}

impl Desk {
    /// Nothing has been reported yet.
    pub(crate) fn new(publisher: Publisher, writer: Writer, now: Instant) -> Self {
        Self {
            teller: Teller::new(now),
            publisher,
            announcements: Announcements::default(),
            writer,
            touched: true,
            changed: Delta::new(),
            next: now,
        }
    }

    /// Notes that something that a status shows may have changed.
    pub(crate) fn touch(&mut self) {
        self.touched = true;
    }

    /// Notes Services whose status changed or that are gone.
    pub(crate) fn note(&mut self, changed: Delta<ObjectKey, Arc<ServiceStatus>>) {
        self.touched |= !changed.is_empty();
        self.changed.extend(changed);
    }

    /// Whether a report is due.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let due = [self.teller.due(), self.announcements.due()];
        now >= self.next && (self.touched || due.into_iter().flatten().any(|due| due <= now))
    }

    /// Reports what is new. `owner`: the uid of this node's Node object.
    pub(crate) fn look(
        &mut self,
        node: Looker<'_>,
        entries: &Entries,
        owner: Option<&str>,
        now: Instant,
    ) {
        self.touched = false;
        self.next = now + LOOK;
        let changed = std::mem::take(&mut self.changed);
        let news = News {
            me: node.me,
            settled: node.settled,
            elected: node.elected,
            changed: &changed,
            entries,
        };
        let uid = |key: &ObjectKey| {
            let entry = entries.get(key);
            entry.map(|e| e.service.uid.clone()).unwrap_or_default()
        };
        self.publisher.send(self.teller.tell(news, now), uid);
        let wanted = self.announcements.wanted(news, now);
        // A node that has not heard the others yet cannot claim that it announces nothing.
        if node.settled {
            self.writer.want(wanted, owner);
        }
    }
}

/// This node, as far as a report depends on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Looker<'a> {
    /// The name of this node.
    pub(crate) me: &'a str,
    /// This node's view of the others has settled.
    pub(crate) settled: bool,
    /// This node speaks for all members.
    pub(crate) elected: bool,
}
