//! What the proxy tells about itself: per Service and port, where connections go, where they do not and why.
//!
//! It is made beside the desired state and read by nobody here.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ferrolb_api::reason::Reason;
use ferrolb_api::view::{Protocol, TrafficPolicy};
use serde::{Deserialize, Serialize};

/// Everything the proxy programs, by `namespace/name` of the Service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Services.
    pub services: BTreeMap<String, ServiceStatus>,
    /// Operations that the kernel refused in the last pass and that are tried again, and the problems of all Services.
    pub errors: Vec<String>,
}

/// One Service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Everything decided for it is in the kernel.
    pub programmed: bool,
    /// Its ports, in order.
    pub ports: Vec<PortStatus>,
    /// What it lacks here that no endpoint or other Service is the reason of, in sentences.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// Name, empty where it has none.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// IPVS scheduler.
    pub scheduler: String,
    /// Addresses and ports that it is served on, each with its policy.
    pub servers: Vec<ServerStatus>,
    /// Every endpoint of the slices, used or not.
    pub endpoints: Vec<EndpointStatus>,
}

/// One address and port that a Service port is served on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Address and port.
    pub addr: SocketAddr,
    /// Policy in force there.
    pub policy: TrafficPolicy,
    /// Why new connections are refused or dropped there; `None` where they are served.
    pub refused: Option<Reason>,
    /// For [`Reason::PortClash`]: the Service that has it.
    pub holder: Option<String>,
}

/// One endpoint of a Service port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Address and port.
    pub addr: SocketAddr,
    /// Its node.
    pub node: Option<String>,
    /// Why it is, or is not, used by clients within the cluster.
    pub internal: Reason,
    /// The same for clients from outside.
    pub external: Reason,
}

impl ServiceStatus {
    /// Addresses that it is served on.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.ports
            .iter()
            .flat_map(|p| p.servers.iter().map(|s| s.addr.ip()))
    }
}
