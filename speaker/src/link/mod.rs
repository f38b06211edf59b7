//! The network interfaces of this node: which exist, which of them announce an address, and the sockets on them.
//!
//! `state` and `choose` are pure. `monitor` feeds the state from the kernel (rtnetlink), and `socket` sends and receives ARP
//! frames.

pub mod choose;
pub mod monitor;
pub mod socket;
pub mod state;

#[cfg(test)]
mod tests;

pub use choose::Patterns;
pub use state::{Link, LinkAddress, LinkChange, Links};
