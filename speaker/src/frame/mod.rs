//! The frames that announce on the LAN which node holds an address. Encodes and decodes only: no sockets, no decisions.

pub mod arp;

#[cfg(test)]
mod tests;
