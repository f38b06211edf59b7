//! Which objects of kind ServiceL2Status there should be, in this node's view: pure.
//!
//! One for each Service and family, written by the node that announces; its name follows from the Service, so that the next
//! announcer replaces it. What nobody announces for a while is taken away by the elected member, because the node that wrote it
//! may be dead.

mod objects;
#[cfg(test)]
mod tests;
pub(crate) mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ferrolb_api::ObjectKey;
use ferrolb_api::crd::l2_status::name;
use ferrolb_api::delta::Delta;
use ferrolb_api::family::Family;

use crate::publish::News;
use crate::report::book::Entry;
use crate::report::view::{AddressStatus, ServiceStatus};

/// An address that has no announcer for so long has none: a failover is over long before.
const ORPHANED: Duration = Duration::from_secs(10);

/// What a node announces of one Service in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announcement {
    /// Which Service.
    pub(super) service: ObjectKey,
    /// The interfaces it is announced on.
    pub(super) interfaces: Vec<String>,
}

/// What is to be, by the names of the objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The uid of this node's Node object: with that the objects go too.
    pub(super) owner: Option<String>,
    /// Objects of this node.
    pub(super) own: BTreeMap<String, Announcement>,
    /// Objects that no node should have.
    pub(super) orphaned: BTreeSet<String>,
}

/// A change of what is to be: `None` for an object of which nothing is wanted any more.
pub(super) type Changes = Delta<String, Want>;

/// What is wanted of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Want {
    /// It is this node's.
    Own(Announcement),
    /// It should not be.
    Orphaned,
}

/// What this node knows of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Announcer {
    /// This node announces.
    Me(Announcement),
    /// No node does, since then, and this one is elected.
    Nobody(Instant),
}

/// Who announces what.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    services: BTreeMap<ObjectKey, BTreeMap<String, Announcer>>,
    /// What is not announced and has not been for long, by its age.
    waiting: BTreeSet<(Instant, String)>,
    elected: bool,
    /// Changes that were made before this node settled.
    changes: Changes,
}

impl Announcements {
    /// How what is to be changes by this news; ask again when something changed, and at [`Announcements::due`]. Before this node
    /// settles there is no answer, and then all of them come at once.
    pub(super) fn wanted(&mut self, news: News<'_>, now: Instant) -> Changes {
        let elected = news.elected;
        if std::mem::replace(&mut self.elected, elected) != elected {
            for (key, entry) in news.entries {
                self.service(key, Some(entry), news.me, now);
            }
        }
        for key in news.changed.keys() {
            self.service(key, news.entries.get(key), news.me, now);
        }
        if !news.settled {
            return Changes::new();
        }
        while let Some((since, name)) = self.waiting.pop_first() {
            if now.saturating_duration_since(since) < ORPHANED {
                self.waiting.insert((since, name));
                break;
            }
            self.changes.insert(name, Some(Want::Orphaned));
        }
        std::mem::take(&mut self.changes)
    }

    /// When something will have been without an announcer for long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.first().map(|(since, _)| *since + ORPHANED)
    }

    /// Notes who announces a Service now.
    fn service(&mut self, key: &ObjectKey, entry: Option<&Entry>, me: &str, now: Instant) {
        let mut before = self.services.remove(key).unwrap_or_default();
        let mut after = BTreeMap::new();
        let named = entry.filter(|e| !e.service.uid.is_empty());
        for (entry, (family, addresses)) in named
            .into_iter()
            .flat_map(|e| families(&e.status).map(move |f| (e, f)))
        {
            let name = name(&entry.service.uid, family);
            let is_own = |a: &&&AddressStatus| a.node.as_deref() == Some(me);
            let announcer = if let Some(own) = addresses.iter().find(is_own) {
                Announcer::Me(Announcement {
                    service: key.clone(),
                    interfaces: own.interfaces.clone(),
                })
            } else if self.elected && addresses.iter().all(|a| a.node.is_none()) {
                match before.get(&name) {
                    Some(Announcer::Nobody(since)) => Announcer::Nobody(*since),
                    _ => Announcer::Nobody(now),
                }
            } else {
                continue;
            };
            let old = before.remove(&name);
            if old.as_ref() != Some(&announcer) {
                self.no_longer(&name, old);
                match &announcer {
                    Announcer::Me(own) => {
                        self.changes
                            .insert(name.clone(), Some(Want::Own(own.clone())));
                    }
                    Announcer::Nobody(since) => {
                        self.waiting.insert((*since, name.clone()));
                    }
                }
            }
            after.insert(name, announcer);
        }
        for (name, old) in before {
            self.no_longer(&name, Some(old));
        }
        if !after.is_empty() {
            self.services.insert(key.clone(), after);
        }
    }

    fn no_longer(&mut self, name: &str, old: Option<Announcer>) {
        match old {
            None => return,
            Some(Announcer::Nobody(since)) => {
                self.waiting.remove(&(since, name.to_owned()));
            }
            Some(Announcer::Me(_)) => {}
        }
        self.changes.insert(name.to_owned(), None);
    }
}

impl Wanted {
    /// Takes in changes.
    pub(super) fn apply(&mut self, changes: Changes) {
        for (name, want) in changes {
            self.own.remove(&name);
            self.orphaned.remove(&name);
            match want {
                Some(Want::Own(announcement)) => {
                    self.own.insert(name, announcement);
                }
                Some(Want::Orphaned) => {
                    self.orphaned.insert(name);
                }
                None => {}
            }
        }
    }
}

fn families(service: &ServiceStatus) -> impl Iterator<Item = (Family, Vec<&AddressStatus>)> {
    Family::ALL.into_iter().filter_map(|family| {
        let of = |a: &&AddressStatus| Family::of(a.ip) == family;
        let addresses: Vec<_> = service.addresses.iter().filter(of).collect();
        (!addresses.is_empty()).then_some((family, addresses))
    })
}
