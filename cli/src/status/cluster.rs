//! `ferrolb status --kubeconfig FILE`: the state of a whole cluster, as its API shows it.
//!
//! It lists once what the daemons watch. The announcers come from the ServiceL2Status objects that the nodes write, and the
//! reasons why no node announces a Service come from the events of the elected member. [`compose`] is pure.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrolb_api::ObjectKey;
use ferrolb_api::change::{Batch, Change};
use ferrolb_api::crd::l2_status::{self, L2Status};
use ferrolb_api::endpoints::EndpointIndex;
use ferrolb_api::family::Family;
use ferrolb_api::object::Object;
use ferrolb_api::problem::{Cause, Consequence, Problem, Subject};
use ferrolb_api::reason::Reason;
use ferrolb_api::refusal::Refusal;
use ferrolb_controller::cluster::lease;
use ferrolb_controller::state::Settings;
use ferrolb_node::authority::{Authority, Standing};
use ferrolb_node::observed::Observed;
use ferrolb_node::report::service::{Programmed, count, status};
use ferrolb_node::report::view::{AddressStatus, Agent, ClusterNode, ClusterStatus, ServiceStatus};
use ferrolb_source::Source;
use ferrolb_source::cluster::access::{Access, refusal};
use ferrolb_source::cluster::{ClusterSource, Resources, Settings as Watched, l2_status_kind};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};

use crate::args::StatusArgs;
use crate::error::Error;

/// The limit for the API server's first answer, and then for all lists.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often to check whether a list was refused.
const GLANCE: Duration = Duration::from_millis(200);
/// The reporting component of the nodes' events.
const TELLER: &str = "ferrolb-node";

/// Queries the API server.
pub(super) fn ask(args: &StatusArgs) -> Result<ClusterStatus, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::failed)?;
    runtime.block_on(gather(args))
}

async fn gather(args: &StatusArgs) -> Result<ClusterStatus, Error> {
    let file = args.kubeconfig.clone().flatten();
    let access = Access {
        usual: file.is_none(),
        kubeconfig: file,
        context: args.context.clone(),
        ..Access::default()
    };
    let connection = access.connect().await.map_err(Error::failed)?;
    let failed = |why: String| Error::ApiServer {
        server: connection.server.clone(),
        why,
    };
    // The source below waits for an unreachable server to return; a user of this command needs the answer at once.
    match tokio::time::timeout(PATIENCE, connection.client.apiserver_version()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(failed(refusal(&error, "get /version").to_string())),
        Err(_) => return Err(failed("it does not answer: it takes too long".to_owned())),
    }
    let first = lists(&connection.client, &args.namespace).await;
    let first = first.map_err(|missing| failed(missing.join("; ")))?;
    let mut found = Found {
        server: connection.server.clone(),
        ..Found::default()
    };
    let api = Api::namespaced_with(
        connection.client.clone(),
        &args.namespace,
        &l2_status_kind(),
    );
    match api.list(&ListParams::default()).await {
        Ok(list) => found.announcers = announcers(list.items),
        Err(error) => {
            let kind = "servicel2statuses.metallb.io";
            let refusal = refusal(&error, "list servicel2statuses.metallb.io").of_kind(kind);
            let consequence = Consequence::UnknownAnnouncers;
            found
                .problems
                .push(unknown("ServiceL2Status", refusal, consequence));
        }
    }
    match heartbeats(&connection.client).await {
        Ok(leases) => found.heartbeats = Some(leases),
        Err(error) => {
            let refusal = refusal(&error, "list leases.coordination.k8s.io");
            let problem = unknown("Lease", refusal, Consequence::UnknownAgents);
            found.problems.push(problem);
        }
    }
    match complaints(&connection.client).await {
        Ok(told) => found.told = told,
        Err(error) => {
            let refusal = refusal(&error, "list events");
            found
                .problems
                .push(unknown("Event", refusal, Consequence::UnknownReasons));
        }
    }
    let class = args.lb_class.clone().filter(|class| !class.is_empty());
    Ok(compose(first, found, class))
}

/// The problem that reports what is not shown because a list was refused.
fn unknown(kind: &str, refusal: Refusal, consequence: Consequence) -> Problem {
    Problem::new(Subject::titled(kind), Cause::Api { refusal }).so(consequence)
}

/// All lists, or which ones are missing.
async fn lists(client: &Client, namespace: &str) -> Result<Batch, Vec<String>> {
    let mut watched = Watched::new(Resources::Node);
    namespace.clone_into(&mut watched.namespace);
    let mut source = ClusterSource::new(client, &watched);
    let began = Instant::now();
    let mut refused = Vec::new();
    while began.elapsed() < PATIENCE {
        match tokio::time::timeout(GLANCE, source.next()).await {
            Ok(Some(first)) => return Ok(first),
            Ok(None) => break,
            Err(_) => {}
        }
        // Nobody grants a permission in the meantime; refusals of concurrent requests are reported together.
        let now = source.refusals();
        if !now.is_empty() && now == refused {
            return Err(refused);
        }
        refused = now;
    }
    Err(source.waits_for())
}

fn announcers(objects: Vec<DynamicObject>) -> BTreeMap<ObjectKey, Vec<(String, L2Status)>> {
    let mut announcers: BTreeMap<ObjectKey, Vec<(String, L2Status)>> = BTreeMap::new();
    for object in objects {
        if let Some(status) = L2Status::of(&object.data).filter(|status| !status.node.is_empty()) {
            let of_service = announcers.entry(status.service()).or_default();
            of_service.push((object.name_any(), status));
        }
    }
    announcers
}

/// The Lease of each node's agent, by node.
type Heartbeats = BTreeMap<String, Heartbeat>;

/// What a Lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Heartbeat {
    version: Option<String>,
    heard_seconds_ago: Option<u64>,
    /// The renewal still counts.
    fresh: bool,
}

async fn heartbeats(client: &Client) -> Result<Heartbeats, kube::Error> {
    let (label, value) = lease::LABEL;
    let of_agents = ListParams::default().labels(&format!("{label}={value}"));
    let leases = Api::<Lease>::all(client.clone()).list(&of_agents).await?;
    let now = Timestamp::now();
    Ok(leases
        .items
        .into_iter()
        .filter_map(|lease| pulse(lease, now))
        .collect())
}

/// The node of a Lease, and what it says.
fn pulse(lease: Lease, now: Timestamp) -> Option<(String, Heartbeat)> {
    let spec = lease.spec?;
    let annotations = lease.metadata.annotations.unwrap_or_default();
    let renewed = spec.renew_time.map(|at| now.duration_since(at.0).as_secs());
    // The clock of the other machine may be ahead.
    let ago = renewed.map(|seconds| u64::try_from(seconds).unwrap_or(0));
    let lasts = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
    let heartbeat = Heartbeat {
        version: annotations.get(lease::VERSION).cloned(),
        heard_seconds_ago: ago,
        fresh: ago.is_some_and(|ago| ago <= lasts),
    };
    Some((spec.holder_identity?, heartbeat))
}

/// By uid of a Service: why it is not served, as a node reported it.
type Complaints = BTreeMap<String, (Reason, String)>;

async fn complaints(client: &Client) -> Result<Complaints, kube::Error> {
    let of_nodes = ListParams::default().fields(&format!(
        "involvedObject.kind=Service,reportingComponent={TELLER}"
    ));
    let events = Api::<Event>::all(client.clone()).list(&of_nodes).await?;
    Ok(last_words(events.items))
}

/// The last event about a Service decides: if it is not a warning, there is no complaint.
fn last_words(mut events: Vec<Event>) -> Complaints {
    events.sort_by_key(|e| {
        let again = e.series.as_ref().and_then(|s| s.last_observed_time.clone());
        let times = (
            again.or(e.event_time.clone()),
            e.metadata.creation_timestamp.clone(),
        );
        (times.0.map(|t| t.0), times.1.map(|t| t.0))
    });
    let mut complaints = Complaints::new();
    for event in events {
        // A recreated Service has the same name as its predecessor, so only the uid identifies it.
        let Some(uid) = event.involved_object.uid else {
            continue;
        };
        let reason = event
            .reason
            .filter(|_| event.type_.as_deref() == Some("Warning"));
        let reason = reason.and_then(|reason| serde_json::from_value(reason.into()).ok());
        match reason {
            Some(reason) => complaints.insert(uid, (reason, event.message.unwrap_or_default())),
            None => complaints.remove(&uid),
        };
    }
    complaints
}

/// What was found in addition to the objects that the daemons watch.
#[derive(Debug, Default)]
struct Found {
    server: String,
    /// Name and status of the ServiceL2Status objects for each Service.
    announcers: BTreeMap<ObjectKey, Vec<(String, L2Status)>>,
    told: Complaints,
    /// `None`: they could not be read.
    heartbeats: Option<Heartbeats>,
    problems: Vec<Problem>,
}

fn compose(first: Batch, found: Found, class: Option<String>) -> ClusterStatus {
    let mut nodes: BTreeMap<String, usize> = BTreeMap::new();
    for change in &first.changes {
        if let Change::Upsert(Object::Node(node)) = change {
            nodes.insert(node.name.clone(), 0);
        }
    }
    let mut observed = Observed::new(Settings {
        class,
        ..Settings::default()
    });
    let mut slices = EndpointIndex::default();
    for change in &first.changes {
        if let Change::Upsert(Object::EndpointSlice(slice)) = change {
            slices.upsert(Arc::clone(slice));
        }
    }
    observed.source(first, Instant::now());
    // After the first batch these are all.
    let keys = observed.touched();
    let standings = keys
        .iter()
        .filter_map(|key| Some((key, observed.standing(key)?)));
    let services: Vec<ServiceStatus> = standings
        .map(|(key, standing)| service(key, &standing, &slices, &found))
        .collect();
    // A shared address counts once.
    let announced: BTreeSet<_> = services
        .iter()
        .flat_map(|s| &s.addresses)
        .filter_map(|a| Some((a.ip, a.node.as_ref()?)))
        .collect();
    for (_, node) in announced {
        *nodes.entry(node.clone()).or_default() += 1;
    }
    let nodes = nodes.into_iter();
    ClusterStatus {
        server: found.server,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        nodes: nodes
            .map(|(name, addresses)| node(name, addresses, found.heartbeats.as_ref()))
            .collect(),
        services,
        problems: observed
            .problems()
            .into_iter()
            .chain(found.problems)
            .collect(),
    }
}

fn node(name: String, addresses: usize, heartbeats: Option<&Heartbeats>) -> ClusterNode {
    let heartbeat = heartbeats.map(|all| all.get(&name));
    let known = heartbeat.flatten();
    ClusterNode {
        agent: match heartbeat {
            None => Agent::Unknown,
            Some(None) => Agent::None,
            Some(Some(heartbeat)) if heartbeat.fresh => Agent::Alive,
            Some(Some(_)) => Agent::Gone,
        },
        version: known.and_then(|h| h.version.clone()),
        heard_seconds_ago: known.and_then(|h| h.heard_seconds_ago),
        name,
        addresses,
    }
}

fn service(
    key: &ObjectKey,
    standing: &Standing,
    slices: &EndpointIndex,
    found: &Found,
) -> ServiceStatus {
    let view = &standing.service;
    let told = found.told.get(&view.uid);
    let about = found.announcers.get(key).map_or(&[][..], Vec::as_slice);
    let vips: Vec<AddressStatus> = view
        .vips()
        .map(|ip| {
            let mine = l2_status::name(&view.uid, Family::of(ip));
            let ours = Family::ALL.map(|f| l2_status::name(&view.uid, f));
            // MetalLB's own names of these objects do not contain the family.
            let announcer = about
                .iter()
                .find(|(name, _)| *name == mine)
                .or_else(|| about.iter().find(|(name, _)| !ours.contains(name)));
            let status = announcer.map(|(_, status)| status);
            let interfaces = status.into_iter().flat_map(|s| &s.interfaces);
            AddressStatus {
                ip,
                node: status.map(|s| s.node.clone()),
                interfaces: interfaces.map(|i| i.name.clone()).collect(),
                reason: match status {
                    Some(_) => Reason::Announced,
                    None => told.map_or(Reason::NoOwner, |(reason, _)| *reason),
                },
            }
        })
        .collect();
    let orphan = |orphan: &AddressStatus| match told {
        Some((reason, note)) => (*reason, note.clone()),
        None => (
            orphan.reason,
            format!(
                "no node says that it announces {}: `ferrolb status` on a node says why",
                orphan.ip
            ),
        ),
    };
    let programmed = Programmed::Unasked("each node says for itself whether it is in its kernel");
    let endpoints = count(slices, key, view, None);
    status(key, standing, vips, programmed, endpoints, orphan)
}
