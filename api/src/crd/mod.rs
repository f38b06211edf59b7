//! The `metallb.io/v1beta1` kinds of layer 2: those that configure it, as users own them, and the one that shows it.

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
