//! When two Services may have one address: MetalLB's `allow-shared-ip`.

use std::collections::{BTreeMap, BTreeSet};

use ferrolb_api::reason::Reason;
use ferrolb_api::view::{Protocol, Service, TrafficPolicy};

/// What decides whether a Service may be beside another on one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// `allow-shared-ip`, where it is not empty.
    pub key: Option<String>,
    /// Ports on the address.
    pub ports: BTreeSet<(Protocol, u16)>,
    /// The selector for externalTrafficPolicy Local, `None` for Cluster. All that share an address must agree on it: one
    /// node announces the address, and with Local it must have an endpoint of each of them.
    pub backend: Option<BTreeMap<String, String>>,
}

impl Terms {
    /// The terms of a Service.
    pub fn of(service: &Service) -> Self {
        Self {
            key: service
                .annotations
                .sharing_key
                .clone()
                .filter(|k| !k.is_empty()),
            ports: service.ports.iter().map(|p| (p.protocol, p.port)).collect(),
            backend: (service.external_policy == TrafficPolicy::Local)
                .then(|| service.selector.clone()),
        }
    }

    /// Why these two may not share an address; `None` where they may.
    pub fn clash(&self, other: &Self) -> Option<Reason> {
        if self.key.is_none() || self.key != other.key {
            Some(Reason::AddressInUse)
        } else if self.backend != other.backend {
            Some(Reason::SharingMismatch)
        } else if !self.ports.is_disjoint(&other.ports) {
            Some(Reason::PortClash)
        } else {
            None
        }
    }

    /// A number that changes when the terms do; never 0. FNV-1a, because it is kept on disk and so must never depend on
    /// the version of a library.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::new();
        hash.text(self.key.as_deref().unwrap_or_default());
        for (protocol, port) in &self.ports {
            hash.bytes(&[protocol.number()]);
            hash.bytes(&port.to_be_bytes());
        }
        hash.bytes(&[u8::from(self.backend.is_some())]);
        for (k, v) in self.backend.iter().flatten() {
            hash.text(k);
            hash.text(v);
        }
        hash.0.max(1)
    }
}

struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// A text with an end mark that no text has, so that `ab`, `c` is not `a`, `bc`.
    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
        self.bytes(&[0xff]);
    }
}
