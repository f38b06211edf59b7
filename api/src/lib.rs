//! What Kubernetes says, in ferrolb's words: the kinds, the slim views of them that the daemons use, who may use which
//! endpoint, the vocabulary of reasons, and the sources that changes come from.
//!
//! Nothing here decides on an address, a node or a packet.

pub mod annotations;
pub mod cluster;
pub mod crd;
pub mod decode;
pub mod endpoints;
pub mod family;
pub mod key;
pub mod legacy;
pub mod object;
pub mod proxy_config;
pub mod reason;
pub mod source;
pub mod traffic;
pub mod view;
pub mod yaml;

pub use family::Family;
pub use key::ObjectKey;
