//! The kernel tier: real IPVS and nftables, real traffic. Run it through `lab run` (the Makefile does), which boots a VM where this kernel has no IPVS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "kernel/rows.rs"]
mod rows;
