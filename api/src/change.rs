//! What a source says and what every daemon takes in: objects that are new, changed or gone.

use crate::ObjectKey;
use crate::object::{Kind, Object};
use crate::problem::Problem;

/// One step: an object is new or changed, or it is gone.
// A change lives from its source to the state that takes it in: a box would be one allocation for each, for nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// New or changed.
    Upsert(Object),
    /// Gone.
    Remove(Kind, ObjectKey),
}

impl Change {
    /// Its place in a batch: nodes and configuration before endpoints, endpoints before their Services; removals last and the
    /// other way round.
    pub fn rank(&self) -> (bool, u8) {
        let rank = |kind: Kind| match kind {
            Kind::ProxyConfig => 0,
            Kind::Node => 1,
            Kind::IpAddressPool | Kind::LegacyConfig => 2,
            Kind::L2Advertisement => 3,
            Kind::Pod => 4,
            Kind::EndpointSlice => 5,
            Kind::Service => 6,
        };
        match self {
            Self::Upsert(object) => (false, rank(object.kind())),
            Self::Remove(kind, _) => (true, u8::MAX - rank(*kind)),
        }
    }
}

/// Changes that take effect together; unchanged objects are never in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// In an order in which they can be applied one by one.
    pub changes: Vec<Change>,
    /// All problems with the input that stand now, when they changed; the objects that they concern keep their last good state.
    pub problems: Option<Vec<Problem>>,
    /// Where objects stand (`pools.yaml:12`), of those that are new or stand elsewhere now: for messages about them.
    pub origins: Vec<((Kind, ObjectKey), String)>,
}
