//! Writes events with events.k8s.io/v1, for the controller and for the nodes.
//!
//! A repeated event continues the series of the first one, so the API server keeps a single object for it. The note is part of
//! the identity: an event with another address or another sentence is a new event.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ferrolb_api::object::Kind;
use ferrolb_api::refusal::Refusal;
use ferrolb_api::{Backoff, ObjectKey};
use ferrolb_source::cluster::access::refusal;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as ApiEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::super::chance;
use super::super::event::clip;

/// An event that repeats within this time continues the series.
const SERIES: Duration = Duration::from_secs(360);
/// The number of series that are remembered. A forgotten series starts anew.
const MANY: usize = 1024;

/// Attempts to write one event.
const ATTEMPTS: u32 = 4;
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));

/// Tries a few times to write an event, as long as waiting may help. An event is only informational, so it is dropped after that.
pub async fn insist<F: Future<Output = Result<(), Refusal>>>(
    write: impl Fn() -> F,
) -> Result<(), Refusal> {
    let mut backoff = PAUSES;
    loop {
        match write().await {
            Err(refusal) if refusal.passes() && backoff.failures() + 1 < ATTEMPTS => {}
            done => return done,
        }
        tokio::time::sleep(backoff.next(chance())).await;
    }
}

/// What an event says.
#[derive(Debug, Clone, Copy)]
pub struct Telling<'a> {
    /// The kind of the object that it is about.
    pub of: Kind,
    /// Which object.
    pub object: &'a ObjectKey,
    /// Its `metadata.uid`, by which `kubectl describe` finds the event; empty if unknown.
    pub uid: &'a str,
    /// The event's type: `Warning`, else `Normal`.
    pub warning: bool,
    /// The reason, in one word.
    pub reason: &'a str,
    /// What was done or tried, in one word.
    pub action: &'a str,
    /// One sentence; cut off at the API server's limit.
    pub note: &'a str,
}

/// Writes events under one name.
pub struct Events {
    client: Client,
    controller: &'static str,
    instance: String,
    series: Mutex<Series>,
}

impl Events {
    /// `controller` is the reporting component; `instance` identifies it: the name of a pod, host or node.
    pub fn new(client: Client, controller: &'static str, instance: &str) -> Self {
        let instance = match instance {
            "" => controller,
            // The API server's limit on its length.
            name => &name[..name.floor_char_boundary(128)],
        };
        Self {
            client,
            controller,
            instance: instance.to_owned(),
            series: Mutex::default(),
        }
    }

    /// Writes an event, or updates its series if it is a repetition.
    pub async fn publish(&self, telling: &Telling<'_>) -> Result<(), Refusal> {
        let events: Api<ApiEvent> = Api::namespaced(self.client.clone(), namespace(telling));
        let now = Timestamp::now();
        let identity = identity(telling);
        let earlier = self.series(|series| series.next(&identity, Instant::now()));
        if let Some((name, count)) = earlier {
            let series = json!({"series": {"count": count, "lastObservedTime": MicroTime(now)}});
            let patch = Patch::Merge(series);
            let params = PatchParams::default();
            let done = events.patch(&name, &params, &patch).await;
            match done.map_err(|e| refusal(&e, "patch events.events.k8s.io")) {
                Ok(_) => {
                    self.series(|series| series.remember(identity, name, count, Instant::now()));
                    return Ok(());
                }
                // The first event may have expired.
                Err(gone) if gone.is_stale() => {}
                Err(refusal) => return Err(refusal),
            }
        }
        let name = format!("{}.{:x}", telling.object.name, now.as_nanosecond());
        let new = describe(telling, &name, (self.controller, &self.instance), now);
        let params = PostParams::default();
        let done = events.create(&params, &new).await;
        done.map_err(|e| refusal(&e, "create events.events.k8s.io"))?;
        self.series(|series| series.remember(identity, name, 1, Instant::now()));
        Ok(())
    }

    fn series<T>(&self, act: impl FnOnce(&mut Series) -> T) -> T {
        act(&mut self.series.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// API group, version and kind of an object that events are about.
pub(super) fn regarded(of: Kind) -> (&'static str, &'static str, &'static str) {
    match of {
        Kind::IpAddressPool => ("metallb.io", "v1beta1", "IPAddressPool"),
        Kind::LegacyConfig => ("", "v1", "ConfigMap"),
        Kind::Node => ("", "v1", "Node"),
        _ => ("", "v1", "Service"),
    }
}

/// The namespace of the event. Those about objects outside of any namespace are in `default`.
fn namespace<'a>(telling: &Telling<'a>) -> &'a str {
    match telling.object.namespace.as_str() {
        "" => "default",
        namespace => namespace,
    }
}

fn describe(
    telling: &Telling<'_>,
    name: &str,
    (controller, instance): (&str, &str),
    now: Timestamp,
) -> ApiEvent {
    let (group, version, regarded) = regarded(telling.of);
    let kind = if telling.warning { "Warning" } else { "Normal" };
    ApiEvent {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace(telling).to_owned()),
            ..ObjectMeta::default()
        },
        action: Some(telling.action.to_owned()),
        reason: Some(telling.reason.to_owned()),
        note: Some(clip(telling.note).to_owned()),
        type_: Some(kind.to_owned()),
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(controller.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(match group {
                "" => version.to_owned(),
                group => format!("{group}/{version}"),
            }),
            kind: Some(regarded.to_owned()),
            namespace: Some(telling.object.namespace.clone()).filter(|n| !n.is_empty()),
            name: Some(telling.object.name.clone()),
            uid: Some(telling.uid.to_owned()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        }),
        ..ApiEvent::default()
    }
}

/// The object and its uid, reason and note.
type Identity = (Kind, ObjectKey, String, String, String);

fn identity(telling: &Telling<'_>) -> Identity {
    (
        telling.of,
        telling.object.clone(),
        telling.uid.to_owned(),
        telling.reason.to_owned(),
        clip(telling.note).to_owned(),
    )
}

/// Recent events: the name of the object, the count, and the time of the last one.
#[derive(Debug, Default)]
struct Series(BTreeMap<Identity, (String, i32, Instant)>);

impl Series {
    /// The event that this one repeats, if any, and this one's number in the series.
    fn next(&self, identity: &Identity, now: Instant) -> Option<(String, i32)> {
        let (name, count, last) = self.0.get(identity)?;
        let lasts = now.saturating_duration_since(*last) < SERIES;
        lasts.then(|| (name.clone(), count.saturating_add(1)))
    }

    fn remember(&mut self, identity: Identity, name: String, count: i32, now: Instant) {
        self.0
            .retain(|_, (_, _, last)| now.saturating_duration_since(*last) < SERIES);
        if self.0.len() >= MANY && !self.0.contains_key(&identity) {
            let oldest = self.0.iter().min_by_key(|(_, (_, _, last))| *last);
            if let Some(oldest) = oldest.map(|(identity, _)| identity.clone()) {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(identity, (name, count, now));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::key;

    fn told(uid: &str, note: &str) -> Identity {
        let service = key("default/web");
        identity(&Telling {
            of: Kind::Service,
            object: &service,
            uid,
            warning: false,
            reason: "nodeAssigned",
            action: "Announce",
            note,
        })
    }

    #[test]
    fn an_event_names_the_service_by_its_uid() {
        let service = key("default/web");
        let telling = Telling {
            of: Kind::Service,
            object: &service,
            uid: "1-2",
            warning: true,
            reason: "AllocationFailed",
            action: "Allocate",
            note: &"é".repeat(1000),
        };
        let who = ("ferrolb-controller", "pod-1");
        let event = describe(&telling, "web.1", who, Timestamp::UNIX_EPOCH);
        let regarding = event.regarding.unwrap();
        assert_eq!(regarding.uid.as_deref(), Some("1-2"));
        assert_eq!(regarding.kind.as_deref(), Some("Service"));
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        assert_eq!(event.reason.as_deref(), Some("AllocationFailed"));
        assert!(event.note.unwrap().len() <= 1024);
    }

    #[test]
    fn an_event_that_comes_again_soon_is_one_of_a_series() {
        let start = Instant::now();
        let mut series = Series::default();
        let web = told("1", "announcing 172.17.255.1");
        assert_eq!(series.next(&web, start), None);
        series.remember(web.clone(), "web.1".into(), 1, start);
        assert_eq!(series.next(&web, start), Some(("web.1".into(), 2)));
        assert_eq!(series.next(&web, start + SERIES), None);
    }

    #[test]
    fn an_event_about_another_address_or_another_service_is_another_event() {
        let now = Instant::now();
        let mut series = Series::default();
        series.remember(told("1", "announcing 172.17.255.1"), "web.1".into(), 1, now);
        assert_eq!(
            series.next(&told("1", "announcing 172.17.255.2"), now),
            None
        );
        assert_eq!(series.next(&told("1", "announcing fd00::1"), now), None);
        assert_eq!(
            series.next(&told("2", "announcing 172.17.255.1"), now),
            None
        );
    }

    #[test]
    fn of_too_many_series_the_oldest_is_forgotten() {
        let start = Instant::now();
        let mut series = Series::default();
        for i in 0..=MANY {
            let now = start + Duration::from_millis(i as u64);
            series.remember(told(&i.to_string(), "so"), "web.1".into(), 1, now);
        }
        assert_eq!(series.0.len(), MANY);
        let now = start + Duration::from_secs(2);
        assert_eq!(series.next(&told("0", "so"), now), None);
        assert!(series.next(&told("1", "so"), now).is_some());
    }
}
