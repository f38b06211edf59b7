//! Decides which address a Service gets: pools, requests, sharing, ClusterIPs.
//!
//! Decisions are pure: [`state::State`] is what is known; [`desired::desired`] (or [`allocator::Allocator`], incrementally)
//! computes the assignments. In a cluster, [`cluster`] writes them to the Services. Without an API server, the node makes the
//! members agree on them. This crate does not decide which node announces an address, or where its packets go.

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
