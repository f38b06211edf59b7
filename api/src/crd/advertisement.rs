//! L2Advertisement v1beta1: which pools are announced, and from which nodes and interfaces.

use crate::ObjectKey;
use crate::crd::LabelSelector;

/// An L2Advertisement. Lists of selectors are ORed; an empty list restricts nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct L2Advertisement {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Pools by name. If this and `pool_selectors` are both empty, all pools.
    pub pools: Vec<String>,
    /// Pools by label.
    pub pool_selectors: Vec<LabelSelector>,
    /// Nodes that may announce; if empty, all nodes.
    pub node_selectors: Vec<LabelSelector>,
    /// Interfaces to announce on; if empty, all interfaces.
    pub interfaces: Vec<String>,
    /// Services by label; if empty, all Services.
    pub service_selectors: Vec<LabelSelector>,
}
