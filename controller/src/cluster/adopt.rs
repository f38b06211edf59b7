//! Reads earlier assignments from the Services themselves. Pure. MetalLB adopts in the same way, so its statuses are adopted too.

use std::net::IpAddr;

use ferrolb_api::view::Service;
use ferrolb_api::view::service::Balancer;

use crate::assignment::{Assignment, Assignments};
use crate::pool::sharing::Terms;

/// The assignments that these Services show; only load balancers of this class count.
///
/// The current ports and sharing keys are taken as the terms under which the addresses were assigned: earlier ones are not known.
pub fn adopt<'s>(
    services: impl IntoIterator<Item = &'s Service>,
    class: Option<&str>,
) -> Assignments {
    let services = services.into_iter();
    services
        .filter_map(|s| Some((s.key.clone(), shown(s, class)?)))
        .collect()
}

/// The same of one Service.
pub fn shown(service: &Service, class: Option<&str>) -> Option<Assignment> {
    if service.balancer(class) != Balancer::Ours {
        return None;
    }
    let mut addresses: Vec<IpAddr> = Vec::new();
    for ip in service.vips() {
        if !addresses.iter().any(|a| a.is_ipv4() == ip.is_ipv4()) {
            addresses.push(ip);
        }
    }
    (!addresses.is_empty()).then(|| Assignment {
        cluster_ips: service.cluster_ips.clone(),
        pool: service.annotations.allocated_from.clone(),
        terms: Terms::of(service).fingerprint(),
        addresses,
    })
}
