//! Where a packet to a service address goes: IPVS virtual servers, one nftables table, the addresses on `kube-ipvs0`, sysctls.
//!
//! What should be in the kernel is decided in [`desired`] from [`state`], compared in [`diff`], and put there by [`apply`] through
//! the trait [`kernel::Kernel`]. Nothing here knows about announcing or allocation.

pub mod apply;
pub mod config;
pub mod desired;
pub mod diff;
pub mod kernel;
pub mod run;
pub mod snapshot;
pub mod state;
pub mod surroundings;

#[cfg(test)]
mod testing;
