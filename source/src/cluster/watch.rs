//! One watch: the request, decoding of the answers, failures as sentences, and the pauses between attempts.

use std::time::{Duration, Instant};

use ferrolb_api::object::Kind;
use ferrolb_api::refusal::Refusal;
use ferrolb_api::{Backoff, ObjectKey};
use futures_util::StreamExt;
use kube::core::ApiResource;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Error as WatchError, Event};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;

use super::Right;
use super::access::{self, refused, unanswered};
use super::merge::News;
use super::object::Watched;
use crate::decode::{self, METALLB_NAMESPACE};

/// Which set of kinds to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resources {
    /// What determines the assignment of addresses: Services, pools, Namespaces, whose labels pools select, and
    /// Nodes, whose addresses no Service gets.
    Controller,
    /// What a node needs in addition: EndpointSlices, advertisements.
    Node,
}

/// What to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which kinds.
    pub resources: Resources,
    /// Namespace of MetalLB's objects.
    pub namespace: String,
}

impl Settings {
    /// Watches MetalLB's objects in its default namespace.
    pub fn new(resources: Resources) -> Self {
        Self {
            resources,
            namespace: METALLB_NAMESPACE.to_owned(),
        }
    }
}

/// One kind to watch.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) kind: Kind,
    resource: ApiResource,
    /// The only namespace; `None`: all namespaces, or a cluster-scoped kind.
    namespace: Option<String>,
    /// The only object, by its name.
    only: Option<&'static str>,
    config: Config,
    /// Namespace of MetalLB's objects.
    metallb: String,
}

/// The timeout that a watch requests. If one is silent for longer, `kube`'s watcher restarts it 5 s later.
const WATCH_SECONDS: u32 = 120;

pub(super) fn resources(settings: &Settings) -> Vec<Resource> {
    let one =
        |kind, group: &str, version: &str, name: &str, plural: &str, namespaced: bool| Resource {
            kind,
            resource: ApiResource {
                group: group.to_owned(),
                version: version.to_owned(),
                api_version: match group {
                    "" => version.to_owned(),
                    group => format!("{group}/{version}"),
                },
                kind: name.to_owned(),
                plural: plural.to_owned(),
            },
            namespace: namespaced.then(|| settings.namespace.clone()),
            only: None,
            config: Config::default().timeout(WATCH_SECONDS),
            metallb: settings.namespace.clone(),
        };
    let metallb = "metallb.io";
    let mut all = vec![
        one(Kind::Service, "", "v1", "Service", "services", false),
        one(Kind::Node, "", "v1", "Node", "nodes", false),
        one(Kind::Namespace, "", "v1", "Namespace", "namespaces", false),
        one(
            Kind::ServiceCidr,
            "networking.k8s.io",
            "v1",
            "ServiceCIDR",
            "servicecidrs",
            false,
        ),
        one(
            Kind::IpAddressPool,
            metallb,
            "v1beta1",
            "IPAddressPool",
            "ipaddresspools",
            true,
        ),
    ];
    let mut legacy = one(
        Kind::LegacyConfig,
        "",
        "v1",
        "ConfigMap",
        "configmaps",
        true,
    );
    // With this selector, the permission to read a single ConfigMap is enough to list it.
    let name = "config";
    legacy.only = Some(name);
    legacy.config = legacy.config.fields(&format!("metadata.name={name}"));
    all.push(legacy);
    if settings.resources == Resources::Node {
        let slices = "discovery.k8s.io";
        let mut slices = one(
            Kind::EndpointSlice,
            slices,
            "v1",
            "EndpointSlice",
            "endpointslices",
            false,
        );
        // A proxy does nothing for headless Services (this is kube-proxy's selector).
        slices.config = slices.config.labels("!service.kubernetes.io/headless");
        all.push(slices);
        all.push(one(
            Kind::L2Advertisement,
            metallb,
            "v1beta1",
            "L2Advertisement",
            "l2advertisements",
            true,
        ));
    }
    all
}

/// How long a kind must be unknown before it counts as missing: a starting API server knows only its own kinds at first.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);

/// A resumed watch is silent until the first change, so only a period without failure shows that it works. This is longer than
/// the longest pause between two attempts plus the limit for a connection.
const RECOVERED: Duration = Duration::from_secs(25);

/// Watches until the receiver is dropped.
pub(super) async fn follow(
    client: Client,
    resource: Resource,
    number: usize,
    tell: mpsc::Sender<(usize, News)>,
) {
    let api: Api<Watched> = match &resource.namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource.resource),
        None => Api::all_with(client, &resource.resource),
    };
    let events = watcher::watcher(api, resource.config.clone()).backoff(Patience::default());
    let mut events = std::pin::pin!(events);
    let mut unknown: Option<Instant> = None;
    let mut failing = false;
    loop {
        let quiet = if failing { RECOVERED } else { Duration::MAX };
        let event = match tokio::time::timeout(quiet, events.next()).await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(_) => {
                failing = false;
                if tell.send((number, News::Recovered)).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let news = match event {
            Ok(event) => {
                // The watcher announces a list before it requests it.
                if !matches!(event, Event::Init) {
                    unknown = None;
                }
                resource.news(event)
            }
            Err(error) => {
                failing = true;
                let why = refusal(&error, &resource);
                if matches!(why, Refusal::UnknownKind { .. }) {
                    let since = *unknown.get_or_insert_with(Instant::now);
                    if since.elapsed() >= UNKNOWN_FOR {
                        News::Unknown(why)
                    } else {
                        News::Failed(why)
                    }
                } else {
                    unknown = None;
                    News::Failed(why)
                }
            }
        };
        if tell.send((number, news)).await.is_err() {
            return;
        }
    }
}

impl Resource {
    pub(super) fn right(&self) -> Right {
        Right {
            group: self.resource.group.clone(),
            resource: self.resource.plural.clone(),
            namespace: self.namespace.clone(),
            name: self.only.map(str::to_owned),
        }
    }

    fn news(&self, event: Event<Watched>) -> News {
        match event {
            Event::Init => News::ListBegins,
            Event::InitApply(object) => {
                let (key, decoded) = self.decode(object);
                News::Listed(key, decoded)
            }
            Event::InitDone => News::ListEnds,
            Event::Apply(object) => {
                let (key, decoded) = self.decode(object);
                News::Applied(key, decoded)
            }
            Event::Delete(object) => News::Deleted(key(&object)),
        }
    }

    fn decode(&self, object: Watched) -> (ObjectKey, Box<decode::Decoded>) {
        let key = key(&object);
        let tree = object.tree(&self.resource);
        let decoded = decode::object_with(&tree, "default", &self.metallb);
        (key, Box::new(decoded))
    }
}

fn key(object: &Watched) -> ObjectKey {
    ObjectKey::new(object.namespace().unwrap_or_default(), object.name_any())
}

/// Why the watch failed.
fn refusal(error: &WatchError, resource: &Resource) -> Refusal {
    let plural = &resource.resource.plural;
    let of_group = match resource.resource.group.as_str() {
        "" => plural.clone(),
        group => format!("{plural}.{group}"),
    };
    match error {
        WatchError::InitialListFailed(kube::Error::Api(status))
        | WatchError::WatchStartFailed(kube::Error::Api(status))
        | WatchError::WatchFailed(kube::Error::Api(status))
        | WatchError::WatchError(status) => {
            let place = resource.namespace.as_ref();
            let place = place.map(|n| format!(" in namespace {n}"));
            let place = place.unwrap_or_default();
            refused(status, &format!("list and watch {of_group}{place}")).of_kind(&of_group)
        }
        WatchError::InitialListFailed(inner)
        | WatchError::WatchStartFailed(inner)
        | WatchError::WatchFailed(inner) => access::refusal(inner, ""),
        other => unanswered(other),
    }
}

/// The pause between two attempts, with random jitter so that the nodes of a cluster do not all return at once when the server is
/// back. After a quiet minute, the pauses start again from the shortest.
#[derive(Debug)]
struct Patience {
    backoff: Backoff,
    last: Option<Instant>,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(8)),
            last: None,
        }
    }
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self
            .last
            .is_some_and(|last| now - last > Duration::from_secs(60))
        {
            self.backoff.reset();
        }
        self.last = Some(now);
        // Each hasher of the standard library has a different key.
        let chance = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), now);
        Some(self.backoff.next(chance))
    }
}

impl kube::runtime::utils::Backoff for Patience {
    /// Called before every attempt to list, whatever its result: a watcher announces a list before it requests it. So only a
    /// quiet minute resets the pauses.
    fn reset(&mut self) {}
}
