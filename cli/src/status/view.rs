//! What a node says of itself, and what a cluster's API shows: the shapes of `ferrolb status -o json`.

use std::net::IpAddr;

use ferrolb_api::problem::Problem;
use ferrolb_api::reason::Reason;
use serde::{Deserialize, Serialize};

/// Everything that `status` shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeStatus {
    /// Name of the node.
    pub(crate) node: String,
    /// Version of ferrolb.
    pub(crate) version: String,
    /// `ipvs`, or `none` for an announcer.
    pub(crate) proxy: String,
    /// The node's view of the others has settled.
    pub(crate) settled: bool,
    /// Known nodes.
    pub(crate) members: Vec<MemberStatus>,
    /// Services, by namespace and name.
    pub(crate) services: Vec<ServiceStatus>,
    /// What is wrong with the input, and with the kernel.
    pub(crate) problems: Vec<Problem>,
}

/// What `status` shows of a cluster, as its API has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterStatus {
    /// URL of the API server.
    pub(crate) server: String,
    /// Version of ferrolb.
    pub(crate) version: String,
    /// Nodes, by name.
    pub(crate) nodes: Vec<ClusterNode>,
    /// Services, by namespace and name.
    pub(crate) services: Vec<ServiceStatus>,
    /// What is wrong with the objects.
    pub(crate) problems: Vec<Problem>,
}

/// A node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterNode {
    /// Name.
    pub(crate) name: String,
    /// How many addresses it announces.
    pub(crate) addresses: usize,
}

/// A known node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MemberStatus {
    /// Name.
    pub(crate) name: String,
    /// `Alive`, `Held`, `Dead` or `Unknown`.
    pub(crate) state: String,
    /// How many addresses it announces.
    pub(crate) addresses: usize,
    /// It allocates addresses and places orphans.
    pub(crate) elected: bool,
}

/// State of a Service, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ServiceState {
    /// It has its addresses, they are programmed and (external ones) announced.
    Serving,
    /// Something is on its way or missing; the reason says what.
    Pending,
    /// What it asks for can't be had; what it had before goes on.
    Refused,
    /// There is nothing to do for it (headless, an alias, another proxy's).
    Ignored,
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceStatus {
    /// Namespace.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type")]
    pub(crate) service_type: String,
    /// ClusterIPs.
    pub(crate) cluster_ips: Vec<IpAddr>,
    /// External addresses with who announces them.
    pub(crate) addresses: Vec<AddressStatus>,
    /// `80:30080/TCP`, as kubectl prints ports.
    pub(crate) ports: Vec<String>,
    /// Pool of the external addresses.
    pub(crate) pool: Option<String>,
    /// How many endpoints are used, and on this node.
    pub(crate) endpoints: EndpointCount,
    /// State.
    pub(crate) state: ServiceState,
    /// Why.
    pub(crate) reason: Reason,
    /// The same as a sentence.
    pub(crate) message: String,
}

/// An external address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AddressStatus {
    /// The address.
    pub(crate) ip: IpAddr,
    /// Who announces it.
    pub(crate) node: Option<String>,
    /// The interfaces that it is announced on, as far as the teller knows: a node knows its own.
    #[serde(default)]
    pub(crate) interfaces: Vec<String>,
    /// Why this node does or does not.
    pub(crate) reason: Reason,
}

/// Distinct endpoint addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointCount {
    /// Taking new connections.
    pub(crate) used: usize,
    /// Of those, on this node; a cluster has no such place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) local: Option<usize>,
    /// All that there are.
    pub(crate) total: usize,
}
