//! One node: a source, the authority over addresses, the proxy and the speaker side by side, and the report about all of them.
//!
//! Which address a Service has is decided by a cluster's API ([`observed`]) or by the members among themselves
//! (`standalone`, [`agreement`], [`store`]). Where its packets go and who announces it is decided by the proxy and the speaker;
//! they do not know each other, and this crate connects them.

pub mod agreement;
mod answers;
mod api_server;
pub mod authority;
pub mod config;
pub mod error;
mod given;
mod identity;
pub mod lock;
pub mod membership;
pub mod observed;
mod parts;
mod publish;
pub mod report;
mod run;
mod socket;
mod standalone;
mod start;
pub mod store;
mod thread;

pub use config::{Config, ProxyMode};
pub use error::Error;
pub use ferrolb_proxy::config::ExternalIps;
pub use start::run;
