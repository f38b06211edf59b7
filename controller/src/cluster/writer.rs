//! The I/O boundary: what writes to an API server. The real one is [`super::api::KubeWriter`]; tests use an in-memory one.

use std::future::Future;

use ferrolb_api::refusal::Refusal;

use super::diff::Write;
use super::event::Event;

/// Writes to an API server.
pub trait Writer: Sync {
    /// Sets a Service's addresses and their pool. All or nothing is written.
    fn assign(&self, write: &Write) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Sends an event.
    fn event(&self, event: &Event) -> impl Future<Output = Result<(), Refusal>> + Send;
}
