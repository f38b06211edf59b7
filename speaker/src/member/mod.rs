//! Which nodes are alive: the known nodes, the status of each, and how silence is judged (rules 7, 8, 10 and 15 of the protocol).
//!
//! There is no gossip and no SWIM library. The list of nodes is known (Node objects or a static list), a few neighbours watch
//! each node, and everyone is notified of a death directly. `table` holds the members and merges what others report about them.
//! `watch` judges silence. `eligible` is the list of addresses that a node may announce. `hash` holds the hashes that are the
//! same on all nodes.

pub(crate) mod eligible;
pub(crate) mod hash;
pub(crate) mod table;
pub(crate) mod watch;

pub(crate) use table::MemberView;

#[cfg(test)]
mod tests;
