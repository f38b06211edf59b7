//! The Pod: only the fields that make it an endpoint.

use std::net::IpAddr;
use std::num::NonZeroU16;

use crate::view::Protocol;
use crate::{Labels, ObjectKey};

/// A named or numbered port of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPort {
    /// Name; empty if it has none.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port number.
    pub port: u16,
}

/// A Pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pod {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `status.podIPs` (or `podIP`).
    pub ips: Vec<IpAddr>,
    /// `spec.nodeName`.
    pub node: Option<String>,
    /// Ports of all containers, in order.
    pub ports: Vec<ContainerPort>,
    /// Condition `Ready`. A pod without this condition is ready (no kubelet sets it on manifests in files).
    pub ready: bool,
    /// `metadata.deletionTimestamp` is set.
    pub terminating: bool,
    /// Phase Succeeded or Failed: it will never serve again.
    pub finished: bool,
    /// Annotation `ferrolb.io/weight`: its share of the new connections, for schedulers that look at it; 1 if unset.
    pub weight: Option<NonZeroU16>,
}
