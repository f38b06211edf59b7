//! The Pod: only what makes an endpoint of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::ObjectKey;
use crate::view::Protocol;

/// A named or numbered port of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPort {
    /// Name; empty where none.
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
    pub labels: BTreeMap<String, String>,
    /// `status.podIPs` (or `podIP`).
    pub ips: Vec<IpAddr>,
    /// `spec.nodeName`.
    pub node: Option<String>,
    /// Ports of all containers, in order.
    pub ports: Vec<ContainerPort>,
    /// Condition `Ready`; a pod that carries no such condition (no kubelet writes files) is ready.
    pub ready: bool,
    /// `metadata.deletionTimestamp` is set.
    pub terminating: bool,
    /// Phase Succeeded or Failed: it will never serve again.
    pub finished: bool,
}
