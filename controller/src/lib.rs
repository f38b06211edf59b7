//! Which address a Service gets: pools, requests, sharing, ClusterIPs.
//!
//! Decisions are pure: [`state::State`] is what is known, [`desired::desired`] (or [`allocator::Allocator`], step by step)
//! says who gets what. In a cluster [`cluster`] writes it on the Services; without an API server the node makes the members agree on it.
//! Who announces an address, and where its packets go, is decided elsewhere.

pub mod allocator;
pub mod assignment;
pub mod cluster;
pub mod desired;
pub mod pool;
pub mod state;

pub use allocator::Allocator;
pub use assignment::{Assignment, Assignments, overlay};
pub use desired::{Desired, Outcome, desired};
pub use state::{Settings, State};

#[cfg(any(test, feature = "testing"))]
pub mod testing;
