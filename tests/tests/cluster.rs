//! The cluster tier: a real control plane, and what is made from its objects. Natively on any Linux with root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "cluster/plane.rs"]
mod plane;
