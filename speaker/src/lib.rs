//! Decides which node announces an address, and sends the frames and packets that announce it.

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
pub mod timers;
pub mod wire;
