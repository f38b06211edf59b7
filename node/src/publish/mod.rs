//! What a node reports to the API server, for people and for programs: events about Services, and who announces what.
//!
//! Both are made of the Services whose status changed, at most once a second.

pub(crate) mod events;
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

/// A node looks at most so often at what there is to report.
const LOOK: Duration = Duration::from_secs(1);

/// What changed since the last look, and what there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct News<'a> {
    /// Name of this node.
    pub(crate) me: &'a str,
    /// This node's view of the others has settled.
    pub(crate) settled: bool,
    /// This node speaks for all members.
    pub(crate) elected: bool,
    /// Services whose status changed, and those that are gone.
    pub(crate) changed: &'a Delta<ObjectKey, Arc<ServiceStatus>>,
    /// All Services.
    pub(crate) entries: &'a Entries,
}

/// What a node of a cluster reports, and whether it is time to look.
#[derive(Debug)]
pub(crate) struct Desk {
    teller: Teller,
    publisher: Publisher,
    announcements: Announcements,
    writer: Writer,
    /// Something that a status shows may be another one.
    touched: bool,
    /// Services whose status changed since the last look.
    changed: Delta<ObjectKey, Arc<ServiceStatus>>,
    next: Instant,
}

impl Desk {
    /// Nothing reported yet.
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

    /// Something that a status would show may be another one.
    pub(crate) fn touch(&mut self) {
        self.touched = true;
    }

    /// Services are shown differently now, or are gone.
    pub(crate) fn note(&mut self, changed: Delta<ObjectKey, Arc<ServiceStatus>>) {
        self.touched |= !changed.is_empty();
        self.changed.extend(changed);
    }

    /// Whether it is time to look.
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
        // A node that has not heard the others yet cannot say that it announces nothing.
        if node.settled {
            self.writer.want(wanted, owner);
        }
    }
}

/// Who looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Looker<'a> {
    /// Name of this node.
    pub(crate) me: &'a str,
    /// This node's view of the others has settled.
    pub(crate) settled: bool,
    /// This node speaks for all members.
    pub(crate) elected: bool,
}
