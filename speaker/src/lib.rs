//! Which node announces an address, and the frames and packets that say so.

pub mod apply;
pub mod claim;
pub mod desired;
pub mod diff;
pub mod frame;
pub mod kernel_ping;
pub mod link;
pub mod machine;
pub mod member;
pub mod message;
pub mod run;
pub mod snapshot;
pub mod state;
pub mod wire;
