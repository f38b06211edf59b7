//! Which Service is asked about at which port. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ferrolb_api::ObjectKey;

/// What is asked about a Service, and how it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Health {
    /// `spec.healthCheckNodePort`.
    pub(crate) port: u16,
    /// How many endpoints on this node take new connections.
    pub(crate) local: usize,
    /// Everything of it is in the kernel.
    pub(crate) programmed: bool,
}

/// All Services that are asked about.
#[derive(Debug, Default)]
pub(super) struct Board {
    services: BTreeMap<ObjectKey, Health>,
    ports: BTreeMap<u16, BTreeSet<ObjectKey>>,
}

impl Board {
    /// Takes in what is asked about a Service. Returns the ports whose answers may be other ones now.
    pub(super) fn update(&mut self, key: &ObjectKey, health: Option<Health>) -> BTreeSet<u16> {
        let before = match health {
            Some(health) => self.services.insert(key.clone(), health),
            None => self.services.remove(key),
        };
        if before == health {
            return BTreeSet::new();
        }
        if let Some(before) = before
            && let Some(keys) = self.ports.get_mut(&before.port)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.ports.remove(&before.port);
            }
        }
        if let Some(now) = health {
            self.ports.entry(now.port).or_default().insert(key.clone());
        }
        before.into_iter().chain(health).map(|h| h.port).collect()
    }

    /// The Service that is asked about at a port, and how it is. Of several, the first by name.
    pub(super) fn answer(&self, port: u16) -> Option<(&ObjectKey, Health)> {
        let key = self.ports.get(&port)?.first()?;
        Some((key, *self.services.get(key)?))
    }

    /// The Services whose port another one has, with that one.
    pub(super) fn second(&self) -> impl Iterator<Item = (&ObjectKey, u16, &ObjectKey)> {
        let shared = self.ports.iter().filter(|(_, keys)| keys.len() > 1);
        shared.flat_map(|(port, keys)| {
            let first = keys.first();
            let others = keys.iter().skip(1);
            others.filter_map(move |key| Some((key, *port, first?)))
        })
    }
}
