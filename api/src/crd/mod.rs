//! The layer 2 kinds of `metallb.io/v1beta1`: those with which users configure it, and the one that shows its status.

pub mod advertisement;
pub mod definition;
pub mod l2_status;
pub mod pool;
pub mod range;
pub mod selector;

pub use advertisement::L2Advertisement;
pub use pool::{AddressRange, IpAddressPool, ServiceAllocation};
pub use range::RangeError;
pub use selector::LabelSelector;
