//! What one Service asks of the kernel: a pure function of the Service, its endpoints, the nodes and the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_api::reason::Reason;
use ferrolb_api::traffic::{Selection, Target, endpoint_reason, select};
use ferrolb_api::view::{Service, ServicePort, ServiceType};

use super::ipvs::{self, Servers};
use super::marks::{Marks, PortKey};
use super::nft::{self, Item, ServerKey};
use super::policy::{self, Reach};
use crate::kernel::{Family, Observed};
use crate::snapshot::{EndpointStatus, PortStatus, ServerStatus, ServiceStatus};
use crate::state::State;

/// Everything that one Service asks of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceDesired {
    /// Addresses that must be local here.
    pub addresses: BTreeSet<IpAddr>,
    /// Virtual servers with their real servers.
    pub servers: Servers,
    /// Elements of sets and maps.
    pub elements: BTreeSet<Item>,
    /// A port has no firewall mark because all are in use.
    pub unmarked: bool,
    /// The same, told.
    pub status: ServiceStatus,
}

/// A key that a Service wants, with the kind of its address.
pub type Wanted = BTreeMap<ServerKey, Reach>;

/// The keys that a Service wants to be served on. Of two of its ports on one key the first has it.
pub fn wanted(state: &State, service: &Service) -> Wanted {
    let mut wanted = Wanted::new();
    for port in &service.ports {
        for (key, reach) in keys(state, service, port) {
            wanted.entry(key).or_insert(reach);
        }
    }
    wanted
}

fn keys(state: &State, service: &Service, port: &ServicePort) -> Vec<(ServerKey, Reach)> {
    if !service.is_proxied() || port.port == 0 {
        return Vec::new();
    }
    let mut keys = Vec::new();
    let mut add = |addr: IpAddr, number: u16, reach| {
        let usable = !addr.is_unspecified() && !addr.is_loopback() && !addr.is_multicast();
        // An address that another node owns would be hijacked from it here; its owner serves it.
        let foreign = matches!(reach, Reach::External | Reach::LoadBalancer)
            && state.is_foreign_address(addr);
        if usable && !foreign {
            keys.push(((addr, number, port.protocol), reach));
        }
    };
    for addr in &service.cluster_ips {
        add(*addr, port.port, Reach::ClusterIp);
    }
    for addr in &service.external_ips {
        add(*addr, port.port, Reach::External);
    }
    if service.is_load_balancer() {
        for addr in service.vips() {
            add(addr, port.port, Reach::LoadBalancer);
        }
    }
    let on_nodes = matches!(
        service.service_type,
        ServiceType::NodePort | ServiceType::LoadBalancer
    );
    if let Some(number) = port.node_port.filter(|n| on_nodes && *n != 0) {
        let served = |a: &IpAddr| service.has_family(Family::of(*a));
        for addr in state.own_addresses().filter(served) {
            add(addr, number, Reach::NodePort);
        }
    }
    keys
}

/// What deciding needs besides the Service.
#[derive(Debug)]
pub struct Context<'a> {
    /// What is known.
    pub state: &'a State,
    /// What is in the kernel, for marks that must not be used twice.
    pub held: &'a Observed,
}

/// Decides on one Service. `holder` names who has a key that several want.
pub fn decide<'h>(
    cx: &Context<'_>,
    service: &Service,
    marks: &mut Marks,
    holder: impl Fn(&ServerKey) -> Option<&'h ObjectKey>,
) -> ServiceDesired {
    let mut out = ServiceDesired::default();
    let mut kept = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for port in &service.ports {
        let mut keys = keys(cx.state, service, port);
        keys.retain(|(key, _)| seen.insert(*key));
        if !keys.is_empty() {
            let mut job = Job {
                cx,
                service,
                port,
                out: &mut out,
            };
            job.port(&keys, marks, &mut kept, &holder);
        }
    }
    marks.keep(&service.key, &kept);
    out
}

struct Job<'a, 'o> {
    cx: &'a Context<'a>,
    service: &'a Service,
    port: &'a ServicePort,
    out: &'o mut ServiceDesired,
}

impl Job<'_, '_> {
    fn port<'h>(
        &mut self,
        keys: &[(ServerKey, Reach)],
        marks: &mut Marks,
        kept: &mut BTreeSet<PortKey>,
        holder: &impl Fn(&ServerKey) -> Option<&'h ObjectKey>,
    ) {
        let mut status = PortStatus {
            name: self.port.name.clone(),
            protocol: self.port.protocol,
            scheduler: self.cx.state.proxy().scheduler.clone(),
            servers: Vec::new(),
            endpoints: Vec::new(),
        };
        let mine: Vec<(ServerKey, Reach)> = keys
            .iter()
            .filter(|(key, reach)| match holder(key) {
                Some(other) if *other != self.service.key => {
                    status.servers.push(ServerStatus {
                        addr: (key.0, key.1).into(),
                        policy: reach.policy(self.service),
                        refused: Some(Reason::PortClash),
                        holder: Some(other.to_string()),
                    });
                    false
                }
                _ => true,
            })
            .copied()
            .collect();
        let mark = self.mark(&mine, marks, kept);
        for family in Family::ALL {
            let state = self.cx.state;
            let zone = state.own_node().and_then(|n| n.zone.as_deref());
            let of_family = || mine.iter().filter(|(key, _)| Family::of(key.0) == family);
            if of_family().next().is_none() {
                continue;
            }
            let slices = state.endpoints().of(&self.service.key);
            let node = state.own_name();
            let selection = select(slices, self.service, self.port, family, node, zone);
            for (key, reach) in of_family() {
                status
                    .servers
                    .push(self.server(*key, *reach, family, &selection, mark));
            }
            self.shared(family, &selection, mark);
            status.endpoints.extend(self.endpoints(&selection));
        }
        self.out.status.ports.push(status);
    }

    /// The mark of the port, where it is served on a marked key.
    fn mark(
        &mut self,
        mine: &[(ServerKey, Reach)],
        marks: &mut Marks,
        kept: &mut BTreeSet<PortKey>,
    ) -> Option<u32> {
        let marked: Vec<ServerKey> = mine
            .iter()
            .filter(|(_, reach)| reach.is_marked(self.service))
            .map(|(key, _)| *key)
            .collect();
        if marked.is_empty() {
            return None;
        }
        let key: PortKey = (
            self.service.key.clone(),
            self.port.name.clone(),
            self.port.port,
            self.port.protocol,
        );
        kept.insert(key.clone());
        let mark = marks.give(key, &marked, self.cx.held);
        if mark.is_none() {
            self.out.unmarked = true;
            self.out.status.problems.push(format!(
                "Service {}, port {}/{:?}: all firewall marks are in use, so that pods and this node reach only its endpoints on \
                 this node: have fewer Services with externalTrafficPolicy Local",
                self.service.key, self.port.port, self.port.protocol
            ));
        }
        mark
    }

    /// One virtual server on an address, and its elements.
    fn server(
        &mut self,
        key: ServerKey,
        reach: Reach,
        family: Family,
        selection: &Selection<'_>,
        mark: Option<u32>,
    ) -> ServerStatus {
        let (state, service) = (self.cx.state, self.service);
        let proxy = state.proxy();
        let policy = reach.policy(service);
        let treatment = policy::treat(reach, service, selection, family, proxy.masquerade_all);
        let server = ipvs::ordinary(key, &proxy.scheduler, service.affinity_seconds);
        let reals = policy::real_servers(selection, policy, key.2);
        let elements = &mut self.out.elements;
        elements.insert(nft::class(key, treatment.class));
        elements.insert(nft::masquerade(key, treatment.masquerade));
        if let Some(mark) = mark.filter(|_| reach.is_marked(service)) {
            elements.insert(nft::mark(key, mark));
            let sticky = service.affinity_seconds.is_some();
            let all = ipvs::marked(mark, family, &proxy.scheduler, sticky);
            self.out
                .servers
                .entry(all.id)
                .or_insert((all, BTreeMap::new()));
        }
        if reach == Reach::LoadBalancer {
            elements.extend(nft::source_ranges(key, &service.source_ranges));
        }
        // An address of the node itself stays where it is.
        if reach != Reach::NodePort && !state.is_own_address(key.0) {
            elements.insert(nft::vip(key.0));
            self.out.addresses.insert(key.0);
        }
        self.out.servers.insert(server.id, (server, reals));
        ServerStatus {
            addr: (key.0, key.1).into(),
            policy,
            refused: treatment.refused,
            holder: None,
        }
    }

    /// What the addresses of a family share: the server behind the mark, and hairpins.
    fn shared(&mut self, family: Family, selection: &Selection<'_>, mark: Option<u32>) {
        let all = mark.map(|mark| crate::kernel::VirtualServerId::Fwmark { mark, family });
        if let Some((_, reals)) = all.and_then(|id| self.out.servers.get_mut(&id)) {
            let cluster = ferrolb_api::view::TrafficPolicy::Cluster;
            *reals = policy::real_servers(selection, cluster, self.port.protocol);
        }
        let local = selection
            .cluster
            .iter()
            .chain(&selection.local)
            .filter(|t| t.local);
        let pods = local.filter(|t| !self.cx.state.is_own_address(t.addr.ip()));
        self.out
            .elements
            .extend(pods.map(|t| nft::hairpin(t.addr.ip())));
    }

    fn endpoints(&self, selection: &Selection<'_>) -> Vec<EndpointStatus> {
        let all: BTreeMap<_, &Target<'_>> = selection
            .cluster
            .iter()
            .chain(&selection.local)
            .chain(&selection.draining)
            .map(|t| (t.addr, t))
            .collect();
        all.into_values()
            .map(|target| EndpointStatus {
                addr: target.addr,
                node: target.endpoint.node.clone(),
                internal: endpoint_reason(selection, self.service.internal_policy, target),
                external: endpoint_reason(selection, self.service.external_policy, target),
            })
            .collect()
    }
}
