//! The controller of a cluster: Services get their addresses in `status.loadBalancer.ingress`, and an event that says so.
//!
//! ```text
//! source ──> state ──> allocator ──> diff ──> queue ──> writer
//! ```
//!
//! All but the last is pure: [`adopt()`] reads what was given before, [`diff()`] says what must be written for one Service,
//! `queue` when, `core` holds them together. [`run()`] is the loop, [`api`] the one [`Writer`] that talks to an API server.
//! There is no other memory than the Services themselves: a controller that starts takes over what their status says. One
//! controller runs at a time; there is no election.

mod adopt;
pub mod api;
mod core;
mod diff;
mod event;
pub mod key;
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

/// A number by chance, for times that must not coincide: a hasher of the standard library has a key of its own each time.
fn chance() -> u64 {
    RandomState::new().hash_one(0_u8)
}
