//! Where changes come from: a folder of YAML ([`files`]) or a cluster's API ([`cluster`]), and the decoding of both.
//!
//! The contract includes a barrier: the first [`Batch`] of a source is complete. A source with several parts (watches, files)
//! delivers nothing until each part has delivered its first full list, so that a consumer never sees Services before their
//! endpoints and treats them as empty. A relist is delivered as the difference from what was known.

use std::future::Future;

use ferrolb_api::change::Batch;

pub mod cluster;
pub mod decode;
pub mod files;
pub mod memory;
pub mod proxy_config;
pub mod synth;
pub mod yaml;

/// A source of changes.
pub trait Source: Send {
    /// The next batch; the first is the complete state of the source. `None` when the source has ended for good.
    fn next(&mut self) -> impl Future<Output = Option<Batch>> + Send;

    /// What the first batch is still waiting for, one sentence each.
    fn waits_for(&self) -> Vec<String> {
        Vec::new()
    }
}
