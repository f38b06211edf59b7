//! `ferrolb node`: a source, the authority over addresses, the proxy and the speaker, wired together.

pub(crate) mod authority;
mod identity;
pub(crate) mod observed;
mod parts;
mod report;
mod run;
mod socket;
mod standalone;
mod tell;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use authority::Authority;
use ferrolb_api::change::Change;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::proxy_config::ProxyConfig;
use ferrolb_controller::state::Settings;
use ferrolb_controller::store::DirStore;
use ferrolb_source::Source;
use ferrolb_source::cluster::{ClusterSource, Resources, Settings as ClusterSettings};
use ferrolb_source::files::{FilesSource, Settings as FilesSettings};
use ipnet::{IpNet, Ipv4Net};
use kube::Client;
use observed::Observed;
use standalone::Standalone;
use tell::Desk;
use tell::events::publish::Publisher;
use tell::l2_status::write::Writer;
use tracing::{info, warn};

use crate::args::NodeArgs;
use crate::error::Error;
use crate::lock::StateLock;

/// Where `ferrolb status` looks for a node.
pub(crate) const DEFAULT_SOCKET: &str = "/run/ferrolb/node.sock";

/// Where ClusterIPs come from without an API server: kubeadm's default.
const DEFAULT_SERVICE_CIDR: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12);

/// Runs a node until SIGTERM or SIGINT.
pub(crate) fn main(args: &NodeArgs) -> Result<(), Error> {
    crate::log::init(args.log_json);
    check(args)?;
    let _lock = StateLock::take(&args.state)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Error::failed)?;
    let ended = runtime.block_on(start(args));
    // A folder on a file system that hangs must not keep the node from ending.
    runtime.shutdown_background();
    ended
}

/// What no parser of one argument sees.
fn check(args: &NodeArgs) -> Result<(), Error> {
    let place = |path: &Path| std::fs::canonicalize(path).ok();
    if let Some(state) = place(&args.state)
        && args.manifests.as_deref().and_then(place) == Some(state)
    {
        return Err(Error::Usage(
            "--state and --manifests name the same folder: what the node keeps is no manifest, give it a folder of its own".into(),
        ));
    }
    let v4 = args
        .service_cidr
        .iter()
        .filter(|net| net.addr().is_ipv4())
        .count();
    if v4 > 1 || args.service_cidr.len() - v4 > 1 {
        return Err(Error::Usage(
            "--service-cidr is given twice for one family: give at most one for IPv4 and one for IPv6".into(),
        ));
    }
    Ok(())
}

async fn start(args: &NodeArgs) -> Result<(), Error> {
    let given = args.config.as_deref().map(read_config).transpose()?;
    match &args.manifests {
        Some(folder) => from_files(args, folder, given).await,
        None => from_cluster(args, given).await,
    }
}

async fn from_files(
    args: &NodeArgs,
    folder: &Path,
    given: Option<ProxyConfig>,
) -> Result<(), Error> {
    let source = FilesSource::new(folder, FilesSettings::default()).map_err(Error::failed)?;
    let settings = Settings {
        class: args.cluster.class(),
        service_cidrs: service_cidrs(args),
    };
    let store = DirStore::open(&args.state).map_err(Error::failed)?;
    let boot = ferrolb_speaker::wire::key::random_u64().map_err(Error::failed)?;
    start_with(args, GivenConfig::new(source, given), None, |me| {
        Standalone::new(me, boot, settings, store).map_err(Error::failed)
    })
    .await
}

async fn from_cluster(args: &NodeArgs, given: Option<ProxyConfig>) -> Result<(), Error> {
    let kubeconfig = given.as_ref().and_then(|c| c.kubeconfig.clone());
    let access = args.cluster.access(kubeconfig.map(PathBuf::from));
    let connection = access.connect().await.map_err(Error::failed)?;
    info!(server = connection.server, "asking the API server");
    let mut watched = ClusterSettings::new(Resources::Node);
    watched.namespace.clone_from(&args.cluster.namespace);
    let source = ClusterSource::new(&connection.client, &watched);
    let settings = Settings {
        class: args.cluster.class(),
        service_cidrs: Vec::new(),
    };
    let client = Some(connection.client);
    start_with(args, GivenConfig::new(source, given), client, |me| {
        Ok(Observed::new(settings).on(me))
    })
    .await
}

/// The same for every source and authority: waits for the first batch, finds out who this node is, starts the parts.
async fn start_with<Src: Source, A: Authority>(
    args: &NodeArgs,
    mut source: Src,
    client: Option<Client>,
    authority: impl FnOnce(&str) -> Result<A, Error>,
) -> Result<(), Error> {
    let Some(first) = source.next().await else {
        return Ok(());
    };
    let config = first.changes.iter().find_map(|c| match c {
        Change::Upsert(Object::ProxyConfig(config)) => Some((**config).clone()),
        _ => None,
    });
    let host = nix::unistd::gethostname().map_err(Error::failed)?;
    let identity = identity::identify(
        args,
        config.as_ref(),
        &host.to_string_lossy(),
        &first.changes,
    )?;
    info!(node = identity.me, addresses = ?identity.addresses, members = identity.members.len(), "starting");
    if config
        .as_ref()
        .is_some_and(|c| !matches!(c.mode.as_str(), "" | "ipvs"))
    {
        warn!("the KubeProxyConfiguration asks for another mode; this proxy programs IPVS");
    }
    let authority = authority(&identity.me)?;
    let (socket, _file) =
        socket::StatusSocket::bind(&args.socket, args.socket_group.as_deref()).await?;
    let mut tasks = parts::Tasks::new();
    let parts = parts::start(args, &identity, config.unwrap_or_default(), &mut tasks).await?;
    let (ask, questions) = tokio::sync::mpsc::channel(16);
    tasks.spawn(async move {
        socket.serve(ask).await;
        Ok(())
    });
    let desk = client.map(|client| {
        let publisher = Publisher::start(client.clone(), &identity.me);
        let writer = Writer::start(client, &args.cluster.namespace, &identity.me);
        Desk::new(publisher, writer, Instant::now())
    });
    let node = run::Node {
        desk,
        source,
        authority,
        parts,
        questions,
        tasks,
        identity,
        proxy: args.proxy,
    };
    run::run(node, first).await
}

/// The ranges of ClusterIPs: where this node gives them, the API server's own default.
fn service_cidrs(args: &NodeArgs) -> Vec<IpNet> {
    if args.service_cidr.is_empty() && args.manifests.is_some() {
        return vec![IpNet::V4(DEFAULT_SERVICE_CIDR)];
    }
    args.service_cidr.clone()
}

/// A source with a configuration from elsewhere in place of the one in it.
struct GivenConfig<Src> {
    source: Src,
    /// What the source has is left out.
    replaces: bool,
    /// Until it is told.
    given: Option<ProxyConfig>,
}

impl<Src> GivenConfig<Src> {
    fn new(source: Src, given: Option<ProxyConfig>) -> Self {
        Self {
            source,
            replaces: given.is_some(),
            given,
        }
    }
}

impl<Src: Source> Source for GivenConfig<Src> {
    async fn next(&mut self) -> Option<ferrolb_api::change::Batch> {
        let mut batch = self.source.next().await?;
        if self.replaces {
            batch.changes.retain(|c| match c {
                Change::Upsert(object) => object.kind() != Kind::ProxyConfig,
                Change::Remove(kind, _) => *kind != Kind::ProxyConfig,
            });
        }
        let given = self.given.take().map(|c| Object::ProxyConfig(Box::new(c)));
        batch.changes.extend(given.map(Change::Upsert));
        Some(batch)
    }
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

/// Transport addresses for the speaker: none where the Node objects say them, so that it follows their changes.
fn listed(args: &NodeArgs, identity: &identity::Identity) -> BTreeMap<String, std::net::IpAddr> {
    if args.members.is_empty() && identity.members.len() > 1 {
        BTreeMap::new()
    } else {
        identity.members.clone()
    }
}
