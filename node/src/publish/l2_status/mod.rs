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
use ferrolb_api::family::Family;

use crate::report::view::{AddressStatus, NodeStatus, ServiceStatus};

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

/// Since when nobody announces what.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    orphans: BTreeMap<String, (Instant, bool)>,
}

impl Announcements {
    /// What is to be by this status; ask again when something changed, and at [`Announcements::due`].
    pub(super) fn wanted(
        &mut self,
        status: &NodeStatus,
        uid: impl Fn(&ObjectKey) -> String,
        now: Instant,
    ) -> Wanted {
        let elected = status
            .members
            .iter()
            .any(|m| m.elected && m.name == status.node);
        let mut wanted = Wanted::default();
        let mut orphans = BTreeMap::new();
        for service in status.services.iter().filter(|s| !s.addresses.is_empty()) {
            let key = ObjectKey::new(service.namespace.clone(), service.name.clone());
            let uid = uid(&key);
            if uid.is_empty() {
                continue;
            }
            for (family, addresses) in families(service) {
                let name = name(&uid, family);
                let is_own = |a: &&&AddressStatus| a.node.as_deref() == Some(&status.node);
                if let Some(own) = addresses.iter().find(is_own) {
                    let announcement = Announcement {
                        service: key.clone(),
                        interfaces: own.interfaces.clone(),
                    };
                    wanted.own.insert(name, announcement);
                } else if elected && addresses.iter().all(|a| a.node.is_none()) {
                    let (since, _) = self.orphans.get(&name).copied().unwrap_or((now, false));
                    let lasts = now.saturating_duration_since(since) >= ORPHANED;
                    if lasts {
                        wanted.orphaned.insert(name.clone());
                    }
                    orphans.insert(name, (since, lasts));
                }
            }
        }
        self.orphans = orphans;
        wanted
    }

    /// When something will have been without an announcer for long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        let waiting = self.orphans.values().filter(|(_, lasts)| !lasts);
        waiting.map(|(since, _)| *since + ORPHANED).min()
    }
}

fn families(service: &ServiceStatus) -> impl Iterator<Item = (Family, Vec<&AddressStatus>)> {
    Family::ALL.into_iter().filter_map(|family| {
        let of = |a: &&AddressStatus| Family::of(a.ip) == family;
        let addresses: Vec<_> = service.addresses.iter().filter(of).collect();
        (!addresses.is_empty()).then_some((family, addresses))
    })
}
