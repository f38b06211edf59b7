//! The ConfigMap of MetalLB 0.9 (`config` key of `metallb-system/config`), as the pools and the advertisement that it means.

use crate::ObjectKey;
use crate::crd::{IpAddressPool, L2Advertisement};

/// The legacy configuration: its layer 2 pools, each announced everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LegacyConfig {
    /// Namespace and name of the ConfigMap.
    pub key: ObjectKey,
    /// Its pools, in order.
    pub pools: Vec<IpAddressPool>,
    /// What announces them: all layer 2 pools from all nodes.
    pub advertisement: L2Advertisement,
    /// Pools that could not be read, by name: what they were before stays until it is read again.
    pub broken: Vec<String>,
}

impl LegacyConfig {
    /// The configuration that these pools make up.
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

    /// Takes over from an earlier reading the pools that are broken now, so that a typo costs nobody an address.
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

    /// Names the pools one by one: an advertisement without names would take in those of the newer kinds too. The empty
    /// name, which no pool has, stands for none.
    fn advertise(&mut self) {
        let names: Vec<String> = self.pools.iter().map(|p| p.key.name.clone()).collect();
        self.advertisement.pools = if names.is_empty() {
            vec![String::new()]
        } else {
            names
        };
    }
}
