//! What a traffic policy makes of the endpoints of a port: which real servers, which class, which masquerade class.
//!
//! The layout is the one that keeps affinity and port translation working for clients: under externalTrafficPolicy Local the
//! server on the address holds the endpoints of this node, and the pods and the node itself are marked on their way to a
//! second server that holds all (kube-proxy's nftables backend draws the same line).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ferrolb_api::reason::Reason;
use ferrolb_api::traffic::{Selection, reachable, refusal};
use ferrolb_api::view::{Protocol, Service, TrafficPolicy};

use super::ipvs;
use crate::kernel::rule::Verdict;
use crate::kernel::table::class;
use crate::kernel::{Family, RealServer};

/// What kind of address a virtual server stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Within the cluster.
    ClusterIp,
    /// An external address that the user routes here.
    External,
    /// An address of a load balancer; the only one that source ranges apply to.
    LoadBalancer,
    /// A port of a node's own address.
    NodePort,
}

impl Reach {
    /// The policy that holds for it.
    pub fn policy(self, service: &Service) -> TrafficPolicy {
        match self {
            Self::ClusterIp => service.internal_policy,
            _ => service.external_policy,
        }
    }

    /// Whether pods and the node take the server behind the mark.
    pub fn is_marked(self, service: &Service) -> bool {
        self != Self::ClusterIp && service.external_policy == TrafficPolicy::Local
    }
}

/// What happens to new connections to one virtual server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Treatment {
    /// Class of the key.
    pub class: Verdict,
    /// Masquerade class of the key.
    pub masquerade: &'static str,
    /// Why they are refused or dropped, for clients from outside of the node under a Local policy.
    pub refused: Option<Reason>,
}

/// Decides on one virtual server.
pub fn treat(
    reach: Reach,
    service: &Service,
    selection: &Selection<'_>,
    family: Family,
    masquerade_all: bool,
) -> Treatment {
    let refused = refusal(selection, reach.policy(service));
    let marked = reach.is_marked(service);
    let class = match (refused, marked) {
        (None, false) => Verdict::Accept,
        (None, true) => Verdict::Goto(class::int_mark(family)),
        (Some(Reason::NoLocalEndpoint), false) => Verdict::Goto(class::DROP),
        (Some(Reason::NoLocalEndpoint), true) => Verdict::Goto(class::int_only(family)),
        (Some(_), _) => Verdict::Goto(class::REJECT),
    };
    let masquerade = match reach {
        Reach::ClusterIp if masquerade_all => class::masq_all(family),
        Reach::ClusterIp => class::masq_off(family),
        _ if marked => class::masq_node(family),
        _ => class::masq_all(family),
    };
    Treatment {
        class,
        masquerade,
        refused,
    }
}

/// The real servers under a policy: usable endpoints with weight 1. A TCP endpoint that is present but not usable keeps its
/// live connections with weight 0; one of another protocol has no end of a connection to wait for.
pub fn real_servers(
    selection: &Selection<'_>,
    policy: TrafficPolicy,
    protocol: Protocol,
) -> BTreeMap<SocketAddr, RealServer> {
    let mut reals = BTreeMap::new();
    if protocol == Protocol::Tcp {
        reals.extend(
            selection
                .drained(policy)
                .map(|t| (t.addr, ipvs::real(t.addr, 0))),
        );
    }
    reals.extend(
        reachable(selection, policy)
            .iter()
            .map(|t| (t.addr, ipvs::real(t.addr, 1))),
    );
    reals
}
