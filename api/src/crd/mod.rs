//! The `metallb.io/v1beta1` kinds that configure layer 2, as users own them.

pub mod advertisement;
pub mod definition;
pub mod pool;
pub mod range;
pub mod selector;

pub use advertisement::L2Advertisement;
pub use pool::{AddressRange, IpAddressPool, ServiceAllocation};
pub use range::RangeError;
pub use selector::LabelSelector;
