//! What a Service requests: MetalLB's annotations and `spec.loadBalancerIP`.
//!
//! An invalid request is recorded in [`ServiceAnnotations::invalid`] and has no other effect on the Service.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;

use ferrolb_api::annotations::{
    ALLOCATED_FROM, NAMES, OWN_PREFIX, PREFIXES, SCHEDULER, ServiceAnnotations, WEIGHT,
};
use ferrolb_api::problem::shown;
use ferrolb_api::quote::quoted;

use super::FieldError;
use super::raw::ip;
use ferrolb_api::near::nearest;

/// Two addresses in their longest form, a comma and some spaces.
const LONGEST_LIST: usize = 200;
/// Kubernetes' limit for names.
const LONGEST_NAME: usize = 253;
/// A sharing key is compared verbatim and sent to the other nodes.
const LONGEST_KEY: usize = 1024;
/// The most unknown annotations of one Service that are reported.
const MOST_UNKNOWN: usize = 4;

/// The request of a Service.
pub(super) struct Request {
    pub(super) annotations: ServiceAnnotations,
    pub(super) load_balancer_ip: Option<IpAddr>,
    pub(super) notes: Vec<FieldError>,
}

/// Reads the request; only the first error is recorded.
pub(super) fn decode(map: &BTreeMap<String, String>, load_balancer_ip: Option<&str>) -> Request {
    let mut request = Request {
        annotations: ServiceAnnotations::default(),
        load_balancer_ip: None,
        notes: Vec::new(),
    };
    let pool = find(map, "address-pool", LONGEST_NAME);
    let key = find(map, "allow-shared-ip", LONGEST_KEY);
    let list = find(map, "loadBalancerIPs", LONGEST_LIST);
    // This annotation requests nothing, so an invalid value does not invalidate the request.
    let from = find(map, ALLOCATED_FROM, LONGEST_NAME).ok().flatten();
    request.annotations.allocated_from = from.map(|(_, v)| v.to_owned());
    request.annotations.pool = request.take(pool).map(|(_, v)| v.to_owned());
    request.annotations.sharing_key = request.take(key).map(|(_, v)| v.to_owned());
    let requested = request
        .take(list)
        .map(|(field, v)| (v, addresses(&field, v), field));
    let single = load_balancer_ip.filter(|t| !t.trim().is_empty());
    if let (Some((value, _, field)), Some(single)) = (&requested, single) {
        request.refuse(FieldError::new(
            field.clone(),
            format!(
                "addresses are requested twice, here ({}) and in spec.loadBalancerIP ({}): remove one",
                quoted(value),
                quoted(single)
            ),
        ));
    }
    if let Some((_, addresses, _)) = requested {
        match addresses {
            Ok(addresses) => request.annotations.requested = addresses,
            Err(error) => request.refuse(error),
        }
    }
    if let Some(single) = single {
        match ip("spec.loadBalancerIP", single) {
            Ok(ip) => request.load_balancer_ip = Some(ip),
            Err(error) => request.refuse(error),
        }
    }
    let own = format!("{OWN_PREFIX}{SCHEDULER}");
    if let Some(text) = filled(map, &own) {
        let scheduler = text.parse();
        if let Err(message) = &scheduler {
            let field = format!("metadata.annotations[{own}]");
            request.notes.push(FieldError::new(field, message));
        }
        request.annotations.scheduler = Some(scheduler);
    }
    request.notes.extend(unknown(map));
    request.notes.extend(unknown_own(map, SCHEDULER));
    request
}

/// The share of the endpoints of an EndpointSlice or a Pod, and what is wrong with its annotations.
pub(super) fn weight(map: &BTreeMap<String, String>) -> (Option<NonZeroU16>, Vec<FieldError>) {
    let own = format!("{OWN_PREFIX}{WEIGHT}");
    let mut notes: Vec<FieldError> = unknown_own(map, WEIGHT).collect();
    let Some(text) = filled(map, &own) else {
        return (None, notes);
    };
    let weight = text.parse().ok();
    if weight.is_none() {
        notes.push(FieldError::new(
            format!("metadata.annotations[{own}]"),
            format!(
                "{} is no weight, so 1 is used: write a number from 1 to {}",
                quoted(text),
                u16::MAX
            ),
        ));
    }
    (weight, notes)
}

/// One of ferrolb's own annotations. An empty one counts as absent.
fn filled<'m>(map: &'m BTreeMap<String, String>, key: &str) -> Option<&'m str> {
    map.get(key)
        .map(|text| text.trim())
        .filter(|text| !text.is_empty())
}

/// Annotations with ferrolb's prefix that mean nothing on this kind, which has one.
fn unknown_own<'m>(
    map: &'m BTreeMap<String, String>,
    has: &'static str,
) -> impl Iterator<Item = FieldError> + 'm {
    let names = map.keys().filter(move |key| {
        let name = key.strip_prefix(OWN_PREFIX);
        name.is_some_and(|name| name != has)
    });
    names.take(MOST_UNKNOWN).map(move |key| {
        FieldError::new(
            format!("metadata.annotations[{}]", shown(key)),
            format!(
                "there is no such annotation of this kind: the one that exists is {OWN_PREFIX}{has}"
            ),
        )
    })
}

/// Annotations with one of the prefixes that mean nothing.
fn unknown(map: &BTreeMap<String, String>) -> impl Iterator<Item = FieldError> + '_ {
    let names = map.keys().filter_map(|key| {
        let mut prefixes = PREFIXES.iter();
        let (prefix, name) = prefixes.find_map(|p| Some((p, key.strip_prefix(p)?)))?;
        (!NAMES.contains(&name)).then_some((key, prefix, name))
    });
    names.take(MOST_UNKNOWN).map(|(key, prefix, name)| {
        let message = match nearest(name, &NAMES) {
            Some(near) => format!("there is no such annotation: did you mean {prefix}{near}?"),
            None => format!(
                "there is no such annotation: those that exist are {prefix}{}",
                NAMES.join(&format!(", {prefix}"))
            ),
        };
        FieldError::new(format!("metadata.annotations[{}]", shown(key)), message)
    })
}

impl Request {
    fn take<T>(&mut self, found: Result<Option<T>, FieldError>) -> Option<T> {
        found.unwrap_or_else(|error| {
            self.refuse(error);
            None
        })
    }

    fn refuse(&mut self, error: FieldError) {
        if self.annotations.invalid.is_none() {
            self.annotations.invalid = Some(error.to_string());
            self.notes.push(error);
        }
    }
}

/// An annotation under either prefix, with its path. An empty one counts as absent.
fn find<'m>(
    map: &'m BTreeMap<String, String>,
    name: &str,
    longest: usize,
) -> Result<Option<(String, &'m str)>, FieldError> {
    for prefix in PREFIXES {
        let key = format!("{prefix}{name}");
        let Some(value) = map.get(&key).map(|v| v.trim()).filter(|v| !v.is_empty()) else {
            continue;
        };
        let field = format!("metadata.annotations[{key}]");
        if value.len() > longest || value.chars().any(char::is_control) {
            return Err(FieldError::new(
                field,
                format!(
                    "{} is too long or not plain text: use at most {longest} bytes",
                    quoted(value)
                ),
            ));
        }
        return Ok(Some((field, value)));
    }
    Ok(None)
}

fn addresses(field: &str, list: &str) -> Result<Vec<IpAddr>, FieldError> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in list.split(',') {
        let address = ip(field, text)?;
        if addresses.iter().any(|a| a.is_ipv4() == address.is_ipv4()) {
            return Err(FieldError::new(
                field,
                format!(
                    "{} asks for two addresses of one family: ask for one of each at most",
                    quoted(list)
                ),
            ));
        }
        addresses.push(address);
    }
    Ok(addresses)
}
