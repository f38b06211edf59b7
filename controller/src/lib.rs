//! Which address a Service gets: pools, requests, sharing, ClusterIPs, and the agreement on all of that among members.
//!
//! Decisions are pure: [`state::State`] is what is known, [`desired::desired`] (or [`allocator::Allocator`], step by step)
//! says who gets what. Without an API server [`agreement::machine::Machine`] makes the members agree on it, and [`store`] keeps
//! it; in a cluster [`cluster`] writes it on the Services.
//! Who announces an address, and where its packets go, is decided elsewhere.

pub mod agreement;
pub mod allocator;
pub mod assignment;
pub mod cluster;
pub mod desired;
pub mod pool;
pub mod state;
pub mod store;

pub use allocator::Allocator;
pub use assignment::{Assignment, Assignments, overlay};
pub use desired::{Desired, Outcome, desired};
pub use state::{Settings, State};

#[cfg(test)]
mod testing;
