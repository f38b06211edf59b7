//! The addresses assigned to a Service, and how they appear on the Service. Standalone mode takes the role of the API server
//! (ClusterIPs) and of the controller (`status.loadBalancer`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_api::view::service::Balancer;
use ferrolb_api::view::{IngressAddress, Service, ServiceType};
use serde::{Deserialize, Serialize};

/// The addresses of one Service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Assignment {
    /// ClusterIPs, at most one per family. Includes those that the Service names itself, once they are granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_ips: Vec<IpAddr>,
    /// Load-balancer addresses, at most one per family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// The pool that `addresses` come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Fingerprint of the terms under which `addresses` were assigned ([`crate::pool::sharing::Terms::fingerprint`]); 0 if there
    /// are no addresses. If two Services clash on a shared address, the one whose terms have changed since has to move.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub terms: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // The signature is serde's.
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Assignments by Service.
pub type Assignments = BTreeMap<ObjectKey, Assignment>;

/// The Service as a cluster's API would show it with this assignment.
///
/// With an assignment, its ClusterIPs replace those of the Service: a ClusterIP that the Service names but that was refused
/// (another Service has it) is not shown. Without an assignment, the ClusterIPs that the Service names remain.
/// `status.loadBalancer` in a file is an old copy of what some controller wrote, so it is replaced, except on a Service whose
/// class is not `class`, which belongs to another load balancer.
pub fn overlay(service: &Service, assignment: Option<&Assignment>, class: Option<&str>) -> Service {
    let mut view = service.clone();
    if service.headless || service.service_type == ServiceType::ExternalName {
        return view;
    }
    if let Some(a) = assignment {
        view.cluster_ips.clone_from(&a.cluster_ips);
    }
    let addresses = assignment.map_or(&[][..], |a| &a.addresses);
    if service.balancer(class) != Balancer::Other || !addresses.is_empty() {
        view.ingress = addresses
            .iter()
            .filter(|_| service.is_load_balancer())
            .map(|ip| IngressAddress { ip: *ip, vip: true })
            .collect();
    }
    view
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{ip, service};

    fn given() -> Assignment {
        Assignment {
            cluster_ips: vec![ip("10.96.0.2")],
            addresses: vec![ip("172.17.255.1")],
            pool: Some("default".into()),
            terms: 7,
        }
    }

    #[test]
    fn the_view_shows_what_was_assigned() {
        let view = overlay(&service("default/web").build(), Some(&given()), None);
        assert_eq!(view.cluster_ips, [ip("10.96.0.2")]);
        assert_eq!(view.vips().collect::<Vec<_>>(), [ip("172.17.255.1")]);
    }

    #[test]
    fn a_status_that_nobody_agreed_on_is_not_shown() {
        let mut stale = service("default/web").build();
        stale.ingress = vec![IngressAddress {
            ip: ip("172.17.255.9"),
            vip: true,
        }];
        assert!(overlay(&stale, None, None).ingress.is_empty());
        let theirs = overlay(&stale, None, Some("other"));
        assert_eq!(theirs.ingress.len(), 1, "it has no class, we have one");
        stale.load_balancer_class = Some("other".into());
        assert_eq!(overlay(&stale, None, None).ingress.len(), 1);
        assert!(overlay(&stale, None, Some("other")).ingress.is_empty());
    }

    #[test]
    fn a_headless_service_and_a_plain_one_get_no_ingress() {
        let headless = service("default/web").headless().build();
        assert_eq!(overlay(&headless, Some(&given()), None), headless);
        let plain = overlay(
            &service("default/web").cluster_only().build(),
            Some(&given()),
            None,
        );
        assert!(plain.ingress.is_empty());
        assert_eq!(plain.cluster_ips, [ip("10.96.0.2")]);
    }

    #[test]
    fn a_named_cluster_ip_stands_until_it_is_refused() {
        let named = service("default/web").cluster_ip("10.96.0.9").build();
        assert_eq!(overlay(&named, None, None).cluster_ips, [ip("10.96.0.9")]);
        assert!(
            overlay(&named, Some(&Assignment::default()), None)
                .cluster_ips
                .is_empty()
        );
    }

    #[test]
    fn an_assignment_reads_back_as_written() {
        let text = serde_json::to_string(&given()).unwrap();
        assert_eq!(serde_json::from_str::<Assignment>(&text).unwrap(), given());
        assert_eq!(serde_json::to_string(&Assignment::default()).unwrap(), "{}");
    }
}
