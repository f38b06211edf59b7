//! The messages, and members on a simulated network with faults.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lies;
mod messages;
mod simulation;
mod world;
