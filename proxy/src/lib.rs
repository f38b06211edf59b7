//! Where a packet to a service address goes: IPVS virtual servers, one nftables table, the addresses on `kube-ipvs0`, sysctls.
//!
//! [`plan`] decides from [`state`] how each Service is treated. [`lower`] translates the plan into the terms of the kernel,
//! [`diff`] compares, and [`apply`] changes the kernel through the trait [`kernel::Kernel`]. Nothing here knows about announcing
//! or allocation.

pub mod apply;
pub mod config;
pub mod desired;
pub mod diff;
pub mod kernel;
pub mod lower;
pub mod meter;
pub mod plan;
pub mod run;
pub mod snapshot;
pub mod state;
pub mod surroundings;

#[cfg(test)]
mod testing;
