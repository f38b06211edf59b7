//! What was given before, read from the Services themselves: pure. MetalLB adopts the same way, and its statuses with it.

use std::net::IpAddr;

use ferrolb_api::view::Service;
use ferrolb_api::view::service::Balancer;

use crate::assignment::{Assignment, Assignments};
use crate::pool::sharing::Terms;

/// The assignments that these Services show, of those that are load balancers of this class.
///
/// Ports and sharing keys count as those under which the addresses were given: what else they may have been is not known.
pub fn adopt<'s>(
    services: impl IntoIterator<Item = &'s Service>,
    class: Option<&str>,
) -> Assignments {
    services
        .into_iter()
        .filter(|s| s.balancer(class) == Balancer::Ours)
        .filter_map(|s| {
            let mut addresses: Vec<IpAddr> = Vec::new();
            for ip in s.vips() {
                if !addresses.iter().any(|a| a.is_ipv4() == ip.is_ipv4()) {
                    addresses.push(ip);
                }
            }
            let assignment = Assignment {
                cluster_ips: s.cluster_ips.clone(),
                pool: s.annotations.allocated_from.clone(),
                terms: Terms::of(s).fingerprint(),
                addresses,
            };
            (!assignment.addresses.is_empty()).then(|| (s.key.clone(), assignment))
        })
        .collect()
}
