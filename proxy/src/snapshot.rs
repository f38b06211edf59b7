//! The proxy's report: where connections go for each Service and port, or why they do not. It is made from the plans.

use std::net::{IpAddr, SocketAddr};

use ferrolb_api::problem::Problem;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::{Protocol, TrafficPolicy};
use serde::{Deserialize, Serialize};

use crate::plan::{Cause, Front, PortPlan, ServicePlan, Standing};

/// What is wrong as a whole; Services are reported one by one, where they change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// The first pass is over: everything that could be programmed is.
    #[serde(default)]
    pub passed: bool,
    /// Operations that the kernel refused in the last pass and that are tried again.
    pub errors: Vec<String>,
}

/// One Service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Whether everything planned for it is in the kernel.
    pub programmed: bool,
    /// Its ports, in order.
    pub ports: Vec<PortStatus>,
    /// The port at which load balancers ask each node whether it has endpoints, if clients reach only those of the node.
    #[serde(default)]
    pub health_check_node_port: Option<u16>,
    /// It asks for a scheduler that it does not get.
    #[serde(default)]
    pub scheduler_refused: bool,
    /// What is wrong with it, beside its endpoints.
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// Name; empty if it has none.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Addresses and ports on which it is wanted, each with its policy.
    pub servers: Vec<ServerStatus>,
    /// Endpoints that take new connections under traffic policy Cluster, in all families in which it is served.
    pub endpoints: usize,
    /// The same under traffic policy Local.
    pub local_endpoints: usize,
}

/// One address and port on which a Service port is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Address and port.
    pub addr: SocketAddr,
    /// The traffic policy that applies there.
    pub policy: TrafficPolicy,
    /// Why new connections are refused or dropped there. `None`: they are served.
    pub refused: Option<Reason>,
    /// For [`Reason::PortClash`]: the Service that has it.
    pub holder: Option<String>,
}

impl ServiceStatus {
    /// Why it is not given an address and port that it asks for, in one word and as a problem.
    pub fn refusal(&self) -> Option<(Reason, &Problem)> {
        let problem = self.problems.first()?;
        let servers = self.ports.iter().flat_map(|p| &p.servers);
        let no_endpoint = |r: &Reason| matches!(r, Reason::NoEndpoints | Reason::NoLocalEndpoint);
        let mut refused = servers.filter_map(|s| s.refused);
        let reason = refused.find(|r| !no_endpoint(r));
        let reason = reason.or(self.scheduler_refused.then_some(Reason::NoScheduler));
        Some((reason?, problem))
    }

    /// Addresses that it is served on.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.ports
            .iter()
            .flat_map(|p| p.servers.iter().map(|s| s.addr.ip()))
    }
}

/// The status of a Service with this plan, as if nothing of it were in the kernel yet, and without what is wrong with it.
pub fn status(plan: &ServicePlan) -> ServiceStatus {
    ServiceStatus {
        programmed: false,
        ports: plan
            .ports
            .iter()
            .map(|port| port_status(plan, port))
            .collect(),
        health_check_node_port: None,
        scheduler_refused: false,
        problems: Vec::new(),
    }
}

fn port_status(plan: &ServicePlan, port: &PortPlan) -> PortStatus {
    let count = |policy| {
        let sets = port.targets.iter().filter_map(|t| plan.backends.get(t.set));
        let used = sets
            .flatten()
            .filter(|b| b.role(policy).weight.is_some_and(|w| w > 0));
        used.count()
    };
    PortStatus {
        name: port.name.clone(),
        protocol: port.protocol,
        servers: port.fronts.iter().map(server_status).collect(),
        endpoints: count(TrafficPolicy::Cluster),
        local_endpoints: count(TrafficPolicy::Local),
    }
}

fn server_status(front: &Front) -> ServerStatus {
    let (refused, holder) = match &front.standing {
        Standing::Served(served) => (served.clients.reason(), None),
        Standing::Refused(cause) => {
            let holder = match cause {
                Cause::Clash { holder, .. } => Some(holder.to_string()),
                _ => None,
            };
            (Some(cause.reason()), holder)
        }
    };
    ServerStatus {
        addr: (front.addr, front.port).into(),
        policy: front.policy,
        refused,
        holder,
    }
}
