//! What a node tells about Services as events, so that `kubectl describe` shows it: pure.
//!
//! Many nodes see the same thing, so each is told by one of them: an announcement by the node that makes it (MetalLB's `nodeAssigned`),
//! what keeps a Service from being served by the elected member, and only when it lasts. What was never told amiss is not told well.

pub(crate) mod publish;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ferrolb_api::ObjectKey;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::ServiceType;

use crate::report::view::{NodeStatus, ServiceState, ServiceStatus};

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
    /// Services whose last warning no longer holds, until it can be told that they are served.
    mended: BTreeSet<ObjectKey>,
    /// There was more to tell than may be told at once.
    behind: bool,
    left: u32,
    refilled: Instant,
}

impl Teller {
    /// Nothing told yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            announced: BTreeSet::new(),
            amiss: BTreeMap::new(),
            mended: BTreeSet::new(),
            behind: false,
            left: BURST,
            refilled: now,
        }
    }

    /// What is to be told of this status; ask again when something changed, and at [`Teller::due`].
    ///
    /// Faults come first, then their ends, then announcements, each by the names of the Services. What may not be told yet is
    /// told later, unless it is no longer so.
    pub(super) fn tell(&mut self, status: &NodeStatus, now: Instant) -> Vec<Event> {
        self.refill(now);
        self.behind = false;
        let mut events = Vec::new();
        let elected = status
            .members
            .iter()
            .any(|m| m.elected && m.name == status.node);
        if elected && status.settled {
            self.faults(status, now, &mut events);
            self.ends(status, &mut events);
        } else {
            self.amiss.clear();
            self.mended.clear();
        }
        self.announcements(status, &mut events);
        events
    }

    /// When something will have lasted long enough to be told, or may be told that had to wait.
    pub(super) fn due(&self) -> Option<Instant> {
        let may = self.refilled + REFILL;
        let waiting = self.amiss.values().filter(|(_, _, told)| !told);
        let lasts = waiting.map(|(_, since, _)| *since + LASTS).min();
        let lasts = lasts.map(|at| if self.left == 0 { at.max(may) } else { at });
        [lasts, self.behind.then_some(may)]
            .into_iter()
            .flatten()
            .min()
    }

    fn announcements(&mut self, status: &NodeStatus, events: &mut Vec<Event>) {
        let mut announced = BTreeSet::new();
        for service in &status.services {
            let own =
                |a: &&crate::report::view::AddressStatus| a.node.as_deref() == Some(&status.node);
            for address in service.addresses.iter().filter(own) {
                announced.insert((key(service), address.ip));
            }
        }
        let told = std::mem::take(&mut self.announced);
        announced.retain(|announcement| {
            if told.contains(announcement) {
                return true;
            }
            let may = self.may();
            if may {
                let (service, ip) = announcement;
                events.push(Event {
                    service: service.clone(),
                    warning: false,
                    reason: "nodeAssigned".to_owned(),
                    note: format!(
                        "announcing {ip} from node \"{}\" with protocol \"layer2\"",
                        status.node
                    ),
                });
            }
            may
        });
        self.announced = announced;
    }

    fn faults(&mut self, status: &NodeStatus, now: Instant, events: &mut Vec<Event>) {
        let mut before = std::mem::take(&mut self.amiss);
        let amiss: BTreeMap<ObjectKey, &ServiceStatus> = status
            .services
            .iter()
            .filter(|s| is_amiss(s))
            .map(|s| (key(s), s))
            .collect();
        for (key, service) in amiss {
            let (_, since, told) = match before.remove(&key) {
                Some(known) if known.0 == service.reason => known,
                other => {
                    if other.is_some_and(|(_, _, told)| told) {
                        self.mended.insert(key.clone());
                    }
                    (service.reason, now, false)
                }
            };
            let lasts = now.saturating_duration_since(since) >= LASTS;
            let tell = !told && lasts && self.may();
            if tell {
                events.push(Event {
                    service: key.clone(),
                    warning: true,
                    reason: service.reason.to_string(),
                    note: service.message.clone(),
                });
            }
            self.amiss
                .insert(key, (service.reason, since, told || tell));
        }
        let told = before.into_iter().filter(|(_, (_, _, told))| *told);
        self.mended.extend(told.map(|(key, _)| key));
    }

    fn ends(&mut self, status: &NodeStatus, events: &mut Vec<Event>) {
        if self.mended.is_empty() {
            return;
        }
        let served = status.services.iter();
        let served: BTreeSet<ObjectKey> = served
            .filter(|s| s.state == ServiceState::Serving)
            .map(key)
            .collect();
        let mended = std::mem::take(&mut self.mended);
        for key in mended {
            if !served.contains(&key) {
                // One that is gone, or that nobody is to serve any more, is not told.
                if self.amiss.contains_key(&key) {
                    self.mended.insert(key);
                }
            } else if self.may() {
                events.push(Event {
                    service: key,
                    warning: false,
                    reason: Reason::Programmed.to_string(),
                    note: "it is served again".to_owned(),
                });
            } else {
                self.mended.insert(key);
            }
        }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled);
        let more = u32::try_from(passed.as_millis() / REFILL.as_millis()).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.refilled = now;
        }
    }

    /// Whether there may be one more; otherwise it waits.
    fn may(&mut self) -> bool {
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        self.behind |= !may;
        may
    }
}

/// What the controller tells is not told twice.
fn is_amiss(service: &ServiceStatus) -> bool {
    let by_proxy = matches!(
        service.reason,
        Reason::AddressOwned | Reason::HostListens | Reason::ExternalIpsOff | Reason::OverLimit
    );
    let balanced = service.service_type == ServiceType::LoadBalancer;
    match service.state {
        ServiceState::Pending => balanced && !service.addresses.is_empty(),
        ServiceState::Refused => by_proxy || !balanced,
        _ => false,
    }
}

fn key(service: &ServiceStatus) -> ObjectKey {
    ObjectKey::new(service.namespace.clone(), service.name.clone())
}
