//! The edge: who writes. The real one is [`super::api::KubeWriter`]; tests have one in memory.

use std::future::Future;

use super::diff::Write;
use super::event::Event;

/// Why something could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The object is gone, was made anew or changed meanwhile: what the watch says next decides.
    #[error("it changed meanwhile ({0})")]
    Stale(String),
    /// The API server refuses, in one sentence with what to do.
    #[error("{0}")]
    Refused(String),
    /// There is no answer, or one that promises none soon.
    #[error("the API server does not answer ({0})")]
    Unreachable(String),
}

/// Writes to an API server.
pub trait Writer: Sync {
    /// Makes a Service show its addresses and their pool. Either all of it is written or nothing.
    fn assign(&self, write: &Write) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Tells an event.
    fn event(&self, event: &Event) -> impl Future<Output = Result<(), WriteError>> + Send;
}
