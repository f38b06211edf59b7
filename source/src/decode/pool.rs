//! IPAddressPool and L2Advertisement.

use ferrolb_api::ObjectKey;
use ferrolb_api::crd::{AddressRange, IpAddressPool, L2Advertisement, ServiceAllocation};
use ferrolb_api::quote::quoted;
use serde::Deserialize;
use serde_json::Value;

use super::raw::{Metadata, typed};
use super::{FieldError, selector};

/// The limit of ranges per pool: more than a pool of single addresses needs, less than an attack would use.
const MOST_RANGES: usize = 4096;
/// IFNAMSIZ without the terminating zero.
const LONGEST_INTERFACE: usize = 15;

#[derive(Deserialize)]
struct Raw<S> {
    metadata: Option<Metadata>,
    spec: Option<S>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PoolSpec {
    addresses: Option<Vec<String>>,
    auto_assign: Option<bool>,
    #[serde(rename = "avoidBuggyIPs")]
    avoid_buggy_ips: Option<bool>,
    service_allocation: Option<Allocation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Allocation {
    priority: Option<i64>,
    namespaces: Option<Vec<String>>,
    namespace_selectors: Option<Vec<selector::Raw>>,
    service_selectors: Option<Vec<selector::Raw>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AdvertisementSpec {
    #[serde(rename = "ipAddressPools")]
    pools: Option<Vec<String>>,
    #[serde(rename = "ipAddressPoolSelectors")]
    pool_selectors: Option<Vec<selector::Raw>>,
    node_selectors: Option<Vec<selector::Raw>>,
    interfaces: Option<Vec<String>>,
    service_selectors: Option<Vec<selector::Raw>>,
}

/// Decodes an IPAddressPool.
pub(super) fn decode_pool(value: &Value, key: ObjectKey) -> Result<IpAddressPool, FieldError> {
    let raw: Raw<PoolSpec> = typed(value)?;
    let Some(spec) = raw.spec else {
        return Err(FieldError::new(
            "spec",
            "is missing: a pool needs spec.addresses",
        ));
    };
    let mut metadata = raw.metadata.unwrap_or_default();
    let allocation = match spec.service_allocation {
        None => None,
        Some(a) => Some(ServiceAllocation {
            priority: priority(a.priority.unwrap_or_default())?,
            namespaces: a.namespaces.unwrap_or_default(),
            namespace_selectors: selector::list(
                "spec.serviceAllocation.namespaceSelectors",
                a.namespace_selectors,
            )?,
            service_selectors: selector::list(
                "spec.serviceAllocation.serviceSelectors",
                a.service_selectors,
            )?,
        }),
    };
    Ok(IpAddressPool {
        key,
        created: metadata.created(),
        labels: metadata.labels(),
        ranges: ranges("spec.addresses", &spec.addresses.unwrap_or_default())?,
        auto_assign: spec.auto_assign.unwrap_or(true),
        avoid_buggy_ips: spec.avoid_buggy_ips.unwrap_or(false),
        allocation,
    })
}

fn priority(number: i64) -> Result<u32, FieldError> {
    u32::try_from(number).map_err(|_| {
        FieldError::new(
            "spec.serviceAllocation.priority",
            format!("{number} is no priority: use 1 (first) and up, or 0 for last"),
        )
    })
}

/// Decodes the addresses of a pool; `field` is the path of the list.
pub(super) fn ranges(field: &str, texts: &[String]) -> Result<Vec<AddressRange>, FieldError> {
    if texts.is_empty() {
        return Err(FieldError::new(
            field,
            "is empty: a pool needs at least one CIDR or range of addresses",
        ));
    }
    if texts.len() > MOST_RANGES {
        return Err(FieldError::new(
            field,
            format!(
                "has {} entries, more than {MOST_RANGES}: write ranges instead",
                texts.len()
            ),
        ));
    }
    let mut ranges = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        match AddressRange::parse(text) {
            Ok(range) => ranges.push(range),
            Err(error) => {
                return Err(FieldError::new(format!("{field}[{i}]"), error.to_string()));
            }
        }
    }
    // In order of first addresses, only neighbours need to be compared to find an overlap.
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_by_key(|i| ranges.get(*i).copied());
    for pair in order.windows(2) {
        if let &[a, b] = pair
            && let (Some(one), Some(other)) = (ranges.get(a.min(b)), ranges.get(a.max(b)))
            && one.overlaps(other)
        {
            return Err(FieldError::new(
                format!("{field}[{}]", a.max(b)),
                format!("{other} overlaps {one} of the same pool: remove one"),
            ));
        }
    }
    Ok(ranges)
}

/// Decodes an L2Advertisement.
pub(super) fn decode_advertisement(
    value: &Value,
    key: ObjectKey,
) -> Result<L2Advertisement, FieldError> {
    let raw: Raw<AdvertisementSpec> = typed(value)?;
    let spec = raw.spec.unwrap_or_default();
    let interfaces = spec.interfaces.unwrap_or_default();
    for (i, name) in interfaces.iter().enumerate() {
        let fits = !name.is_empty()
            && name.len() <= LONGEST_INTERFACE
            && !name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control());
        if !fits {
            return Err(FieldError::new(
                format!("spec.interfaces[{i}]"),
                format!("{} is not the name of an interface", quoted(name)),
            ));
        }
    }
    Ok(L2Advertisement {
        key,
        pools: spec.pools.unwrap_or_default(),
        pool_selectors: selector::list("spec.ipAddressPoolSelectors", spec.pool_selectors)?,
        node_selectors: selector::list("spec.nodeSelectors", spec.node_selectors)?,
        interfaces,
        service_selectors: selector::list("spec.serviceSelectors", spec.service_selectors)?,
    })
}
