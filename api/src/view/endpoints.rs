//! The EndpointSlice: which addresses serve a Service, on which nodes, and in which condition.

use std::net::IpAddr;
use std::num::NonZeroU16;

use crate::ObjectKey;
use crate::view::Protocol;

/// One port of an EndpointSlice; it applies to every endpoint of the slice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointPort {
    /// Name of the Service port that it serves; empty for an unnamed port.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port on the endpoints.
    pub port: u16,
}

/// One endpoint of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The address; if there are several equivalent ones, the first, as in kube-proxy.
    pub address: IpAddr,
    /// Name of the node that it runs on.
    pub node: Option<String>,
    /// `conditions.ready`; true if unset.
    pub ready: bool,
    /// `conditions.serving`; same as `ready` if unset.
    pub serving: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
    /// `hints.forNodes[].name`.
    pub hint_nodes: Vec<String>,
    /// `hints.forZones[].name`.
    pub hint_zones: Vec<String>,
    /// Its share of the new connections, for schedulers that look at it: annotation `ferrolb.io/weight` of the slice; 1 if unset.
    pub weight: Option<NonZeroU16>,
}

/// An EndpointSlice: some endpoints of one Service in one family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointSlice {
    /// Namespace and name of the slice.
    pub key: ObjectKey,
    /// Name of its Service (label `kubernetes.io/service-name`), in the same namespace.
    pub service: String,
    /// Ports.
    pub ports: Vec<EndpointPort>,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
    /// When the Pod or Service changed that changed the slice, in milliseconds since 1970 UTC (annotation
    /// `endpoints.kubernetes.io/last-change-trigger-time`).
    pub triggered: Option<i64>,
}

impl EndpointSlice {
    /// Key of the Service that the slice belongs to.
    pub fn service_key(&self) -> ObjectKey {
        ObjectKey::new(self.key.namespace.clone(), self.service.clone())
    }
}
