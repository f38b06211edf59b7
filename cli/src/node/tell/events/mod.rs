//! What a node tells about Services as events, so that `kubectl describe` shows it: pure.
//!
//! Many nodes see the same thing, so each is told by one of them: an announcement by the node that makes it (MetalLB's `nodeAssigned`),
//! what keeps a Service from being served by the elected member, and only when it lasts. What was never told amiss is not told well.

pub(in crate::node) mod publish;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ferrolb_api::ObjectKey;
use ferrolb_api::reason::Reason;

use crate::status::view::{NodeStatus, ServiceState, ServiceStatus};

/// What keeps a Service from being served is told when it has lasted so long.
const LASTS: Duration = Duration::from_secs(10);
/// Events in a row.
const BURST: u32 = 100;
/// After so long there may be one more.
const REFILL: Duration = Duration::from_secs(1);

/// One event about a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Which Service.
    pub(super) service: ObjectKey,
    /// Something is amiss.
    pub(super) warning: bool,
    /// One word.
    pub(super) reason: String,
    /// One sentence.
    pub(super) note: String,
}

/// What was told, and what may be.
#[derive(Debug)]
pub(super) struct Teller {
    /// Addresses of Services that this node announces, as it told.
    announced: BTreeSet<(ObjectKey, IpAddr)>,
    /// What keeps Services from being served, since when, and whether it was told.
    amiss: BTreeMap<ObjectKey, (Reason, Instant, bool)>,
    left: u32,
    refilled: Instant,
}

impl Teller {
    /// Nothing told yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            announced: BTreeSet::new(),
            amiss: BTreeMap::new(),
            left: BURST,
            refilled: now,
        }
    }

    /// What is to be told of this status; ask again when something changed, and at [`Teller::due`].
    pub(super) fn tell(&mut self, status: &NodeStatus, now: Instant) -> Vec<Event> {
        let mut events = self.announcements(status);
        let elected = status
            .members
            .iter()
            .any(|m| m.elected && m.name == status.node);
        if elected && status.settled {
            events.extend(self.faults(status, now));
        } else {
            self.amiss.clear();
        }
        events.retain(|_| self.may(now));
        events
    }

    /// When something will have lasted long enough to be told.
    pub(super) fn due(&self) -> Option<Instant> {
        let waiting = self.amiss.values().filter(|(_, _, told)| !told);
        waiting.map(|(_, since, _)| *since + LASTS).min()
    }

    fn announcements(&mut self, status: &NodeStatus) -> Vec<Event> {
        let mut announced = BTreeSet::new();
        for service in &status.services {
            let own =
                |a: &&crate::status::view::AddressStatus| a.node.as_deref() == Some(&status.node);
            for address in service.addresses.iter().filter(own) {
                announced.insert((key(service), address.ip));
            }
        }
        let new = announced.difference(&self.announced);
        let event = |(service, ip): &(ObjectKey, IpAddr)| Event {
            service: service.clone(),
            warning: false,
            reason: "nodeAssigned".to_owned(),
            note: format!(
                "announcing {ip} from node \"{}\" with protocol \"layer2\"",
                status.node
            ),
        };
        let events = new.map(event).collect();
        self.announced = announced;
        events
    }

    fn faults(&mut self, status: &NodeStatus, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        let mut still = BTreeMap::new();
        for service in status.services.iter().filter(|s| is_amiss(s)) {
            let key = key(service);
            let (_, since, told) = match self.amiss.get(&key) {
                Some(known) if known.0 == service.reason => *known,
                _ => (service.reason, now, false),
            };
            let tell = !told && now.saturating_duration_since(since) >= LASTS;
            if tell {
                events.push(Event {
                    service: key.clone(),
                    warning: true,
                    reason: service.reason.to_string(),
                    note: service.message.clone(),
                });
            }
            still.insert(key, (service.reason, since, told || tell));
        }
        let well = |key: &&ObjectKey| {
            let of = |s: &&ServiceStatus| s.namespace == key.namespace && s.name == key.name;
            let found = status.services.iter().find(of);
            found.is_some_and(|s| s.state == ServiceState::Serving)
        };
        let told = self.amiss.iter().filter(|(_, (_, _, told))| *told);
        let mended = told
            .map(|(key, _)| key)
            .filter(|key| !still.contains_key(key));
        for key in mended.filter(well) {
            events.push(Event {
                service: key.clone(),
                warning: false,
                reason: Reason::Programmed.to_string(),
                note: "it is served again".to_owned(),
            });
        }
        self.amiss = still;
        events
    }

    fn may(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.refilled);
        let more = u32::try_from(passed.as_millis() / REFILL.as_millis()).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.refilled = now;
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// What the controller tells is not told twice.
fn is_amiss(service: &ServiceStatus) -> bool {
    service.state == ServiceState::Pending
        && service.service_type == "LoadBalancer"
        && !service.addresses.is_empty()
}

fn key(service: &ServiceStatus) -> ObjectKey {
    ObjectKey::new(service.namespace.clone(), service.name.clone())
}
