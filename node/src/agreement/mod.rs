//! How the members agree on one table of assignments without an API server.
//!
//! Nodes see copies of the manifests at different times, so they must not compute assignments independently. The elected member
//! allocates, the others store what it proposes, and a table takes effect once more than half of the *known* nodes hold it on
//! disk. The network, the disk and the clock stay outside: [`machine::Machine::step`] takes events and returns actions.
//!
//! # Why it is safe
//!
//! This is Paxos on one register whose value evolves, in the form that Raft gave it (one leader per ballot).
//!
//! - A *ballot* is (round, proposer, boot). No two proposers ever use the same ballot, nor does one proposer after a restart. A
//!   *version* is (ballot, number within it) and identifies one table: two tables with the same version are equal.
//! - Before it proposes under ballot b, the elected member collects *promises* of b from more than half of the known nodes. A
//!   node that has promised b accepts nothing new of a lower ballot. The elected member takes the newest table that any of them
//!   holds, and the allocator continues from it ([`machine::Action::Lead`]).
//! - A table is *agreed* when more than half of the known nodes hold exactly this table. Two majorities have a node in common, so
//!   the proposer of any later ballot finds this table, or one derived from it. So what is agreed is never lost. It changes only
//!   where the allocator, which starts from it, changes it.
//! - Promises and tables are on disk before they are sent ([`machine::Action::Persist`], [`machine::Event::Persisted`]).
//! - Election matters only for progress: members promise to and accept from the member that they consider elected. Two that both
//!   consider themselves elected can delay each other, but cannot break safety.
//!
//! # Who leads
//!
//! The elected allocator leads, unless it cannot write to its disk (it reports this in each [`message::Status`]) or named a round
//! that no honest member can have reached ([`leap`]). Then the next live member by name leads until the elected one can write
//! again. If there is no better candidate, the elected member leads anyway.
//!
//! # What is not guaranteed
//!
//! A node that loses its state directory forgets its promises. If more than half of the nodes lose theirs, agreed tables can be
//! lost. Half of the known nodes must not be replaced at once while nodes are down.
//!
//! Members trust each other's statements about tables. A member that has the key and lies can put a wrong table into force. It
//! cannot stop allocation with a single message: leaps of rounds are refused and reported, the leader exceeds only rounds whose
//! promises it needs, and a member that does not deliver the table that it claims to have is not asked again for a while.
//!
//! # On the wire
//!
//! The protocol is driven by one small message, [`message::Status`], which is sent on every change and every 500 ms: what a node
//! promised, what it holds, what it knows to be agreed. It serves as request, acknowledgement and digest. A node that sees
//! something newer fetches it in parts, and asks again for missing parts. Messages are authenticated (by the speaker's seal), but
//! may be lost, late or duplicated.

pub mod fetch;
pub mod leap;
pub mod machine;
pub mod message;
pub mod table;

#[cfg(test)]
mod tests;
