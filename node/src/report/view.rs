//! What a node says of itself, and what a cluster's API shows: the shapes of `ferrolb status -o json`.

use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_api::problem::Problem;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::ServiceType;
use ferrolb_speaker::snapshot::Counters;
use serde::{Deserialize, Serialize};

/// Everything that `status` shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Name of the node.
    pub node: String,
    /// Version of ferrolb.
    pub version: String,
    /// `ipvs`, or `none` for an announcer.
    pub proxy: String,
    /// The node's view of the others has settled.
    pub settled: bool,
    /// Known nodes.
    pub members: Vec<MemberStatus>,
    /// What the speaker did since its start, and the latest that its loop ever was.
    #[serde(default)]
    pub speaker: Counters,
    /// Services, by namespace and name.
    pub services: Vec<Arc<ServiceStatus>>,
    /// What is wrong with the input, and with the kernel.
    pub problems: Vec<Problem>,
}

/// What `status` shows of a cluster, as its API has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// URL of the API server.
    pub server: String,
    /// Version of ferrolb.
    pub version: String,
    /// Nodes, by name.
    pub nodes: Vec<ClusterNode>,
    /// Services, by namespace and name.
    pub services: Vec<ServiceStatus>,
    /// What is wrong with the objects.
    pub problems: Vec<Problem>,
}

/// A node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNode {
    /// Name.
    pub name: String,
    /// How many addresses it announces.
    pub addresses: usize,
}

/// A known node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Name.
    pub name: String,
    /// `Alive`, `Held`, `Dead` or `Unknown`.
    pub state: String,
    /// How many addresses it announces.
    pub addresses: usize,
    /// It allocates addresses and places orphans.
    pub elected: bool,
}

/// State of a Service, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceState {
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
pub struct ServiceStatus {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type")]
    pub service_type: ServiceType,
    /// ClusterIPs.
    pub cluster_ips: Vec<IpAddr>,
    /// External addresses with who announces them.
    pub addresses: Vec<AddressStatus>,
    /// `80:30080/TCP`, as kubectl prints ports.
    pub ports: Vec<String>,
    /// Pool of the external addresses.
    pub pool: Option<String>,
    /// How many endpoints are used, and on this node.
    pub endpoints: EndpointCount,
    /// State.
    pub state: ServiceState,
    /// Why.
    pub reason: Reason,
    /// The same as a sentence.
    pub message: String,
}

/// An external address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressStatus {
    /// The address.
    pub ip: IpAddr,
    /// Who announces it.
    pub node: Option<String>,
    /// The interfaces that it is announced on, as far as the teller knows: a node knows its own.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// Why this node does or does not.
    pub reason: Reason,
}

/// Distinct endpoint addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointCount {
    /// Taking new connections.
    pub used: usize,
    /// Of those, on this node; a cluster has no such place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<usize>,
    /// All that there are.
    pub total: usize,
}
