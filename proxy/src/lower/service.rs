//! One plan as addresses, virtual servers and elements.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::annotations::{OWN_PREFIX, SCHEDULER};
use ferrolb_api::object::Kind;
use ferrolb_api::problem::{Cause, Problem, Subject};
use ferrolb_api::scheduler::Scheduler;
use ferrolb_api::view::{Protocol, TrafficPolicy};

use super::class;
use super::ipvs::{self, Reals, Servers, Wanted};
use super::marks::{Marks, PortKey};
use super::nft::{self, Item};
use crate::kernel::{Family, Observed};
use crate::plan::{Front, FrontKey, Place, PortPlan, Served, ServicePlan, Targets};

/// Everything that one Service needs in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoweredService {
    /// Addresses that must be local on this node.
    pub addresses: BTreeSet<IpAddr>,
    /// Virtual servers with their real servers.
    pub servers: Servers,
    /// Elements of sets and maps.
    pub elements: BTreeSet<Item>,
    /// Ports without a firewall mark because all are in use: number and protocol.
    pub unmarked: Vec<(u16, Protocol)>,
    /// The scheduler that it asks for and the kernel lacks, and the one that it has instead.
    pub lacks: Option<(Scheduler, Scheduler)>,
}

impl LoweredService {
    /// What the Service lacks because the kernel's resources are used up.
    pub fn problems(&self, key: &ObjectKey) -> impl Iterator<Item = Problem> {
        let subject = Subject::object_of(Kind::Service, key.clone());
        let about = subject.clone();
        let lacks = self.lacks.into_iter().map(move |(wanted, given)| {
            let name = wanted.name;
            let text = format!(
                "the kernel of this node has no IPVS scheduler {name}, so {given} is used: load it with `modprobe ip_vs_{name}`, or \
                 name another one"
            );
            Problem::new(about.clone(), Cause::Reported { text }).field(scheduler_field())
        });
        let unmarked = self.unmarked.iter().map(move |(port, protocol)| {
            let text = format!(
                "all firewall marks are in use. Pods and this node reach port {port}/{protocol} only on endpoints of this node. Have \
                 fewer Services with externalTrafficPolicy Local"
            );
            Problem::new(subject.clone(), Cause::Reported { text })
                .field("spec.externalTrafficPolicy")
        });
        lacks.chain(unmarked)
    }
}

/// Where a Service names its scheduler.
pub fn scheduler_field() -> String {
    format!("metadata.annotations[{OWN_PREFIX}{SCHEDULER}]")
}

/// The scheduler of all Services that name none, and those that this kernel lacks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedulers<'a> {
    pub(super) usual: Scheduler,
    pub(super) lacking: &'a BTreeSet<&'static str>,
}

/// Lowers the plan of one Service. `held` is the kernel's state, so that no mark is used twice.
pub(super) fn lower(
    key: &ObjectKey,
    plan: &ServicePlan,
    schedulers: Schedulers<'_>,
    marks: &mut Marks,
    held: &Observed,
) -> LoweredService {
    let usual = schedulers.usual;
    let lacks = plan
        .scheduler
        .filter(|s| *s != usual && schedulers.lacking.contains(s.name));
    let mut job = Job {
        key,
        plan,
        scheduler: match lacks {
            Some(_) => usual,
            None => plan.scheduler.unwrap_or(usual),
        },
        held,
        out: LoweredService {
            lacks: lacks.map(|wanted| (wanted, usual)),
            ..LoweredService::default()
        },
    };
    let mut kept = BTreeSet::new();
    for port in &plan.ports {
        let mark = job.mark(port, marks, &mut kept);
        for targets in &port.targets {
            job.family(port, targets, mark);
        }
    }
    marks.keep(key, &kept);
    job.out
}

struct Job<'a> {
    key: &'a ObjectKey,
    plan: &'a ServicePlan,
    scheduler: Scheduler,
    held: &'a Observed,
    out: LoweredService,
}

fn served(port: &PortPlan) -> impl Iterator<Item = (&Front, &Served)> {
    port.fronts.iter().filter_map(|f| Some((f, f.served()?)))
}

impl Job<'_> {
    /// The mark of the port, if it is served on a key that needs one.
    fn mark(
        &mut self,
        port: &PortPlan,
        marks: &mut Marks,
        kept: &mut BTreeSet<PortKey>,
    ) -> Option<u32> {
        let marked: Vec<FrontKey> = served(port)
            .filter(|(_, served)| served.inside_reaches_all)
            .map(|(front, _)| (front.addr, front.port, port.protocol))
            .collect();
        if marked.is_empty() {
            return None;
        }
        let key: PortKey = (
            self.key.clone(),
            port.name.clone(),
            port.port,
            port.protocol,
        );
        kept.insert(key.clone());
        let mark = marks.give(key, &marked, self.held);
        if mark.is_none() {
            self.out.unmarked.push((port.port, port.protocol));
        }
        mark
    }

    /// Adds the parts of a port for one family.
    fn family(&mut self, port: &PortPlan, targets: &Targets, mark: Option<u32>) {
        let family = targets.family;
        let mut made: BTreeMap<TrafficPolicy, (Reals, Arc<BTreeSet<SocketAddr>>)> = BTreeMap::new();
        let (plan, protocol) = (self.plan, port.protocol);
        let mut wanted = |policy: TrafficPolicy, server| {
            let parts = made.entry(policy).or_insert_with(|| {
                let reals = real_servers(plan, targets, policy, protocol);
                let stay = staying(plan, targets, policy, protocol, &reals);
                (reals, Arc::new(stay))
            });
            let (reals, stay) = parts.clone();
            Wanted {
                server,
                reals,
                stay,
            }
        };
        let of_family = served(port).filter(|(front, _)| Family::of(front.addr) == family);
        for (front, served) in of_family {
            let key = (front.addr, front.port, protocol);
            self.front(key, served, family);
            if let Some(mark) = mark.filter(|_| served.inside_reaches_all) {
                self.out.elements.insert(nft::mark(key, mark));
                let all = ipvs::marked(mark, family, self.scheduler, plan.affinity.is_some());
                let servers = self.out.servers.entry(all.id);
                servers.or_insert_with(|| wanted(TrafficPolicy::Cluster, all));
            }
            let server = ipvs::ordinary(key, self.scheduler, plan.affinity);
            let id = server.id;
            self.out.servers.insert(id, wanted(front.policy, server));
        }
        let set = plan.backends.get(targets.set).into_iter().flatten();
        let used = set.filter(|b| {
            let roles = [b.cluster, b.local];
            roles.iter().any(|role| role.weight.is_some_and(|w| w > 0))
        });
        let pods = used.filter(|b| b.place == Place::Here);
        let hairpins = pods.map(|b| nft::hairpin(b.addr.ip()));
        self.out.elements.extend(hairpins);
    }

    fn front(&mut self, key: FrontKey, served: &Served, family: Family) {
        let elements = &mut self.out.elements;
        elements.insert(nft::class(key, class::verdict(served, family)));
        elements.insert(nft::masquerade(key, class::masquerade(served, family)));
        if let Some(ranges) = &served.sources {
            elements.extend(nft::source_ranges(key, ranges));
        }
        if served.bind {
            elements.insert(nft::vip(key.0));
            self.out.addresses.insert(key.0);
        }
    }
}

/// The real servers under a policy. Only TCP connections have an end, so only there does it make sense to keep a server that
/// takes no new connections.
fn real_servers(
    plan: &ServicePlan,
    targets: &Targets,
    policy: TrafficPolicy,
    protocol: Protocol,
) -> Reals {
    let set = plan.backends.get(targets.set).into_iter().flatten();
    let reals = set.filter_map(|backend| {
        let weight = backend.role(policy).weight?;
        let keeps = weight > 0 || protocol == Protocol::Tcp;
        let addr = targets.numbers.resolve(backend.addr, backend.list);
        keeps.then(|| (addr, ipvs::real(addr, weight, backend.way)))
    });
    reals.collect()
}

/// The endpoints that only the other policy uses. Their TCP connections continue when this policy is switched on.
fn staying(
    plan: &ServicePlan,
    targets: &Targets,
    policy: TrafficPolicy,
    protocol: Protocol,
    reals: &Reals,
) -> BTreeSet<SocketAddr> {
    if protocol != Protocol::Tcp {
        return BTreeSet::new();
    }
    let set = plan.backends.get(targets.set).into_iter().flatten();
    let present = set.filter(|backend| {
        let roles = [backend.cluster, backend.local];
        backend.role(policy).weight.is_none() && roles.iter().any(|role| role.weight.is_some())
    });
    let present = present.map(|b| targets.numbers.resolve(b.addr, b.list));
    present.filter(|addr| !reals.contains_key(addr)).collect()
}
