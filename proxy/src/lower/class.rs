//! How the table expresses the treatment of a front: the class that decides on a new connection, and the masquerade class.
//!
//! The layout keeps affinity and port translation working for clients. Under externalTrafficPolicy Local, the server on the
//! address holds the endpoints of this node. Traffic from the node and its pods is marked and reaches a second server that holds
//! all endpoints. kube-proxy's nftables backend makes the same distinction.

use crate::kernel::Family;
use crate::kernel::rule::Verdict;
use crate::kernel::table::class;
use crate::plan::{Clients, Masquerade, Served};

/// Class of the key.
pub(super) fn verdict(served: &Served, family: Family) -> Verdict {
    match (served.clients, served.inside_reaches_all) {
        (Clients::Served, false) => Verdict::Accept,
        (Clients::Served, true) => Verdict::Goto(class::int_mark(family)),
        (Clients::Dropped, false) => Verdict::Goto(class::DROP),
        (Clients::Dropped, true) => Verdict::Goto(class::int_only(family)),
        (Clients::Rejected, _) => Verdict::Goto(class::REJECT),
    }
}

/// Masquerade class of the key.
pub(super) fn masquerade(served: &Served, family: Family) -> &'static str {
    match served.masquerade {
        Masquerade::Everybody => class::masq_all(family),
        Masquerade::Outsiders => class::masq_off(family),
        Masquerade::Node => class::masq_node(family),
        Masquerade::NodeAndFar => class::masq_far(family),
    }
}
