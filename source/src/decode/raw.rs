//! What the raw forms share: metadata, and Kubernetes' words and numbers, with errors that name the field.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrolb_api::quote::quoted;
use ferrolb_api::view::Protocol;
use ferrolb_api::{Labels, address};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::{FieldError, timestamp};

/// The common shape of kinds with a specification and a status.
#[derive(Deserialize)]
pub(super) struct Raw<Spec, Status> {
    pub(super) metadata: Option<Metadata>,
    pub(super) spec: Option<Spec>,
    pub(super) status: Option<Status>,
}

/// An entry of `status.conditions`.
#[derive(Deserialize)]
pub(super) struct Condition {
    pub(super) r#type: Option<String>,
    pub(super) status: Option<String>,
}

/// The fields of `metadata` that are used.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    uid: Option<String>,
    labels: Option<BTreeMap<String, Option<String>>>,
    annotations: Option<BTreeMap<String, Option<String>>>,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
}

impl Metadata {
    pub(crate) fn uid(&mut self) -> String {
        self.uid.take().unwrap_or_default()
    }

    pub(crate) fn labels(&mut self) -> Labels {
        strings(self.labels.take()).into()
    }

    pub(crate) fn annotations(&mut self) -> BTreeMap<String, String> {
        strings(self.annotations.take())
    }

    /// When the object was created, in seconds since 1970 UTC. An invalid time is ignored: only an API server sets this field.
    pub(crate) fn created(&self) -> Option<i64> {
        self.creation_timestamp
            .as_deref()
            .and_then(timestamp::seconds)
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}

/// A map of strings as Go reads it: a null value is the empty string.
pub(crate) fn strings(map: Option<BTreeMap<String, Option<String>>>) -> BTreeMap<String, String> {
    map.unwrap_or_default()
        .into_iter()
        .map(|(k, v)| (k, v.unwrap_or_default()))
        .collect()
}

/// Deserializes a tree to its raw form; errors contain the path of the field.
pub(crate) fn typed<'v, T: Deserialize<'v>>(value: &'v Value) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let message: String = error.inner().to_string().chars().take(300).collect();
        FieldError::new(if path == "." { String::new() } else { path }, message)
    })
}

/// Checks a DNS subdomain (RFC 1123), the form of names and namespaces. Names appear in logs, packets and rules.
pub(crate) fn check_name(field: &str, name: &str, longest: usize) -> Result<(), FieldError> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if name.len() <= longest
        && name.chars().all(fits)
        && edge(name.chars().next())
        && edge(name.chars().last())
    {
        return Ok(());
    }
    Err(FieldError::new(
        field,
        format!(
            "{} is not a name: use at most {longest} lower case letters, digits, '-' and '.', beginning and ending with a letter or digit",
            quoted(name)
        ),
    ))
}

/// Parses an address. An IPv4-mapped IPv6 address becomes the IPv4 address, as in Go.
pub(crate) fn ip(field: impl Into<String>, text: &str) -> Result<IpAddr, FieldError> {
    address::parse(text)
        .ok_or_else(|| FieldError::new(field, format!("{} is not an IP address", quoted(text))))
}

/// Parses a network; bits beyond the prefix are cleared, as in Go's ParseCIDR.
pub(crate) fn net(field: impl Into<String>, text: &str) -> Result<IpNet, FieldError> {
    let error = || format!("{} is not a CIDR like 192.0.2.0/24", quoted(text));
    match address::parse_net(text) {
        Some(net) => Ok(net.trunc()),
        None => Err(FieldError::new(field, error())),
    }
}

/// A port number.
pub(crate) fn port(field: impl Into<String>, number: i64) -> Result<u16, FieldError> {
    match u16::try_from(number) {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(FieldError::new(
            field,
            format!("{number} is not a port: use 1 to 65535"),
        )),
    }
}

/// A protocol; TCP if unset.
pub(crate) fn protocol(
    field: impl Into<String>,
    text: Option<&str>,
) -> Result<Protocol, FieldError> {
    match text {
        None | Some("" | "TCP") => Ok(Protocol::Tcp),
        Some("UDP") => Ok(Protocol::Udp),
        Some("SCTP") => Ok(Protocol::Sctp),
        Some(other) => Err(one_of(field, other, "TCP, UDP or SCTP")),
    }
}

/// The error for a word that is not one of those that Kubernetes defines.
pub(crate) fn one_of(field: impl Into<String>, got: &str, words: &str) -> FieldError {
    FieldError::new(field, format!("{} is unknown: use {words}", quoted(got)))
}
