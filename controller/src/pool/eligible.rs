//! Which pools a Service may use, and in which order (MetalLB's `serviceAllocation` and `autoAssign`).

use std::collections::BTreeMap;

use ferrolb_api::Labels;
use ferrolb_api::crd::{IpAddressPool, LabelSelector};
use ferrolb_api::view::Service;
use ferrolb_api::view::namespace::NAME_LABEL;

use super::Pools;

/// The labels of the namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Namespaces(BTreeMap<String, Labels>);

impl Namespaces {
    /// Records the labels of a namespace, or that it is gone. Returns whether that changed something.
    pub fn set(&mut self, name: &str, labels: Option<Labels>) -> bool {
        match labels {
            Some(labels) => self.0.insert(name.to_owned(), labels.clone()) != Some(labels),
            None => self.0.remove(name).is_some(),
        }
    }

    /// Whether a selector selects the namespace. Of one without a Namespace object only the name is known, so a selector that asks
    /// for another label does not select it, whatever its operator.
    fn selects(&self, selector: &LabelSelector, namespace: &str) -> bool {
        if let Some(labels) = self.0.get(namespace) {
            return selector.matches(labels);
        }
        let expressions = selector.match_expressions.iter().map(|r| &r.key);
        let mut asked = selector.match_labels.keys().chain(expressions);
        asked.all(|label| label == NAME_LABEL)
            && selector.matches(&Labels::from([(NAME_LABEL, namespace)]))
    }
}

/// Whether the pool's `serviceAllocation` admits this Service: its namespace must match (by name or label), and so must one of
/// the Service selectors. A criterion without entries admits all.
pub fn may_use(pool: &IpAddressPool, service: &Service, namespaces: &Namespaces) -> bool {
    let Some(a) = &pool.allocation else {
        return true;
    };
    let namespace = &service.key.namespace;
    let selects = |selector: &LabelSelector| namespaces.selects(selector, namespace);
    let in_namespace = (a.namespaces.is_empty() && a.namespace_selectors.is_empty())
        || a.namespaces.contains(namespace)
        || a.namespace_selectors.iter().any(selects);
    in_namespace
        && (a.service_selectors.is_empty()
            || a.service_selectors
                .iter()
                .any(|s| s.matches(&service.labels)))
}

/// Why a pool leaves a Service out although it might not: the labels that the pool asks for are not known.
pub fn unknown_namespace(
    pool: &IpAddressPool,
    service: &Service,
    namespaces: &Namespaces,
) -> Option<String> {
    let allocation = pool.allocation.as_ref()?;
    let namespace = &service.key.namespace;
    let unknown =
        !allocation.namespace_selectors.is_empty() && !namespaces.0.contains_key(namespace);
    unknown.then(|| {
        format!("it selects namespaces by their labels, and there is no Namespace {namespace}: add it with its labels")
    })
}

/// The pools for a Service that names none: first those pinned to it, by priority (0 last), then the open ones; ties are ordered
/// by name. `autoAssign: false` excludes a pool from both.
pub fn automatic<'a>(
    pools: &'a Pools,
    service: &Service,
    namespaces: &Namespaces,
) -> Vec<&'a IpAddressPool> {
    let mut found: Vec<_> = pools
        .iter()
        .filter(|p| p.auto_assign && may_use(p, service, namespaces))
        .collect();
    found.sort_by_key(|p| match &p.allocation {
        Some(a) => (0, a.priority.wrapping_sub(1)),
        None => (1, 0),
    });
    found
}
