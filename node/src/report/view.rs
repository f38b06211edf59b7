//! What a node reports about itself, and what a cluster's API shows: the types behind `ferrolb status -o json`.

use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_api::problem::Problem;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::ServiceType;
use ferrolb_speaker::snapshot::Counters;
use serde::{Deserialize, Serialize};

/// Everything that `status` shows about a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The node's name.
    pub node: String,
    /// The version of ferrolb.
    pub version: String,
    /// `ipvs`, or `none` for a node that only announces.
    pub proxy: String,
    /// The node's view of the others has settled.
    pub settled: bool,
    /// The known nodes.
    pub members: Vec<MemberStatus>,
    /// What the speaker has done since its start, and how late its loop has ever been.
    #[serde(default)]
    pub speaker: Counters,
    /// Services, sorted by namespace and name.
    pub services: Vec<Arc<ServiceStatus>>,
    /// What is wrong with the input and with the kernel.
    pub problems: Vec<Problem>,
}

/// What `status` shows about a cluster, according to its API.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The URL of the API server.
    pub server: String,
    /// The version of ferrolb.
    pub version: String,
    /// The nodes, sorted by name.
    pub nodes: Vec<ClusterNode>,
    /// Services, sorted by namespace and name.
    pub services: Vec<ServiceStatus>,
    /// What is wrong with the objects.
    pub problems: Vec<Problem>,
}

/// A node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNode {
    /// The node's name.
    pub name: String,
    /// How many addresses the node announces.
    pub addresses: usize,
    /// Whether an agent runs there.
    pub agent: Agent,
    /// The version of its agent, if known.
    pub version: Option<String>,
    /// How many seconds ago its agent was last heard, if ever.
    pub heard_seconds_ago: Option<u64>,
}

/// Whether an agent runs on a node, according to the Lease that it renews.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Agent {
    /// It renews its Lease.
    Alive,
    /// It has not renewed its Lease for too long.
    Gone,
    /// The node has no Lease: an agent never ran there.
    None,
    /// The Leases could not be read.
    Unknown,
}

/// A known node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// The node's name.
    pub name: String,
    /// `Alive`, `Held`, `Dead` or `Unknown`.
    pub state: String,
    /// How many addresses the node announces.
    pub addresses: usize,
    /// This node allocates addresses and places orphans.
    pub elected: bool,
}

/// The state of a Service, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceState {
    /// The Service has its addresses, and they are programmed and (if external) announced.
    Serving,
    /// Something is in progress or missing; the reason says what.
    Pending,
    /// The Service can't have what it asks for; what it had before stays in service.
    Refused,
    /// There is nothing to do for the Service (it is headless, an alias, or another proxy's).
    Ignored,
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type")]
    pub service_type: ServiceType,
    /// Its ClusterIPs.
    pub cluster_ips: Vec<IpAddr>,
    /// Its external addresses, and which node announces each.
    pub addresses: Vec<AddressStatus>,
    /// Its ports, as kubectl prints them: `80:30080/TCP`.
    pub ports: Vec<String>,
    /// The pool of its external addresses.
    pub pool: Option<String>,
    /// How many endpoints are used in total, and on this node.
    pub endpoints: EndpointCount,
    /// Its state.
    pub state: ServiceState,
    /// The reason for this state.
    pub reason: Reason,
    /// The reason as a sentence.
    pub message: String,
}

/// An external address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressStatus {
    /// The address.
    pub ip: IpAddr,
    /// The node that announces it.
    pub node: Option<String>,
    /// The interfaces on which it is announced, if known: a node knows only its own.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// Why this node announces it, or why not.
    pub reason: Reason,
}

/// Counts of distinct endpoint addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointCount {
    /// Endpoints that take new connections.
    pub used: usize,
    /// How many of those are on this node. A cluster's view has no such number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<usize>,
    /// All endpoints.
    pub total: usize,
    /// Endpoints that are ready, whether or not they have a port for the Service.
    #[serde(default)]
    pub ready: usize,
    /// The first port of the Service, by its index, that none of the ready endpoints has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_port: Option<usize>,
}
