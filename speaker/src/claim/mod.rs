//! Who announces which address: claims, their order, and the placing of those that nobody holds (rules 1 to 3, 5 and 6).
//!
//! `rules` compares claims, `table` holds the best one per address, `placer` chooses claimants for orphans, `own` says which
//! addresses this node answers for. Frames and sockets are elsewhere; so is liveness (`member`).

pub(crate) mod own;
pub(crate) mod placer;
pub mod rules;
pub(crate) mod table;

pub use rules::Claim;

#[cfg(test)]
mod tests;
