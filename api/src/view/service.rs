//! The Service: ports, addresses, traffic policies, affinity, and the annotations that ferrolb uses.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::family::Family;
use crate::{Labels, ObjectKey};

/// Transport protocol of a port (IANA protocol numbers 6, 17, 132).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP, the default of Kubernetes.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The IANA protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// `spec.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ServiceType {
    /// The default.
    #[default]
    ClusterIP,
    /// A port on every node.
    NodePort,
    /// Also an external address.
    LoadBalancer,
    /// A DNS alias: nothing to program.
    ExternalName,
}

/// `spec.externalTrafficPolicy` and `spec.internalTrafficPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum TrafficPolicy {
    /// All endpoints of the cluster.
    #[default]
    Cluster,
    /// Endpoints on the node that handles the packet.
    Local,
}

/// `targetPort` of a port: a number, or the name of a container port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetPort {
    /// A port number, 1 to 65535.
    Number(u16),
    /// The name of a container port, resolved in each pod.
    Name(String),
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Name; empty if it has none, which only a single port may do. EndpointSlice ports refer to it.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port on the service addresses, 1 to 65535.
    pub port: u16,
    /// Port on the pods.
    pub target_port: TargetPort,
    /// Port on the nodes; `None` if not allocated.
    pub node_port: Option<u16>,
}

/// One address of `status.loadBalancer.ingress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngressAddress {
    /// The address.
    pub ip: IpAddr,
    /// `ipMode` is VIP or unset; `Proxy` addresses are never programmed.
    pub vip: bool,
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.uid`: distinguishes a Service from an earlier one of the same name. Empty if no API server assigned one.
    pub uid: String,
    /// `metadata.creationTimestamp` in seconds since 1970 UTC. `None` if no API server set it.
    pub created: Option<i64>,
    /// `spec.type`.
    pub service_type: ServiceType,
    /// `spec.clusterIP: None`: DNS only, nothing to program.
    pub headless: bool,
    /// `spec.clusterIPs` (or `clusterIP`); empty if none is assigned yet.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip`.
    pub ingress: Vec<IngressAddress>,
    /// `status.loadBalancer.ingress` also has entries without an address (host names).
    pub ingress_is_mixed: bool,
    /// `spec.loadBalancerIP`: the requested address (a deprecated field that is still in use).
    pub load_balancer_ip: Option<IpAddr>,
    /// `spec.loadBalancerClass`.
    pub load_balancer_class: Option<String>,
    /// `spec.loadBalancerSourceRanges`.
    pub source_ranges: Vec<IpNet>,
    /// `spec.ports`, in order.
    pub ports: Vec<ServicePort>,
    /// `spec.selector`; an empty one selects nothing.
    pub selector: Labels,
    /// `spec.externalTrafficPolicy`.
    pub external_policy: TrafficPolicy,
    /// `spec.internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// `sessionAffinity: ClientIP`: its timeout in seconds (default 10800).
    pub affinity_seconds: Option<u32>,
    /// `spec.ipFamilyPolicy` wants both families when it is not SingleStack.
    pub dual_stack: DualStack,
    /// The first of `spec.ipFamilies`; `None`: the first family of the cluster.
    pub primary_family: Option<Family>,
    /// `spec.healthCheckNodePort`.
    pub health_check_node_port: Option<u16>,
    /// `spec.publishNotReadyAddresses`.
    pub publish_not_ready: bool,
    /// Label `service.kubernetes.io/service-proxy-name` or `.../headless`: the Service belongs to another proxy.
    pub foreign_proxy: bool,
    /// `metadata.labels`.
    pub labels: Labels,
    /// The `metadata.annotations` that ferrolb uses (see [`crate::annotations`]).
    pub annotations: crate::annotations::ServiceAnnotations,
}

/// `spec.ipFamilyPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum DualStack {
    /// One family.
    #[default]
    #[serde(rename = "SingleStack")]
    Single,
    /// Both where possible.
    #[serde(rename = "PreferDualStack")]
    Prefer,
    /// Both or nothing.
    #[serde(rename = "RequireDualStack")]
    Require,
}

/// Which load balancer assigns and announces the Service's load-balancer addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balancer {
    /// None: the Service requests no address.
    None,
    /// The one that asks.
    Ours,
    /// One of another class.
    Other,
}

impl Service {
    /// Whether a proxy programs anything for the Service: it is not headless, not an alias, not another proxy's.
    pub fn is_proxied(&self) -> bool {
        !self.headless && self.service_type != ServiceType::ExternalName && !self.foreign_proxy
    }

    /// Whether its ports may have node ports: its type is NodePort or LoadBalancer, and a port names one.
    pub fn has_node_ports(&self) -> bool {
        let typed = matches!(
            self.service_type,
            ServiceType::NodePort | ServiceType::LoadBalancer
        );
        typed && self.ports.iter().any(|p| p.node_port.is_some())
    }

    /// Whether it requests load-balancer addresses.
    pub fn is_load_balancer(&self) -> bool {
        self.service_type == ServiceType::LoadBalancer && !self.headless
    }

    /// Which load balancer serves the Service, from the point of view of one with this class. `None` is the default load
    /// balancer, which serves Services without a class. This is the only place that interprets `spec.loadBalancerClass`.
    pub fn balancer(&self, class: Option<&str>) -> Balancer {
        if !self.is_load_balancer() {
            Balancer::None
        } else if self.load_balancer_class.as_deref() == class {
            Balancer::Ours
        } else {
            Balancer::Other
        }
    }

    /// Whether traffic from outside the cluster can reach it through node ports, external addresses or load-balancer addresses.
    pub fn is_externally_accessible(&self) -> bool {
        matches!(
            self.service_type,
            ServiceType::NodePort | ServiceType::LoadBalancer
        ) || !self.external_ips.is_empty()
            || !self.ingress.is_empty()
    }

    /// Whether any traffic uses policy Cluster. External traffic always needs it: for a Local Service, pods and the node itself
    /// are short-circuited from an external address to all endpoints.
    pub fn uses_cluster_endpoints(&self) -> bool {
        self.internal_policy == TrafficPolicy::Cluster || self.is_externally_accessible()
    }

    /// Whether any traffic uses policy Local.
    pub fn uses_local_endpoints(&self) -> bool {
        self.internal_policy == TrafficPolicy::Local
            || (self.external_policy == TrafficPolicy::Local && self.is_externally_accessible())
    }

    /// Whether the Service is served in this family: it has a ClusterIP or load-balancer address of it. While it has no address at
    /// all, both families count.
    pub fn has_family(&self, family: Family) -> bool {
        let mut addresses = self
            .cluster_ips
            .iter()
            .copied()
            .chain(self.vips())
            .peekable();
        addresses.peek().is_none() || addresses.any(|a| Family::of(a) == family)
    }

    /// The load-balancer addresses that nodes announce and program.
    pub fn vips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.ingress.iter().filter(|i| i.vip).map(|i| i.ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_served_by_the_load_balancer_of_its_class_and_by_no_other() {
        let service = |service_type, class: Option<&str>| Service {
            service_type,
            load_balancer_class: class.map(str::to_owned),
            ..Service::default()
        };
        let (balanced, plain) = (ServiceType::LoadBalancer, ServiceType::NodePort);
        for (service_type, of, asks, expected) in [
            (balanced, None, None, Balancer::Ours),
            (balanced, Some("a/lan"), Some("a/lan"), Balancer::Ours),
            (balanced, Some("a/lan"), None, Balancer::Other),
            (balanced, Some("a/lan"), Some("a/wan"), Balancer::Other),
            (balanced, None, Some("a/lan"), Balancer::Other),
            (plain, None, None, Balancer::None),
            (plain, Some("a/lan"), Some("a/lan"), Balancer::None),
        ] {
            let found = service(service_type, of).balancer(asks);
            assert_eq!(
                found, expected,
                "{service_type:?} of {of:?}, asked by {asks:?}"
            );
        }
        let mut headless = service(balanced, None);
        headless.headless = true;
        assert_eq!(headless.balancer(None), Balancer::None);
    }
}
