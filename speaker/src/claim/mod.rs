//! Which node announces which address: claims, their order, and the placing of addresses that nobody holds (rules 1 to 3, 5 and
//! 6).
//!
//! `rules` compares claims, `table` holds the best one per address, `placer` chooses claimants for orphans, and `own` knows which
//! addresses this node answers for. Frames, sockets and liveness (`member`) are elsewhere.

pub(crate) mod own;
pub(crate) mod placer;
pub mod rules;
pub(crate) mod table;

pub use rules::Claim;

#[cfg(test)]
mod tests;
