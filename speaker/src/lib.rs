//! Which node announces an address, and the frames and packets that say so.

mod apply;
pub mod claim;
pub mod cleanup;
mod desired;
mod diff;
pub mod frame;
mod kernel_ping;
pub mod link;
pub mod machine;
mod member;
pub mod message;
pub mod problem;
pub mod run;
pub mod snapshot;
mod state;
pub mod wire;
