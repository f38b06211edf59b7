//! Why a front is refused: as a value, as a reason word, and as a problem that names object and field and says what follows and
//! what to do.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_api::object::Kind;
use ferrolb_api::ownership::Owner;
use ferrolb_api::problem::{self, Problem, Subject};
use ferrolb_api::reason::Reason;
use ferrolb_api::view::{Protocol, Service};

use super::fronts::MOST;
use super::{Front, PortPlan, Reach, ServicePlan, Standing};

/// The most problems shown for one Service. The last one gives the number of the remaining ones.
const SHOWN: usize = 8;

/// Why a front is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Another Service has the key.
    Clash {
        /// The other Service.
        holder: ObjectKey,
        /// The kind of address that it is for the holder.
        reach: Reach,
    },
    /// The address has another owner.
    Owned(Owner),
    /// The host itself listens on this port.
    Listener,
    /// The addresses, neighbours and sockets of this node could not be read yet.
    Unchecked,
    /// External addresses are switched off.
    Off,
    /// External addresses must be in a pool, and this one is not.
    OutsidePools,
    /// The Service wants more addresses and ports than a node serves for one Service.
    TooMany,
}

/// A refused front, for messages.
struct Refusal<'a> {
    service: &'a Service,
    port: &'a PortPlan,
    front: &'a Front,
    cause: &'a Cause,
}

impl Cause {
    /// The cause as a reason word.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Clash { .. } => Reason::PortClash,
            Self::Owned(_) => Reason::AddressOwned,
            Self::Listener => Reason::HostListens,
            Self::Unchecked => Reason::AddressUnchecked,
            Self::Off => Reason::ExternalIpsOff,
            Self::OutsidePools => Reason::OutsidePools,
            Self::TooMany => Reason::OverLimit,
        }
    }

    /// What is wrong, what follows, and what to do about it.
    fn message(&self, addr: IpAddr, port: u16, protocol: Protocol, reach: Reach) -> String {
        match self {
            Self::Clash {
                holder,
                reach: theirs,
            } => {
                let why = if *theirs < reach {
                    format!("as its {theirs}, which goes before a {reach}")
                } else {
                    "which was created first".to_owned()
                };
                format!(
                    "port {port}/{protocol} of {addr} belongs to Service {holder}, {why}. Connections there go to {holder}. \
                     Use another address or port"
                )
            }
            Self::Owned(owner) => {
                let what = match owner {
                    Owner::Host(_) => {
                        "Remove it from spec.externalIPs; once that host is gone, it can be added again"
                    }
                    _ => "Use an address that nobody else has",
                };
                format!(
                    "{addr} belongs to {owner}. It is not served, so that its owner stays reachable. {what}"
                )
            }
            Self::Listener => format!(
                "this node itself listens on port {port}/{protocol} of its address {addr}. Connections there go to the node. Use \
                 another port, or stop what listens there"
            ),
            Self::Unchecked => format!(
                "this node could not yet find out whether {addr} belongs to somebody else. It is not served until then. The log of \
                 the node says why if this stays"
            ),
            Self::Off => format!(
                "external addresses are switched off on this node (--external-ips=off). {addr} is not served. Use a Service of type \
                 LoadBalancer"
            ),
            Self::OutsidePools => format!(
                "no address pool holds {addr}, and this node serves external addresses from pools only (--external-ips=pools). It is \
                 not served. Use an address of a pool, or a Service of type LoadBalancer"
            ),
            Self::TooMany => format!(
                "the Service wants more than {MOST} combinations of address and port. From {addr}, port {port}/{protocol} on they are \
                 not served. Split the Service"
            ),
        }
    }
}

impl Refusal<'_> {
    /// The field that requests what is refused.
    fn field(&self) -> String {
        let position = |found: Option<usize>| found.unwrap_or_default();
        let ports = &self.service.ports;
        let port = position(ports.iter().position(|p| {
            p.name == self.port.name && p.port == self.port.port && p.protocol == self.port.protocol
        }));
        match (self.front.reach, self.cause) {
            (Reach::NodePort, _) => format!("spec.ports[{port}].nodePort"),
            (Reach::External, Cause::Clash { .. }) => format!("spec.ports[{port}].port"),
            (Reach::External, _) => {
                let addresses = &self.service.external_ips;
                let index = position(addresses.iter().position(|a| *a == self.front.addr));
                format!("spec.externalIPs[{index}]")
            }
            _ => format!("spec.ports[{port}].port"),
        }
    }

    fn problem(&self) -> Problem {
        let Front {
            addr, port, reach, ..
        } = *self.front;
        let text = self.cause.message(addr, port, self.port.protocol, reach);
        let reason = self.cause.reason();
        let subject = Subject::object_of(Kind::Service, self.service.key.clone());
        Problem::new(subject, problem::Cause::Request { reason, text }).field(self.field())
    }
}

fn about(service: &Service, text: String) -> Problem {
    let subject = Subject::object_of(Kind::Service, service.key.clone());
    Problem::new(subject, problem::Cause::Reported { text })
}

/// The problems with the addresses that a Service requests. A problem of a whole address is reported once, not for each port.
pub fn problems(service: &Service, plan: &ServicePlan) -> Vec<Problem> {
    let mut found: BTreeMap<(String, String), Problem> = BTreeMap::new();
    for port in &plan.ports {
        for front in &port.fronts {
            if let Standing::Refused(cause) = &front.standing {
                let refusal = Refusal {
                    service,
                    port,
                    front,
                    cause,
                };
                let problem = refusal.problem();
                found
                    .entry((problem.field.clone(), problem.message()))
                    .or_insert(problem);
            }
        }
    }
    let all = found.len();
    let mut problems: Vec<Problem> = found.into_values().take(SHOWN).collect();
    if all > SHOWN {
        let more = all - SHOWN;
        let text = format!("{more} more of its addresses and ports are refused");
        problems.push(about(service, text));
    }
    if let Some(limit) = plan.limited_to {
        let text = format!(
            "it has more endpoints times addresses times ports than a node serves for one Service. Each of its ports uses {limit} \
             endpoints on this node. Split the Service"
        );
        problems.push(about(service, text).field("spec.ports"));
    }
    problems
}
