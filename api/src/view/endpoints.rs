//! The EndpointSlice: which addresses serve a Service, where they run and in which condition they are.

use std::net::IpAddr;

use crate::ObjectKey;
use crate::view::Protocol;

/// One port of an EndpointSlice; it holds for every endpoint of the slice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointPort {
    /// Name of the Service's port that it serves; empty for an unnamed one.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port on the endpoints.
    pub port: u16,
}

/// One endpoint of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The address; of several equivalent ones, the first, as kube-proxy does it.
    pub address: IpAddr,
    /// Name of the node that it runs on.
    pub node: Option<String>,
    /// `conditions.ready`, true where unset.
    pub ready: bool,
    /// `conditions.serving`, `ready` where unset.
    pub serving: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
    /// `hints.forNodes[].name`.
    pub hint_nodes: Vec<String>,
    /// `hints.forZones[].name`.
    pub hint_zones: Vec<String>,
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
}

impl EndpointSlice {
    /// Key of the Service that the slice belongs to.
    pub fn service_key(&self) -> ObjectKey {
        ObjectKey::new(self.key.namespace.clone(), self.service.clone())
    }
}
