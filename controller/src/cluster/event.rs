//! Events about Services and pools, those about Services in MetalLB's wording, and their rate limit. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ferrolb_api::ObjectKey;
use ferrolb_api::object::Kind;
use ferrolb_api::problem::Problem;
use ferrolb_api::view::Service;

use super::diff::Write;
use crate::desired::Outcome;

/// The API server refuses notes of more than 1024 bytes.
const LONGEST: usize = 1000;
/// Events about one Service that may come in a row.
const BURST: u32 = 10;
/// After this time, one more event is allowed.
const REFILL: Duration = Duration::from_secs(60);
/// The number of counters that are kept; above it, those that have recovered are dropped.
const MANY: usize = 1024;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The Service's addresses changed.
    Allocated,
    /// Its request cannot be met.
    Failed,
    /// Its addresses were removed.
    Cleared,
    /// A pool is not used, or not all of it.
    Pool,
}

impl EventKind {
    /// The event's reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Allocated => "IPAllocated",
            Self::Failed => "AllocationFailed",
            Self::Cleared => "ClearAssignment",
            Self::Pool => "InvalidPool",
        }
    }

    /// The event's action.
    pub fn action(self) -> &'static str {
        match self {
            Self::Allocated | Self::Failed => "Allocate",
            Self::Cleared => "Clear",
            Self::Pool => "Configure",
        }
    }

    /// The event's type: `Warning`, else `Normal`.
    pub fn is_warning(self) -> bool {
        matches!(self, Self::Failed | Self::Pool)
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The kind of the object that it is about: a Service, an IPAddressPool, or the ConfigMap of MetalLB 0.9.
    pub of: Kind,
    /// Which object.
    pub object: ObjectKey,
    /// Its `metadata.uid`, by which `kubectl describe` finds the event; empty if it is not known.
    pub uid: String,
    /// What happened.
    pub kind: EventKind,
    /// One sentence.
    pub note: String,
}

impl Event {
    /// The event for a completed write, if it is worth one.
    pub(super) fn written(write: &Write, outcome: Option<&Outcome>) -> Option<Self> {
        let (kind, note) = if write.addresses.is_empty() {
            let why = outcome.map(|o| o.message.as_str());
            (
                EventKind::Cleared,
                why.unwrap_or("has no address").to_owned(),
            )
        } else if write.addresses != write.before {
            let texts: Vec<String> = write.addresses.iter().map(ToString::to_string).collect();
            (EventKind::Allocated, format!("Assigned IP {texts:?}"))
        } else {
            return None;
        };
        Some(Self::new(&write.key, &write.uid, kind, &note))
    }

    /// The event for a Service whose request cannot be met.
    pub(super) fn failed(service: &Service, outcome: &Outcome) -> Self {
        let field = match outcome.field {
            "" => String::new(),
            field => format!("{field}: "),
        };
        let note = format!("{}: {field}{}", outcome.reason, outcome.message);
        Self::new(&service.key, &service.uid, EventKind::Failed, &note)
    }

    /// The event for a problem with a pool; `None` for other problems.
    pub(super) fn of_pool(problem: &Problem) -> Option<Self> {
        let (of, object) = problem.subject.object()?;
        let pool = matches!(of, Kind::IpAddressPool | Kind::LegacyConfig);
        let note = match problem.field.as_str() {
            "" => problem.message(),
            field => format!("{field}: {}", problem.message()),
        };
        pool.then(|| Self {
            of,
            ..Self::new(object, "", EventKind::Pool, &note)
        })
    }

    fn new(service: &ObjectKey, uid: &str, kind: EventKind, note: &str) -> Self {
        Self {
            of: Kind::Service,
            object: service.clone(),
            uid: uid.to_owned(),
            kind,
            note: clip(note).to_owned(),
        }
    }
}

/// Cuts a note to the API server's limit.
pub(super) fn clip(note: &str) -> &str {
    &note[..note.floor_char_boundary(LONGEST)]
}

/// Counts recent events by Service.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    left: BTreeMap<ObjectKey, (u32, Instant)>,
}

impl Limiter {
    /// Whether another event is allowed now.
    pub(super) fn allow(&mut self, key: &ObjectKey, now: Instant) -> bool {
        let full = |at: Instant| now.saturating_duration_since(at) > REFILL * BURST;
        if self.left.len() >= MANY {
            self.left.retain(|_, (_, at)| !full(*at));
        }
        let (left, since) = self.left.entry(key.clone()).or_insert((BURST, now));
        let elapsed = now.saturating_duration_since(*since).as_secs() / REFILL.as_secs();
        let more = u32::try_from(elapsed).unwrap_or(u32::MAX);
        if more > 0 {
            *left = left.saturating_add(more).min(BURST);
            *since = now;
        }
        if *left == 0 {
            return false;
        }
        *left -= 1;
        true
    }
}
