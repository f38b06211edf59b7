//! One node: it runs a source, the authority over addresses, the proxy and the speaker side by side, and reports on all of them.
//!
//! Which addresses a Service has is decided by a cluster's API ([`observed`]) or by the members among themselves (`standalone`,
//! [`agreement`], [`store`]). The proxy decides where the packets go, and the speaker decides which node announces an address.
//! The proxy and the speaker do not know each other; this crate connects them.

pub mod agreement;
mod answers;
pub mod authority;
pub mod config;
pub mod error;
mod found;
mod given;
mod health;
mod http;
mod identity;
mod key_file;
pub mod lock;
pub mod membership;
mod metrics;
pub mod observed;
mod parts;
pub mod publish;
pub mod report;
mod run;
mod socket;
mod standalone;
mod start;
pub mod store;
mod thread;
mod waiting;

pub use config::{Config, ProxyMode};
pub use error::Error;
pub use ferrolb_proxy::config::ExternalIps;
pub use start::run;
