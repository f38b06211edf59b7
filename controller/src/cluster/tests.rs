//! The controller against an API server in memory: the loop with Tokio's clock, the pure part with any history.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod failures;
mod histories;
mod life;
mod world;
