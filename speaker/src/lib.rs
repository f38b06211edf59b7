//! x

pub mod message;
pub mod claim;
pub mod machine;
pub mod member;
