//! Who may use which endpoint: the endpoint choice of Kubernetes (kube-proxy's topology.go) as pure functions.
//!
//! | policy | endpoints |
//! |---|---|
//! | Cluster | ready ones that match the topology; if none is ready, those serving while they terminate |
//! | Local | ready ones of this node; if none, its serving and terminating ones; topology is not asked |

use std::net::SocketAddr;

use crate::view::Endpoint;

/// One endpoint for one Service port, with its target port resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Address and port of the server.
    pub addr: SocketAddr,
    /// The endpoint as Kubernetes describes it.
    pub endpoint: &'a Endpoint,
}

/// The endpoints of a Service port that a node may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection<'a> {
    /// Under policy Cluster.
    pub cluster: Vec<Target<'a>>,
    /// Under policy Local.
    pub local: Vec<Target<'a>>,
    /// Present in the slices but in neither list: not ready, or terminating beside ready ones. Their live connections go on.
    pub draining: Vec<Target<'a>>,
}
