//! Starts `ferrolb node`: connects a source, the authority over addresses, the proxy and the speaker.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Instant;

use ferrolb_api::change::Change;
use ferrolb_api::object::Object;
use ferrolb_api::proxy_config::{DetectLocal, ProxyConfig};
use ferrolb_controller::cluster::lease::Found;
use ferrolb_controller::state::Settings;
use ferrolb_source::Source;
use ferrolb_source::cluster::requests::Requests;
use ferrolb_source::cluster::{ClusterSource, Resources, Settings as ClusterSettings, api_server};
use ferrolb_source::files::{FilesSource, Settings as FilesSettings};
use ferrolb_source::memory;
use ipnet::{IpNet, Ipv4Net};
use kube::Client;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::answers::Answers;
use crate::authority::Authority;
use crate::config::{Config, ProxyMode};
use crate::error::Error;
use crate::given::GivenConfig;
use crate::health::Doctor;
use crate::identity::Host;
use crate::lock::StateLock;
use crate::metrics::{self, Counted, Exporter};
use crate::observed::Observed;
use crate::publish::events::publish::Publisher;
use crate::publish::l2_status::write::Writer;
use crate::publish::{Desk, heartbeat};
use crate::report::book::Book;
use crate::standalone::Standalone;
use crate::store::{Background, DirStore};
use crate::{identity, parts, run as node_loop, socket, waiting};

/// The range of ClusterIPs without an API server: kubeadm's default.
const DEFAULT_SERVICE_CIDR: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12);

/// Runs a node until SIGTERM or SIGINT.
pub fn run(args: &Config) -> Result<(), Error> {
    check(args)?;
    let _lock = StateLock::take(&args.state)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Error::failed)?;
    let ended = runtime.block_on(start(args));
    // A directory on a file system that hangs must not keep the node from ending.
    runtime.shutdown_background();
    ended
}

/// Checks what the parser cannot check one argument at a time.
pub(crate) fn check(args: &Config) -> Result<(), Error> {
    let place = |path: &Path| std::fs::canonicalize(path).ok();
    if let Some(state) = place(&args.state)
        && args.manifests.as_deref().and_then(place) == Some(state)
    {
        return Err(Error::Usage(
            "--state and --manifests name the same folder: what the node keeps is no manifest, give it a folder of its own".into(),
        ));
    }
    let v4 = args
        .service_cidrs
        .iter()
        .filter(|net| net.addr().is_ipv4())
        .count();
    if v4 > 1 || args.service_cidrs.len() - v4 > 1 {
        return Err(Error::Usage(
            "--service-cidr is given twice for one family: give at most one for IPv4 and one for IPv6".into(),
        ));
    }
    Ok(())
}

async fn start(args: &Config) -> Result<(), Error> {
    tokio::spawn(memory::tend());
    let given = match (&args.proxy_config, &args.proxy_flags) {
        (Some(file), _) => Some(read_config(file)?),
        (None, Some(flags)) => Some(read_flags(flags)?),
        (None, None) => None,
    };
    match &args.manifests {
        Some(folder) => from_files(args, folder, given).await,
        None => from_cluster(args, given).await,
    }
}

async fn from_files(args: &Config, folder: &Path, given: Option<ProxyConfig>) -> Result<(), Error> {
    let source = FilesSource::new(folder, FilesSettings::default()).map_err(Error::failed)?;
    let settings = Settings {
        class: args.class.clone(),
        service_cidrs: service_cidrs(args),
        api_servers: args.protected.clone(),
    };
    let disk = DirStore::open(&args.state).map_err(Error::failed)?;
    let store = Background::start(disk).map_err(Error::failed)?;
    let boot = ferrolb_speaker::wire::key::random_u64().map_err(Error::failed)?;
    start_with(args, GivenConfig::new(source, given), None, |me| {
        Standalone::new(me, boot, settings, store).map_err(Error::failed)
    })
    .await
}

async fn from_cluster(args: &Config, given: Option<ProxyConfig>) -> Result<(), Error> {
    let kubeconfig = given.as_ref().and_then(|c| c.kubeconfig.clone());
    let mut access = args.access.clone();
    access.proxy_kubeconfig = kubeconfig.map(PathBuf::from);
    let connection = access.connect().await.map_err(Error::failed)?;
    info!(server = connection.server, "connecting to the API server");
    let mut watched = ClusterSettings::new(Resources::Node);
    watched.namespace.clone_from(&args.namespace);
    let source = ClusterSource::new(&connection.client, &watched);
    let found = watch::Sender::default();
    let cluster = Some(Cluster {
        client: connection.client,
        requests: connection.requests,
        found: found.subscribe(),
    });
    let mut args = args.clone();
    let named = args.access.server.clone();
    for url in std::iter::once(connection.server).chain(named) {
        args.protected.extend(api_server::addresses(&url).await);
    }
    let settings = Settings {
        class: args.class.clone(),
        api_servers: args.protected.clone(),
        ..Settings::default()
    };
    start_with(&args, GivenConfig::new(source, given), cluster, |me| {
        Ok(Observed::new(settings).on(me).telling(found))
    })
    .await
}

/// The API server of a node.
struct Cluster {
    client: Client,
    requests: Requests,
    found: watch::Receiver<Found>,
}

/// The steps that are the same for every source and authority: waits for the first batch, determines which node this is, and
/// starts the parts.
async fn start_with<Src: Source, A: Authority>(
    args: &Config,
    mut source: Src,
    cluster: Option<Cluster>,
    authority: impl FnOnce(&str) -> Result<A, Error>,
) -> Result<(), Error> {
    let (socket, _file) =
        socket::StatusSocket::bind(&args.socket, args.socket_group.as_deref()).await?;
    let (ask, mut questions) = tokio::sync::mpsc::channel(16);
    let mut tasks = parts::Tasks::new();
    tasks.spawn(async move {
        socket.serve(ask).await;
        Ok(())
    });
    let name = nix::unistd::gethostname().map_err(Error::failed)?;
    let name = name.to_string_lossy().into_owned();
    let me = args.node_name.as_ref().unwrap_or(&name);
    let first = waiting::first(&mut source, &mut questions, me, args.proxy).await;
    let Some(first) = first else {
        return Ok(());
    };
    let config = first.changes.iter().find_map(|c| match c {
        Change::Upsert(Object::ProxyConfig(config)) => Some((**config).clone()),
        _ => None,
    });
    let host = Host {
        name,
        address: args.manifests.as_ref().and_then(|_| default_address()),
    };
    let identity = identity::identify(args, config.as_ref(), &host, &first.changes)?;
    identity::on_this_machine(args, &identity.me, &local_addresses()?)?;
    info!(node = identity.me, addresses = ?identity.addresses, members = identity.membership.members().len(), "starting");
    if config
        .as_ref()
        .is_some_and(|c| !matches!(c.mode.as_str(), "" | "ipvs"))
    {
        warn!("the KubeProxyConfiguration asks for another mode; this proxy programs IPVS");
    }
    // Beside another proxy, that configuration is the other one's.
    let ours = args.proxy == ProxyMode::Ipvs;
    let healthz = config.as_ref().and_then(|c| c.healthz).filter(|_| ours);
    let healthz = args.healthz.or(healthz);
    let doctor = Doctor::at(healthz);
    let authority = authority(&identity.me)?;
    let config = config.unwrap_or_default();
    if ours {
        // The words that kube-proxy's users search the log for.
        let detector = match &config.detect_local {
            DetectLocal::ClusterCidr if config.cluster_cidrs.is_empty() => {
                "none, because clusterCIDR is not set".to_owned()
            }
            detector => detector.to_string(),
        };
        info!(mode = "ipvs", scheduler = %config.scheduler, detector, "Using ipvs Proxier");
    }
    let parts = parts::start(args, &identity, config.clone(), &mut tasks).await?;
    let metrics = config.metrics.or_else(|| metrics::USUAL.parse().ok());
    let metrics = args.metrics.or(metrics.filter(|_| ours));
    let exporter = metrics.filter(|at| at.port() != 0).map(|at| {
        let counted = Counted {
            meter: parts.proxy.as_ref().map(|p| &p.meter),
            speaker: parts.speaker.snapshot.clone(),
            questions: doctor.questions(),
            requests: cluster.as_ref().map(|cluster| &cluster.requests),
        };
        let mode = args.proxy.name();
        Exporter::new(at, healthz, counted, mode, &config)
    });
    let desk = cluster.map(|cluster| {
        let Cluster { client, found, .. } = cluster;
        if let Some(agents) = &args.agents {
            let uid = identity.uid.clone();
            heartbeat::start(client.clone(), &agents.namespace, &identity.me, uid, found);
        }
        let publisher = Publisher::start(client.clone(), &identity.me);
        let writer = Writer::start(client, &args.namespace, &identity.me);
        Desk::new(publisher, writer, Instant::now())
    });
    let node = node_loop::Node {
        answers: Answers::default(),
        book: Book::new(&identity.me, parts.proxy.is_some()),
        desk,
        doctor,
        exporter,
        source,
        authority,
        parts,
        questions,
        tasks,
        identity,
        has_key: args.key_file.is_some(),
        proxy: args.proxy,
    };
    node_loop::run(node, first).await
}

/// The address from which this machine sends by its default route. Connecting a datagram socket only looks up the route.
fn default_address() -> Option<IpAddr> {
    let from = |any: IpAddr, far: IpAddr| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((far, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    // The networks for documentation (RFC 5737, RFC 3849) are nobody's, so only a default route leads there.
    let v4 = from(
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv4Addr::new(203, 0, 113, 1).into(),
    );
    let far = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    v4.or_else(|| from(Ipv6Addr::UNSPECIFIED.into(), far.into()))
}

/// The addresses of this machine's interfaces.
fn local_addresses() -> Result<Vec<IpAddr>, Error> {
    let interfaces = nix::ifaddrs::getifaddrs().map_err(Error::failed)?;
    let addresses = interfaces.filter_map(|i| {
        let address = i.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    });
    Ok(addresses.collect())
}

/// The ranges of ClusterIPs. If this node assigns ClusterIPs, the default is the same as an API server's.
pub(crate) fn service_cidrs(args: &Config) -> Vec<IpNet> {
    if args.service_cidrs.is_empty() && args.manifests.is_some() {
        return vec![IpNet::V4(DEFAULT_SERVICE_CIDR)];
    }
    args.service_cidrs.clone()
}

fn read_config(path: &Path) -> Result<ProxyConfig, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })?;
    let (config, problems) =
        ferrolb_source::proxy_config::parse_file(&path.display().to_string(), &text)
            .map_err(Error::failed)?;
    for problem in problems {
        warn!("{problem}");
    }
    Ok(config)
}

/// Where a configuration that is made of flags comes from, for messages.
const FLAGS: &str = "the flags";

fn read_flags(flags: &serde_json::Value) -> Result<ProxyConfig, Error> {
    let read = ferrolb_source::proxy_config::parse(&flags.to_string());
    let (config, problems) = read.map_err(|problem| Error::Usage(problem.at(FLAGS).to_string()))?;
    for problem in problems {
        warn!("{}", problem.at(FLAGS));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_mistake_in_a_flag_of_kube_proxy_is_a_mistake_in_the_arguments() {
        let flags = |scheduler: &str| {
            serde_json::json!({
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "mode": "ipvs",
                "ipvs": {"scheduler": scheduler},
            })
        };
        assert_eq!(read_flags(&flags("wlc")).unwrap().scheduler.name, "wlc");
        let error = read_flags(&flags("foo")).unwrap_err();
        let Error::Usage(text) = error else {
            panic!("{error}");
        };
        assert!(
            text.starts_with(
                "the flags: KubeProxyConfiguration: ipvs.scheduler: \"foo\" is unknown"
            ),
            "{text}"
        );
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused_before_anything_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let mut same = Config::new(dir.path().join("."));
        same.manifests = Some(dir.path().to_owned());
        let same = check(&same).unwrap_err().to_string();
        assert!(
            same.starts_with("--state and --manifests name the same folder"),
            "{same}"
        );
        let mut twice = Config::new(dir.path().join("s"));
        twice.service_cidrs = ["10.96.0.0/12", "10.0.0.0/16"]
            .map(|c| c.parse().unwrap())
            .into();
        let twice = check(&twice).unwrap_err().to_string();
        assert!(
            twice.starts_with("--service-cidr is given twice for one family"),
            "{twice}"
        );
    }
}
