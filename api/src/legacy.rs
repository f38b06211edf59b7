//! The ConfigMap of MetalLB 0.9 (`config` key of `metallb-system/config`), as the equivalent pools and advertisement.

use crate::ObjectKey;
use crate::crd::{IpAddressPool, L2Advertisement};

/// The legacy configuration: its layer 2 pools, each announced from every node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LegacyConfig {
    /// Namespace and name of the ConfigMap.
    pub key: ObjectKey,
    /// Its pools, in order.
    pub pools: Vec<IpAddressPool>,
    /// The advertisement: all layer 2 pools, from all nodes.
    pub advertisement: L2Advertisement,
    /// Names of pools that could not be read. Each keeps its previous definition until it can be read again.
    pub broken: Vec<String>,
}

impl LegacyConfig {
    /// Creates the configuration from its pools.
    pub fn new(key: ObjectKey, pools: Vec<IpAddressPool>, broken: Vec<String>) -> Self {
        let mut config = Self {
            advertisement: L2Advertisement {
                key: key.clone(),
                ..L2Advertisement::default()
            },
            key,
            pools,
            broken,
        };
        config.advertise();
        config
    }

    /// Takes over the currently broken pools from an earlier reading, so that a typo costs no Service its address.
    pub fn inherit(&mut self, earlier: &Self) {
        for name in &self.broken {
            if let Some(pool) = earlier.pools.iter().find(|p| p.key.name == *name)
                && !self.pools.iter().any(|p| p.key.name == *name)
            {
                self.pools.push(pool.clone());
            }
        }
        self.advertise();
    }

    /// Lists the pools by name: an advertisement without names would also match pools of the newer kind. If there are none, the
    /// list holds the empty name, which no pool has.
    fn advertise(&mut self) {
        let names: Vec<String> = self.pools.iter().map(|p| p.key.name.clone()).collect();
        self.advertisement.pools = if names.is_empty() {
            vec![String::new()]
        } else {
            names
        };
    }
}
