//! The ConfigMap of MetalLB 0.9: strict YAML inside a string. A pool that cannot be read does not affect the others.

use std::collections::BTreeMap;

use ferrolb_api::ObjectKey;
use ferrolb_api::crd::IpAddressPool;
use ferrolb_api::legacy::LegacyConfig;
use ferrolb_api::problem::shown;
use ferrolb_api::quote::quoted;
use serde::Deserialize;
use serde_json::Value;

use super::raw::{Metadata, one_of, typed};
use super::{FieldError, pool};
use crate::yaml;

/// Name of the ConfigMap, and the key in it.
const NAME: &str = "config";
const FIELD: &str = "data.config";
/// Any text names a pool, not only what may name an object.
const LONGEST_NAME: usize = 253;

#[derive(Deserialize)]
struct Raw {
    metadata: Option<Metadata>,
    data: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    address_pools: Option<Vec<Pool>>,
    peers: Option<Vec<Value>>,
    #[serde(rename = "bgp-communities")]
    _communities: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Pool {
    name: Option<String>,
    protocol: Option<String>,
    addresses: Option<Vec<String>>,
    avoid_buggy_ips: Option<bool>,
    auto_assign: Option<bool>,
    bgp_advertisements: Option<Vec<Value>>,
}

/// Decodes the ConfigMap; `None` if it is not MetalLB's.
pub(super) fn decode(
    value: &Value,
    key: ObjectKey,
    namespace: &str,
) -> Result<Option<(LegacyConfig, Vec<FieldError>)>, FieldError> {
    if key.namespace != namespace || key.name != NAME {
        return Ok(None);
    }
    let raw: Raw = typed(value)?;
    let created = raw.metadata.and_then(|metadata| metadata.created());
    match raw.data.unwrap_or_default().remove(NAME) {
        Some(text) => {
            let (mut config, notes) = parse(&text.unwrap_or_default(), key)?;
            for pool in &mut config.pools {
                pool.created = created;
            }
            Ok(Some((config, notes)))
        }
        None => Ok(None),
    }
}

/// A note for a ConfigMap that holds a configuration of MetalLB but has another name or key than the one that is read.
pub(super) fn elsewhere(value: &Value, key: &ObjectKey, namespace: &str) -> Option<FieldError> {
    let data = value.get("data")?.as_object()?;
    let holds = |text: &str| text.lines().any(|line| line.starts_with("address-pools:"));
    let (field, _) = data.iter().find(|(field, text)| {
        let here = key.namespace == namespace && key.name == NAME && *field == NAME;
        !here && text.as_str().is_some_and(holds)
    })?;
    Some(FieldError::new(
        format!("data.{}", shown(field)),
        format!(
            "holds address-pools, but is not read: the configuration is read from the ConfigMap {namespace}/{NAME}, key {NAME}, so move it there"
        ),
    ))
}

/// Parses the text under the `config` key.
pub(crate) fn parse(
    text: &str,
    key: ObjectKey,
) -> Result<(LegacyConfig, Vec<FieldError>), FieldError> {
    let value = yaml::value(text).map_err(|error| {
        let line = error.line.map(|l| format!("line {l} of the text: "));
        FieldError::new(FIELD, format!("{}{error}", line.unwrap_or_default()))
    })?;
    let config: Config = if value.is_null() {
        Config {
            address_pools: None,
            peers: None,
            _communities: None,
        }
    } else {
        typed(&value).map_err(inner)?
    };
    let mut notes = Vec::new();
    let mut pools: Vec<IpAddressPool> = Vec::new();
    let mut broken = Vec::new();
    let mut any_bgp = false;
    for (i, raw) in config
        .address_pools
        .unwrap_or_default()
        .into_iter()
        .enumerate()
    {
        let name = raw.name.clone().unwrap_or_default();
        let twice = pools.iter().any(|p| p.key.name == name) || broken.contains(&name);
        any_bgp |= raw.protocol.as_deref() == Some("bgp");
        match read_pool(i, raw, &key, twice) {
            Ok(pool) => pools.push(pool),
            Err(error) => {
                if !twice {
                    broken.push(name);
                }
                notes.push(inner(error));
            }
        }
    }
    if config.peers.is_some_and(|p| !p.is_empty()) && !any_bgp {
        notes.push(inner(FieldError::new(
            "peers",
            "BGP peers are not used: addresses are announced at layer 2 only",
        )));
    }
    Ok((LegacyConfig::new(key, pools, broken), notes))
}

fn inner(error: FieldError) -> FieldError {
    let field = if error.field.is_empty() {
        FIELD.to_owned()
    } else {
        format!("{FIELD}.{}", error.field)
    };
    FieldError::new(field, error.message)
}

fn read_pool(
    index: usize,
    raw: Pool,
    key: &ObjectKey,
    twice: bool,
) -> Result<IpAddressPool, FieldError> {
    let field = |name: &str| format!("address-pools[{index}].{name}");
    let Some(name) = raw.name.filter(|n| !n.is_empty()) else {
        return Err(FieldError::new(field("name"), "is missing: name the pool"));
    };
    if name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(FieldError::new(
            field("name"),
            format!(
                "{} is too long or not plain text: use at most {LONGEST_NAME} bytes",
                quoted(&name)
            ),
        ));
    }
    if twice {
        return Err(FieldError::new(
            field("name"),
            format!(
                "there are two pools {}: the first is used, rename the other",
                quoted(&name)
            ),
        ));
    }
    match raw.protocol.as_deref() {
        Some("layer2") => {}
        Some("bgp") => {
            return Err(FieldError::new(
                field("protocol"),
                format!(
                    "pool {} is not used: addresses are announced at layer 2 only, write layer2 instead of bgp",
                    quoted(&name)
                ),
            ));
        }
        None | Some("") => {
            return Err(FieldError::new(
                field("protocol"),
                "is missing: write layer2",
            ));
        }
        Some(other) => return Err(one_of(field("protocol"), other, "layer2")),
    }
    if raw.bgp_advertisements.is_some_and(|a| !a.is_empty()) {
        return Err(FieldError::new(
            field("bgp-advertisements"),
            "a layer2 pool cannot have them: remove them",
        ));
    }
    Ok(IpAddressPool {
        key: ObjectKey::new(key.namespace.clone(), name),
        ranges: pool::ranges(&field("addresses"), &raw.addresses.unwrap_or_default())?,
        auto_assign: raw.auto_assign.unwrap_or(true),
        avoid_buggy_ips: raw.avoid_buggy_ips.unwrap_or(false),
        ..IpAddressPool::default()
    })
}
