//! Decides which objects of kind ServiceL2Status should exist, as seen by this node. Pure: `write` sends the requests.
//!
//! There is one object for each Service and family, written by the node that announces it. Its name is derived from the Service,
//! so the next announcer replaces it. The node that wrote an object may be dead. So the elected member removes the object once
//! nobody has announced the addresses for a while.

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

/// After this time without an announcer, an address counts as not announced. A failover is over long before.
const ORPHANED: Duration = Duration::from_secs(10);

/// What a node announces for one Service in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announcement {
    /// The Service.
    pub(super) service: ObjectKey,
    /// The interfaces on which it is announced.
    pub(super) interfaces: Vec<String>,
}

/// The objects that should exist, and those that should not, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The uid of this node's Node object, which owns the objects: they are deleted together with it.
    pub(super) owner: Option<String>,
    /// The objects of this node.
    pub(super) own: BTreeMap<String, Announcement>,
    /// Objects that no node should have.
    pub(super) orphaned: BTreeSet<String>,
}

/// Changes of the wanted objects. `None`: nothing is wanted of this object any more.
pub(super) type Changes = Delta<String, Want>;

/// What is wanted of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Want {
    /// This node should have it.
    Own(Announcement),
    /// No node should have it.
    Orphaned,
}

/// What this node knows about the announcer of one object's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Announcer {
    /// This node announces them.
    Me(Announcement),
    /// No node has announced them since then, and this node is elected.
    Nobody(Instant),
}

/// Who announces what.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    services: BTreeMap<ObjectKey, BTreeMap<String, Announcer>>,
    /// Objects whose addresses nobody announces, but not yet for long enough, oldest first.
    waiting: BTreeSet<(Instant, String)>,
    elected: bool,
    /// Changes that have not been returned yet, because this node had not settled.
    changes: Changes,
}

impl Announcements {
    /// How this news changes the wanted objects. Call it again when something changed, and at [`Announcements::due`]. It returns
    /// nothing until this node has settled, and then all changes at once.
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

    /// When the next object will have been without an announcer for long enough.
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
    /// Applies changes.
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
