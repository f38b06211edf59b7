//! Slim views of Kubernetes objects: only the fields that are used, already in the types that the daemons work with.
//!
//! A view states what an object says. What follows from it is decided in the daemons.

pub mod endpoints;
pub mod namespace;
pub mod node;
pub mod pod;
pub mod service;
pub mod service_cidr;

pub use endpoints::{Endpoint, EndpointPort, EndpointSlice};
pub use namespace::Namespace;
pub use node::Node;
pub use pod::{ContainerPort, Pod};
pub use service::{
    Balancer, DualStack, IngressAddress, Protocol, Service, ServicePort, ServiceType, TargetPort,
    TrafficPolicy,
};
pub use service_cidr::ServiceCidr;
