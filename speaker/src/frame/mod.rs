//! The frames that say on the LAN which node holds an address. Bytes in, values out and back; no sockets, no decisions.

pub mod arp;

#[cfg(test)]
mod tests;
