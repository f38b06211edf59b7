//! `ferrolb node`: the files source, the standalone allocation, the proxy and the speaker, wired together.

mod authority;
mod identity;
mod parts;
mod report;
mod run;
mod socket;
mod standalone;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use ferrolb_api::object::{Kind, Object};
use ferrolb_api::proxy_config::ProxyConfig;
use ferrolb_api::source::files::{FilesSource, Settings as FilesSettings};
use ferrolb_api::source::{Change, Source};
use ferrolb_controller::state::Settings;
use ferrolb_controller::store::DirStore;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::args::NodeArgs;
use crate::error::Error;
use crate::lock::StateLock;
use standalone::Standalone;

/// Where `ferrolb status` looks for a node.
pub(crate) const DEFAULT_SOCKET: &str = "/run/ferrolb/node.sock";

/// Runs a node until SIGTERM or SIGINT.
pub(crate) fn main(args: &NodeArgs) -> Result<(), Error> {
    log(args.log_json);
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
        && place(&args.manifests) == Some(state)
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
    let source =
        FilesSource::new(&args.manifests, FilesSettings::default()).map_err(Error::failed)?;
    let mut source = GivenConfig {
        source,
        replaces: given.is_some(),
        given,
    };
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
    let settings = Settings {
        class: None,
        service_cidrs: args.service_cidr.clone(),
    };
    let store = DirStore::open(&args.state).map_err(Error::failed)?;
    let boot = ferrolb_speaker::wire::key::random_u64().map_err(Error::failed)?;
    let standalone = Standalone::new(&identity.me, boot, settings, store).map_err(Error::failed)?;
    let (socket, _file) =
        socket::StatusSocket::bind(&args.socket, args.socket_group.as_deref()).await?;
    let mut tasks = parts::Tasks::new();
    let parts = parts::start(args, &identity, config.unwrap_or_default(), &mut tasks).await?;
    let (ask, questions) = tokio::sync::mpsc::channel(16);
    tasks.spawn(async move {
        socket.serve(ask).await;
        Ok(())
    });
    let node = run::Node {
        source,
        authority: standalone,
        parts,
        questions,
        tasks,
        identity,
        proxy: args.proxy,
    };
    run::run(node, first).await
}

/// The folder, with a configuration from elsewhere in place of the one in it.
struct GivenConfig {
    source: FilesSource,
    /// What the folder has is left out.
    replaces: bool,
    /// Until it is told.
    given: Option<ProxyConfig>,
}

impl Source for GivenConfig {
    async fn next(&mut self) -> Option<ferrolb_api::source::Batch> {
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
        ProxyConfig::parse_file(&path.display().to_string(), &text).map_err(Error::failed)?;
    for problem in problems {
        warn!("{problem}");
    }
    Ok(config)
}

fn log(json: bool) {
    let filter = EnvFilter::try_from_env("FERROLB_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if json {
        log.json().init();
    } else {
        log.with_ansi(false).init();
    }
}

/// Transport addresses for the speaker: none where the Node objects say them, so that it follows their changes.
fn listed(args: &NodeArgs, identity: &identity::Identity) -> BTreeMap<String, std::net::IpAddr> {
    if args.members.is_empty() && identity.members.len() > 1 {
        BTreeMap::new()
    } else {
        identity.members.clone()
    }
}
