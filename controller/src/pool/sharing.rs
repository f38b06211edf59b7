//! When two Services may share an address: MetalLB's `allow-shared-ip`.

use std::collections::BTreeSet;

use ferrolb_api::Labels;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::{Protocol, Service, TrafficPolicy};

/// What determines whether a Service may share an address with another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// `allow-shared-ip`, if not empty.
    pub key: Option<String>,
    /// Ports on the address.
    pub ports: BTreeSet<(Protocol, u16)>,
    /// The selector for externalTrafficPolicy Local, `None` for Cluster. All Services that share an address must have the same
    /// one: a single node announces the address, and with Local it must have an endpoint of each of them.
    pub backend: Option<Labels>,
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

    /// Why these two may not share an address; `None` if they may.
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

    /// A number that changes when the terms do; never 0. It is FNV-1a because it is stored on disk, so it must never depend on
    /// the version of a library.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::new();
        hash.text(self.key.as_deref().unwrap_or_default());
        for (protocol, port) in &self.ports {
            hash.bytes(&[protocol.number()]);
            hash.bytes(&port.to_be_bytes());
        }
        hash.bytes(&[u8::from(self.backend.is_some())]);
        for (k, v) in self.backend.iter().flat_map(Labels::iter) {
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

    /// Hashes a text followed by an end mark that occurs in no text, so that `ab`, `c` differs from `a`, `bc`.
    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
        self.bytes(&[0xff]);
    }
}
