//! Who lives: the known nodes, what each is taken for, and how silence is judged (rules 7, 8, 10 and 15 of the protocol).
//!
//! There is no gossip and no SWIM library: the list of nodes is known (Node objects or a static list), a few neighbours
//! watch each node, and deaths are told to everyone directly. `table` holds the members and merges what others say of them,
//! `watch` judges silence, `eligible` is the list of addresses that a node may announce, `hash` is what all nodes compute alike.

pub(crate) mod eligible;
pub(crate) mod hash;
pub(crate) mod table;
pub(crate) mod watch;

pub(crate) use table::MemberView;

#[cfg(test)]
mod tests;
