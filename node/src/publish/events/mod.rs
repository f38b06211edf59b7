//! Decides which events a node reports about Services, so that `kubectl describe` shows them. Pure: `publish` writes them.
//!
//! Many nodes see the same thing, but only one of them reports it. The announcing node reports an announcement, as MetalLB's
//! `nodeAssigned` does. The elected member reports what keeps a Service from being served, and only if the problem lasts. It
//! reports the end of a problem only if it has reported the problem.
//!
//! Where more has to be reported than there may be events, events about this Node report the rest, one for each cause. So no
//! event tells what was true minutes ago.

mod merged;
pub(crate) mod publish;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ferrolb_api::ObjectKey;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::ServiceType;

use self::merged::Merged;
use crate::publish::News;
use crate::report::book::Entries;
use crate::report::view::{ServiceState, ServiceStatus};

/// A problem is reported once it has lasted this long.
const LASTS: Duration = Duration::from_secs(10);
/// How many events may be reported in a row.
const BURST: u32 = 100;
/// After a full burst, one more event is allowed per this interval.
const REFILL: Duration = Duration::from_secs(1);

/// How many events are kept for merged reports while others are reported one by one.
const RESERVE: u32 = 10;

/// One event about a Service, or about many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// The Service. `None`: several, so the event is about this Node.
    pub(super) service: Option<ObjectKey>,
    /// Something is wrong.
    pub(super) warning: bool,
    /// One word.
    pub(super) reason: String,
    /// One sentence.
    pub(super) note: String,
}

/// What keeps a Service from being served.
#[derive(Debug, Clone, Copy)]
struct Fault {
    reason: Reason,
    since: Instant,
    /// It has been reported.
    told: bool,
}

/// Addresses that this node announces, by Service.
type Announced = BTreeMap<ObjectKey, BTreeSet<IpAddr>>;

/// What has been reported, and what may be.
#[derive(Debug)]
pub(super) struct Teller {
    /// What this node announces and has reported.
    announced: Announced,
    /// What this node announces and has not reported yet.
    untold: Announced,
    /// What keeps Services from being served.
    faults: BTreeMap<ObjectKey, Fault>,
    /// Faults that have not lasted long enough to be reported, oldest first.
    young: BTreeSet<(Instant, ObjectKey)>,
    /// Faults that have lasted long enough and have not been reported yet.
    lasting: BTreeSet<ObjectKey>,
    /// Services whose last warning no longer applies, but which are not served yet.
    mended: BTreeSet<ObjectKey>,
    /// Services that are served again, which has not been reported yet.
    ended: BTreeSet<ObjectKey>,
    /// This node was elected and settled at the last call.
    speaks: bool,
    left: u32,
    refilled: Instant,
}

impl Teller {
    /// Nothing has been reported yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            announced: Announced::new(),
            untold: Announced::new(),
            faults: BTreeMap::new(),
            young: BTreeSet::new(),
            lasting: BTreeSet::new(),
            mended: BTreeSet::new(),
            ended: BTreeSet::new(),
            speaks: false,
            left: BURST,
            refilled: now,
        }
    }

    /// The events about this news. Call it again when something changed, and at [`Teller::due`].
    ///
    /// Faults come first, then their ends, then announcements, each ordered by Service name. What has to wait is reported later,
    /// unless it is no longer true by then. Only Services that changed are examined, or all of them when this node begins to
    /// speak for the others.
    pub(super) fn tell(&mut self, news: News<'_>, now: Instant) -> Vec<Event> {
        self.refill(now);
        let speaks = news.elected && news.settled;
        let spoke = std::mem::replace(&mut self.speaks, speaks);
        match (spoke, speaks) {
            (_, false) => self.forget_faults(),
            (false, true) => {
                for (key, entry) in news.entries {
                    self.fault(key, Some(&entry.status), now);
                }
            }
            (true, true) => {
                for (key, status) in news.changed {
                    self.fault(key, status.as_deref(), now);
                }
            }
        }
        for (key, status) in news.changed {
            self.announcement(key, status.as_deref(), news.me);
        }
        let mut events = Vec::new();
        self.tell_faults(news.entries, now, &mut events);
        self.tell_ends(&mut events);
        self.tell_announcements(news.me, &mut events);
        events
    }

    /// When the next fault will have lasted long enough, or when a postponed event may be reported.
    pub(super) fn due(&self) -> Option<Instant> {
        let may = self.refilled + REFILL;
        let behind = !(self.lasting.is_empty() && self.ended.is_empty() && self.untold.is_empty());
        let lasts = self.young.first().map(|(since, _)| *since + LASTS);
        let lasts = lasts.map(|at| if self.left == 0 { at.max(may) } else { at });
        [lasts, behind.then_some(may)].into_iter().flatten().min()
    }

    fn forget_faults(&mut self) {
        self.faults.clear();
        self.young.clear();
        self.lasting.clear();
        self.mended.clear();
        self.ended.clear();
    }

    /// Notes what keeps a Service from being served now.
    fn fault(&mut self, key: &ObjectKey, status: Option<&ServiceStatus>, now: Instant) {
        let reason = status.filter(|s| is_amiss(s)).map(|s| s.reason);
        if self.faults.get(key).map(|f| f.reason) != reason {
            if let Some(before) = self.faults.remove(key) {
                self.young.remove(&(before.since, key.clone()));
                self.lasting.remove(key);
                if before.told {
                    self.mended.insert(key.clone());
                }
            }
            if let Some(reason) = reason {
                let fault = Fault {
                    reason,
                    since: now,
                    told: false,
                };
                self.faults.insert(key.clone(), fault);
                self.young.insert((now, key.clone()));
            }
        }
        if self.mended.remove(key) | self.ended.remove(key) {
            // A Service that is gone, or that nobody is meant to serve any more, gets no event.
            if status.is_some_and(|s| s.state == ServiceState::Serving) {
                self.ended.insert(key.clone());
            } else if self.faults.contains_key(key) {
                self.mended.insert(key.clone());
            }
        }
    }

    /// Notes which addresses of a Service this node announces now.
    fn announcement(&mut self, key: &ObjectKey, status: Option<&ServiceStatus>, me: &str) {
        let addresses = status.into_iter().flat_map(|s| &s.addresses);
        let own = addresses.filter(|a| a.node.as_deref() == Some(me));
        let mut own: BTreeSet<IpAddr> = own.map(|a| a.ip).collect();
        let mut told = self.announced.remove(key).unwrap_or_default();
        told.retain(|ip| own.remove(ip));
        if !told.is_empty() {
            self.announced.insert(key.clone(), told);
        }
        if own.is_empty() {
            self.untold.remove(key);
        } else {
            self.untold.insert(key.clone(), own);
        }
    }

    fn tell_faults(&mut self, entries: &Entries, now: Instant, events: &mut Vec<Event>) {
        let lasts = |since: Instant| now.saturating_duration_since(since) >= LASTS;
        while let Some((since, key)) = self.young.pop_first() {
            if !lasts(since) {
                self.young.insert((since, key));
                break;
            }
            self.lasting.insert(key);
        }
        let mut single = self.single(self.lasting.len());
        let mut merged: BTreeMap<Reason, Merged> = BTreeMap::new();
        for key in std::mem::take(&mut self.lasting) {
            let Some((fault, entry)) = self.faults.get(&key).zip(entries.get(&key)) else {
                continue;
            };
            let (reason, note) = (fault.reason, &entry.status.message);
            if single > 0 {
                single -= 1;
                events.push(Event {
                    service: Some(key.clone()),
                    warning: true,
                    reason: reason.to_string(),
                    note: note.clone(),
                });
            } else if merged.contains_key(&reason) || self.may() {
                merged.entry(reason).or_default().add(&key, note);
            } else {
                self.lasting.insert(key);
                continue;
            }
            if let Some(fault) = self.faults.get_mut(&key) {
                fault.told = true;
            }
        }
        let merged = merged.into_iter();
        events.extend(merged.map(|(reason, all)| all.faults(reason)));
    }

    fn tell_ends(&mut self, events: &mut Vec<Event>) {
        let mut single = self.single(self.ended.len());
        let mut merged = Merged::default();
        for key in std::mem::take(&mut self.ended) {
            if single > 0 {
                single -= 1;
                events.push(Event {
                    service: Some(key),
                    warning: false,
                    reason: Reason::Programmed.to_string(),
                    note: "it is served again".to_owned(),
                });
            } else if merged.count() > 0 || self.may() {
                merged.add(&key, "");
            } else {
                self.ended.insert(key);
            }
        }
        events.extend((merged.count() > 0).then(|| merged.ends()));
    }

    fn tell_announcements(&mut self, me: &str, events: &mut Vec<Event>) {
        let mut single = self.single(self.untold.values().map(BTreeSet::len).sum());
        let mut merged = Merged::default();
        for (key, addresses) in std::mem::take(&mut self.untold) {
            for ip in addresses {
                if single > 0 {
                    single -= 1;
                    events.push(Event {
                        service: Some(key.clone()),
                        warning: false,
                        reason: merged::ASSIGNED.to_owned(),
                        note: format!(
                            "announcing {ip} from node \"{me}\" with protocol \"layer2\""
                        ),
                    });
                } else if merged.count() > 0 || self.may() {
                    merged.add(&key, &ip.to_string());
                } else {
                    self.untold.entry(key.clone()).or_default().insert(ip);
                    continue;
                }
                self.announced.entry(key.clone()).or_default().insert(ip);
            }
        }
        events.extend((merged.count() > 0).then(|| merged.announcements(me)));
    }

    /// How many of these reports get an event each. The rest is merged.
    fn single(&mut self, reports: usize) -> u32 {
        let single = match u32::try_from(reports) {
            Ok(all) if all <= self.left => all,
            _ => self.left.saturating_sub(RESERVE),
        };
        self.left -= single;
        single
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled);
        let more = u32::try_from(passed.as_millis() / REFILL.as_millis()).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.refilled = now;
        }
    }

    /// Whether one more event may be reported now. If not, it waits.
    fn may(&mut self) -> bool {
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// Whether the Service has a problem that nodes report. Leaves out what the controller reports already.
fn is_amiss(service: &ServiceStatus) -> bool {
    let by_proxy = matches!(
        service.reason,
        Reason::AddressOwned
            | Reason::HostListens
            | Reason::ExternalIpsOff
            | Reason::OverLimit
            | Reason::NoScheduler
    );
    let balanced = service.service_type == ServiceType::LoadBalancer;
    match service.state {
        ServiceState::Pending => balanced && !service.addresses.is_empty(),
        ServiceState::Refused => by_proxy || !balanced,
        _ => false,
    }
}
