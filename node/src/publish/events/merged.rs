//! Many reports with one cause, as one event about this Node.

use ferrolb_api::ObjectKey;
use ferrolb_api::reason::Reason;

use super::Event;

/// The reason of events about announcements, as in MetalLB.
pub(super) const ASSIGNED: &str = "nodeAssigned";
/// How many Services are named.
const NAMED: usize = 3;

/// Reports with one cause.
#[derive(Debug, Default)]
pub(super) struct Merged {
    count: usize,
    /// The first ones: the Service, and what there is to say about it.
    first: Vec<(ObjectKey, String)>,
}

impl Merged {
    /// Adds a report.
    pub(super) fn add(&mut self, service: &ObjectKey, note: &str) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push((service.clone(), note.to_owned()));
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Services that are not served for one reason.
    pub(super) fn faults(&self, reason: Reason) -> Event {
        let note = self.first.first().map_or("", |(_, note)| note);
        event(
            true,
            reason.to_string(),
            format!(
                "{} more Services are not served for this reason, {}. Of the first: {note}",
                self.count,
                self.named()
            ),
        )
    }

    /// Services that are served again.
    pub(super) fn ends(&self) -> Event {
        let note = format!(
            "{} more Services are served again, {}",
            self.count,
            self.named()
        );
        event(false, Reason::Programmed.to_string(), note)
    }

    /// Addresses that this node announces.
    pub(super) fn announcements(&self, me: &str) -> Event {
        let note = format!(
            "announcing {} more addresses from node \"{me}\" with protocol \"layer2\", {}. `kubectl get servicel2statuses -A` lists all",
            self.count,
            self.named()
        );
        event(false, ASSIGNED.to_owned(), note)
    }

    fn named(&self) -> String {
        let names: Vec<String> = self.first.iter().map(|(key, _)| key.to_string()).collect();
        format!("among them {}", names.join(", "))
    }
}

fn event(warning: bool, reason: String, note: String) -> Event {
    Event {
        service: None,
        warning,
        reason,
        note,
    }
}
