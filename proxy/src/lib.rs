//! Where a packet to a service address goes: IPVS virtual servers, one nftables table, the addresses on `kube-ipvs0`, sysctls.
//!
//! What is to become of each Service is decided in [`plan`] from [`state`], put into the kernel's words in [`lower`], compared in
//! [`diff`], and put into the kernel by [`apply`] through the trait [`kernel::Kernel`]. Nothing here knows about announcing or
//! allocation.

pub mod apply;
pub mod config;
pub mod desired;
pub mod diff;
pub mod kernel;
pub mod lower;
pub mod plan;
pub mod run;
pub mod snapshot;
pub mod state;
pub mod surroundings;

#[cfg(test)]
mod testing;
