//! Which pools a Service may use, and in which order (MetalLB's `serviceAllocation` and `autoAssign`).

use ferrolb_api::Labels;
use ferrolb_api::crd::IpAddressPool;
use ferrolb_api::view::Service;

use super::Pools;

/// The label with its own name that every namespace carries. Other labels of namespaces are not known here.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Whether the pool's `serviceAllocation` admits this Service: its namespace must match (by name or label), and so must one of
/// the Service selectors. A criterion without entries admits all.
pub fn may_use(pool: &IpAddressPool, service: &Service) -> bool {
    let Some(a) = &pool.allocation else {
        return true;
    };
    let namespace = &service.key.namespace;
    let labels = || Labels::from([(NAMESPACE_NAME, namespace.as_str())]);
    let in_namespace = (a.namespaces.is_empty() && a.namespace_selectors.is_empty())
        || a.namespaces.contains(namespace)
        || a.namespace_selectors.iter().any(|s| s.matches(&labels()));
    in_namespace
        && (a.service_selectors.is_empty()
            || a.service_selectors
                .iter()
                .any(|s| s.matches(&service.labels)))
}

/// The pools for a Service that names none: first those pinned to it, by priority (0 last), then the open ones; ties are ordered
/// by name. `autoAssign: false` excludes a pool from both.
pub fn automatic<'a>(pools: &'a Pools, service: &Service) -> Vec<&'a IpAddressPool> {
    let mut found: Vec<_> = pools
        .iter()
        .filter(|p| p.auto_assign && may_use(p, service))
        .collect();
    found.sort_by_key(|p| match &p.allocation {
        Some(a) => (0, a.priority.wrapping_sub(1)),
        None => (1, 0),
    });
    found
}
