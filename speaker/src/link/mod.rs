//! The network interfaces of this node: which there are, which of them carry an address to the LAN, and the sockets on them.
//!
//! `state` and `choose` are pure; `monitor` feeds the state from the kernel (rtnetlink), `socket` moves ARP frames.

pub mod choose;
pub mod monitor;
pub mod socket;
pub mod state;

#[cfg(test)]
mod tests;

pub use choose::Patterns;
pub use state::{Link, LinkAddress, LinkChange, Links};
