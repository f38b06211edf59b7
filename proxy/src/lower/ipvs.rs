//! Virtual and real servers, as values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use ferrolb_api::scheduler::Scheduler;

use crate::kernel::{Family, Forwarding, RealServer, VirtualServer, VirtualServerId};
use crate::plan::{FrontKey, Way};

/// `IP_VS_SVC_F_SCHED1` of `linux/ip_vs.h`: the fallback flag for `sh` and `mh`. Without it, a client whose server has weight 0
/// is refused.
const FALLBACK: u32 = 0x0008;
/// `IP_VS_SVC_F_SCHED2` of `linux/ip_vs.h`: `sh` and `mh` hash the client's port too.
const BY_PORT: u32 = 0x0010;
/// For clients that stay with one endpoint.
const SOURCE_HASH: Scheduler = Scheduler {
    name: "sh",
    by_port: false,
};

/// Virtual servers with their real servers.
pub type Servers = BTreeMap<VirtualServerId, Wanted>;

/// Real servers, by address.
pub type Reals = BTreeMap<SocketAddr, RealServer>;

/// What the kernel should hold for one virtual server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The virtual server.
    pub server: VirtualServer,
    /// Its real servers.
    pub reals: Reals,
    /// Endpoints that exist, but that the traffic policy does not use. A real server for one of them stays with weight 0 if the
    /// kernel has it, so that its connections outlive a change of the policy. It is never created. All fronts of a port share it.
    pub stay: Arc<BTreeSet<SocketAddr>>,
}

impl Wanted {
    /// Whether the kernel holds this.
    pub fn is(&self, (server, held): &(VirtualServer, Reals)) -> bool {
        let mut rest = held.values().filter(|real| !self.stays(real));
        *server == self.server
            && self.reals.values().all(|real| rest.next() == Some(real))
            && rest.next().is_none()
    }

    /// Whether a real server is kept only for its connections.
    pub fn stays(&self, held: &RealServer) -> bool {
        held.weight == 0 && self.stay.contains(&held.addr)
    }
}

/// Identity of the server on an address, port and protocol.
pub fn address_id((addr, port, protocol): FrontKey) -> VirtualServerId {
    VirtualServerId::Address {
        addr,
        port,
        protocol,
    }
}

/// The server on an address.
pub fn ordinary(key: FrontKey, scheduler: Scheduler, persistence: Option<u32>) -> VirtualServer {
    VirtualServer {
        id: address_id(key),
        scheduler: scheduler.name.to_owned(),
        sched_flags: flags(scheduler),
        persistence,
    }
}

/// The server behind a firewall mark. A persistent one would not translate ports (measured on Linux 6.1), so affinity uses source
/// hashing instead.
pub fn marked(mark: u32, family: Family, scheduler: Scheduler, affinity: bool) -> VirtualServer {
    let scheduler = if affinity { SOURCE_HASH } else { scheduler };
    VirtualServer {
        id: VirtualServerId::Fwmark { mark, family },
        scheduler: scheduler.name.to_owned(),
        sched_flags: flags(scheduler),
        persistence: None,
    }
}

/// The server with another scheduler.
pub fn with(server: VirtualServer, scheduler: Scheduler) -> VirtualServer {
    VirtualServer {
        scheduler: scheduler.name.to_owned(),
        sched_flags: flags(scheduler),
        ..server
    }
}

/// A real server.
pub fn real(addr: SocketAddr, weight: u32, way: Way) -> RealServer {
    RealServer {
        addr,
        weight,
        forwarding: match way {
            Way::Translate => Forwarding::Masq,
        },
    }
}

fn flags(scheduler: Scheduler) -> u32 {
    match (scheduler.hashes(), scheduler.by_port) {
        (false, _) => 0,
        (true, false) => FALLBACK,
        (true, true) => FALLBACK | BY_PORT,
    }
}
