//! The controller of a cluster: writes the addresses of Services to `status.loadBalancer.ingress` and reports them in events.
//!
//! ```text
//! source ──> state ──> allocator ──> diff ──> queue ──> writer
//! ```
//!
//! All parts except the last are pure: [`adopt()`] reads earlier assignments, [`diff()`] says what must be written for one
//! Service, `queue` decides when, `core` connects them. [`run()`] is the main loop; [`api`] is the [`Writer`] that talks to an
//! API server. What nodes found out about addresses comes from their Leases ([`lease`]). The Services themselves are the only persistent state: a controller that starts adopts what their status says. A
//! single controller runs at a time; there is no leader election.

mod adopt;
pub mod api;
mod core;
mod diff;
mod event;
pub mod key;
pub mod lease;
mod queue;
mod run;
#[cfg(test)]
mod tests;
mod writer;

pub use adopt::{adopt, shown};
pub use diff::{Write, diff};
pub use event::{Event, EventKind};
pub use run::run;
pub use writer::Writer;

use std::hash::{BuildHasher, RandomState};

/// A random number for jitter: each hasher of the standard library has a different key.
fn chance() -> u64 {
    RandomState::new().hash_one(0_u8)
}
