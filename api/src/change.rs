//! What a source delivers and every daemon consumes: objects that are new, changed or deleted.

use std::sync::Arc;

use crate::ObjectKey;
use crate::object::{Kind, Object};
use crate::problem::Problem;

/// One step: an object is new or changed, or it is deleted.
// Changes are short-lived, so boxing the large variant would only add an allocation to each.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// New or changed.
    Upsert(Object),
    /// Deleted.
    Remove(Kind, ObjectKey),
}

impl Change {
    /// The position in a batch: nodes and configuration before endpoints, endpoints before their Services. Removals come last, in
    /// the reverse order.
    pub fn rank(&self) -> (bool, u8) {
        let rank = |kind: Kind| match kind {
            Kind::ProxyConfig => 0,
            Kind::Node | Kind::Namespace | Kind::ServiceCidr => 1,
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

/// Changes that take effect together. Unchanged objects are never included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// The changes, in an order in which they can be applied one by one.
    pub changes: Vec<Change>,
    /// If the set of problems changed: all current problems with the input. The objects concerned keep their last good state.
    pub problems: Option<Vec<Problem>>,
    /// Where objects are defined (`pools.yaml:12`), for messages. Lists only objects that are new or have moved.
    pub origins: Vec<((Kind, ObjectKey), Arc<str>)>,
}
