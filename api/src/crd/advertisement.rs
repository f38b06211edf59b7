//! L2Advertisement v1beta1: which pools are announced, from which nodes and interfaces.

use crate::ObjectKey;
use crate::crd::LabelSelector;

/// An L2Advertisement. Lists of selectors are ORed; an empty list restricts nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct L2Advertisement {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Pools by name; empty together with `pool_selectors`: all pools.
    pub pools: Vec<String>,
    /// Pools by label.
    pub pool_selectors: Vec<LabelSelector>,
    /// Nodes that may announce; empty: all.
    pub node_selectors: Vec<LabelSelector>,
    /// Interfaces to announce on; empty: all.
    pub interfaces: Vec<String>,
    /// Services by label; empty: all.
    pub service_selectors: Vec<LabelSelector>,
}
