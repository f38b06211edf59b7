//! The controller against an in-memory API server: the main loop with Tokio's clock, the pure part with arbitrary histories.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod failures;
mod histories;
mod life;
mod world;
