//! The edge: who writes. The real one is [`super::api::KubeWriter`]; tests have one in memory.

use std::future::Future;

use ferrolb_api::refusal::Refusal;

use super::diff::Write;
use super::event::Event;

/// Writes to an API server.
pub trait Writer: Sync {
    /// Makes a Service show its addresses and their pool. Either all of it is written or nothing.
    fn assign(&self, write: &Write) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Tells an event.
    fn event(&self, event: &Event) -> impl Future<Output = Result<(), Refusal>> + Send;
}
