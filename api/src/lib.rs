//! The data model that all crates share: the Kubernetes kinds, the slim views of them that the daemons use, the choice of
//! endpoints, the ownership of addresses, the vocabulary of reasons, and the changes that a source delivers.
//!
//! Nothing here chooses an address or a node, or programs the kernel.

pub mod address;
pub mod annotations;
pub mod backoff;
pub mod change;
pub mod crd;
pub mod delta;
pub mod endpoints;
pub mod family;
pub mod key;
pub mod labels;
pub mod legacy;
pub mod near;
pub mod object;
pub mod ownership;
pub mod problem;
pub mod proxy_config;
pub mod quote;
pub mod reason;
pub mod refusal;
pub mod scheduler;
pub mod traffic;
pub mod view;

pub use backoff::Backoff;
pub use family::Family;
pub use key::ObjectKey;
pub use labels::Labels;
