//! How the members agree on one table of assignments, without an API server.
//!
//! Nodes see copies of the manifests at different times, so they must not each compute assignments: the elected member
//! allocates, the others store what it proposes, and a table is in force once more than half of the *known* nodes hold it
//! on disk. The network, the disk and the clock stay outside: [`machine::Machine::step`] takes events and returns actions.
//!
//! # Why it is safe
//!
//! This is Paxos on one register whose value evolves, in the shape that Raft gave it (a leader per ballot).
//!
//! - A *ballot* is (round, proposer, boot); no two proposers, nor two lives of one, ever use the same. A *version* is
//!   (ballot, number in it), so a version names one table: two tables of one version are equal.
//! - Before it proposes under ballot b, the elected member hears from more than half of the known nodes that they *promised*
//!   b: from then on they hold nothing new of a lower ballot. It takes the newest table that any of them holds and lets the
//!   allocator go on from that one ([`machine::Action::Lead`]).
//! - A table is *agreed* when more than half hold exactly it. Two majorities have a node in common, so the proposer of any
//!   later ballot finds it, or one that came from it: what is agreed is never lost, and changes only where the
//!   allocator, having it before its eyes, changes it.
//! - Promises and tables are on disk before they are said ([`machine::Action::Persist`], [`machine::Event::Persisted`]).
//! - Who is elected matters for progress only: members promise to and accept from the member that they take for elected,
//!   and two that both take themselves for it hold each other up, no more.
//!
//! # Who leads
//!
//! The elected allocator, unless it cannot write to its disk (it says so in each [`message::Status`]) or named a round that no
//! honest member can have reached ([`leap`]). Then the next live member by name leads, until the elected one can write again. If there
//! is no better one, the elected member leads all the same.
//!
//! # What it does not promise
//!
//! A node that loses its state directory forgets its promises; where more than half lose theirs, agreed tables can be
//! lost with them. The known nodes must not change by half at once while nodes are down.
//!
//! Members believe what another one says about tables. A member that has the key and lies about them can put a wrong table in force. It
//! cannot end allocation with one message: rounds that leap are refused and named, the member that leads climbs only
//! over promises that it needs, and whoever does not give the table that it says it has is not asked again for a while.
//!
//! # On the wire
//!
//! Everything follows from one small message that is sent on change and every 500 ms, [`message::Status`]: what a node promised, what it holds,
//! what it knows to be agreed. It is request, acknowledgement and digest in one; who sees something newer fetches it in
//! parts, and who misses a part asks for it again. Messages arrive authenticated (the speaker's seal), lost, late or twice.

pub mod fetch;
pub mod leap;
pub mod machine;
pub mod message;
pub mod table;

#[cfg(test)]
mod tests;
