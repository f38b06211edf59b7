//! Starts a node's proxy and speaker, and keeps this side of their channels.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Batch;
use ferrolb_api::delta;
use ferrolb_api::problem::Problem;
use ferrolb_api::proxy_config::ProxyConfig;
use ferrolb_proxy::config::Config as ProxySettings;
use ferrolb_proxy::kernel::real::{LinuxConfig, LinuxKernel};
use ferrolb_proxy::kernel::table::table;
use ferrolb_proxy::meter::Meter;
use ferrolb_proxy::snapshot::{ServiceStatus as Proxied, Snapshot as ProxySnapshot};
use ferrolb_speaker::message::NodeName;
use ferrolb_speaker::run::{Config as SpeakerSettings, Wiring};
use ferrolb_speaker::snapshot::{Address, Snapshot as SpeakerSnapshot};
use ferrolb_speaker::timers::Timers;
use ferrolb_speaker::wire::key::Key;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::warn;

use crate::config::{Config, ProxyMode};
use crate::error::Error;
use crate::identity::Identity;
use crate::membership::Members;
use crate::start::service_cidrs;
use crate::{key_file, thread};

/// How many changes may wait for a daemon before the sender has to wait too.
const QUEUE: usize = 64;

/// What runs beside the node's loop. When one of these tasks ends, the node ends.
pub(crate) type Tasks = JoinSet<Result<(), Error>>;

/// The node's proxy.
pub(crate) struct ProxyPart {
    pub(crate) batches: mpsc::Sender<Batch>,
    /// The status of Services, as changes.
    pub(crate) services: delta::Receiver<ObjectKey, Arc<Proxied>>,
    pub(crate) snapshot: watch::Receiver<ProxySnapshot>,
    pub(crate) stop: oneshot::Sender<()>,
    /// What it counts.
    pub(crate) meter: Meter,
}

/// The node's speaker.
pub(crate) struct SpeakerPart {
    pub(crate) batches: mpsc::Sender<Batch>,
    /// The names and addresses of the members.
    pub(crate) members: watch::Sender<Members>,
    pub(crate) to_members: mpsc::Sender<(NodeName, Vec<u8>)>,
    pub(crate) from_members: mpsc::Receiver<(NodeName, Vec<u8>)>,
    /// What is known about addresses, as changes.
    pub(crate) addresses: delta::Receiver<IpAddr, Arc<Address>>,
    pub(crate) snapshot: watch::Receiver<SpeakerSnapshot>,
    pub(crate) stop: watch::Sender<bool>,
}

/// The proxy and the speaker.
pub(crate) struct Parts {
    /// `None` if another proxy serves the traffic.
    pub(crate) proxy: Option<ProxyPart>,
    pub(crate) speaker: SpeakerPart,
    /// What is wrong with the key file, if there is one.
    pub(crate) key_file: Option<watch::Receiver<Option<Problem>>>,
}

/// Starts both. It fails if rights are missing or the kernel has no IPVS.
pub(crate) async fn start(
    args: &Config,
    identity: &Identity,
    config: ProxyConfig,
    tasks: &mut Tasks,
) -> Result<Parts, Error> {
    let key = match &args.key_file {
        Some(file) => {
            warn_if_open(file);
            Key::read(file).map_err(Error::failed)?
        }
        None => Key::random().map_err(Error::failed)?,
    };
    let (proxy, programmed) = match args.proxy {
        ProxyMode::Ipvs => {
            let (part, programmed) = proxy(args, identity, config, tasks).await?;
            (Some(part), Some(programmed))
        }
        ProxyMode::None => (None, None),
    };
    let key_file = args.key_file.clone();
    let key_file = key_file.map(|file| key_file::watch(file, key.clone()));
    let mut settings = SpeakerSettings::new(&identity.me, key);
    settings.port = args.port;
    settings.timers = Timers::default().scaled(args.timer_scale);
    settings.leave_addresses = args.proxy == ProxyMode::Ipvs;
    settings.class = args.class.clone();
    settings.probes = args.probes;
    if args.proxy == ProxyMode::None {
        // While an announcer is away, its kernel does not answer for it. So the others wait for it no longer than for a machine that
        // has died.
        settings.timers.crash_hold = settings.timers.declare;
        settings.timers.hold = settings.timers.declare;
    }
    Ok(Parts {
        proxy,
        speaker: speaker(settings, identity.membership.members(), programmed, tasks)?,
        key_file,
    })
}

/// Warns about a key file that others can read: such a key protects nothing.
fn warn_if_open(file: &Path) {
    if std::fs::metadata(file).is_ok_and(|m| m.permissions().mode() & 0o077 != 0) {
        warn!(
            "{0}: other users may read this key; make it `chmod 600 {0}`",
            file.display()
        );
    }
}

type Programmed = watch::Receiver<Option<BTreeSet<IpAddr>>>;

async fn proxy(
    args: &Config,
    identity: &Identity,
    config: ProxyConfig,
    tasks: &mut Tasks,
) -> Result<(ProxyPart, Programmed), Error> {
    let mut settings = ProxySettings::new(&identity.me, config.clone());
    settings.node_addresses.clone_from(&identity.addresses);
    settings.service_cidrs = service_cidrs(args);
    settings.audit = args.audit;
    settings.bridged_pods = args.bridged_pods;
    settings.external_ips = args.external_ips;
    settings.protected.clone_from(&args.protected);
    let meter = settings.meter.clone();
    let mut linux = LinuxConfig::new(
        args.state.clone(),
        settings.marks.start..=settings.marks.end - 1,
        table(),
    );
    linux.net_sysctls.clone_from(&args.net_sysctls);
    for address in &identity.addresses {
        match address {
            IpAddr::V4(ip) => linux.node_v4 = Some(*ip),
            IpAddr::V6(ip) => linux.node_v6 = Some(*ip),
        }
    }
    let mut linux = linux.tuned(&config);
    linux.exclude_cidrs.clone_from(&config.exclude_cidrs);
    let kernel = LinuxKernel::new(linux).await.map_err(Error::failed)?;
    let (batches, changes) = mpsc::channel(QUEUE);
    let (tell_programmed, programmed) = watch::channel(None);
    let (tell_snapshot, snapshot) = watch::channel(ProxySnapshot::default());
    let (tell_services, services) = delta::channel();
    let (stop, stopped) = oneshot::channel();
    tasks.spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        ferrolb_proxy::run::run(
            kernel,
            settings,
            changes,
            tell_programmed,
            tell_snapshot,
            tell_services,
            stopped,
        )
        .await
        .map_err(Error::failed)
    });
    Ok((
        ProxyPart {
            batches,
            services,
            snapshot,
            stop,
            meter,
        },
        programmed,
    ))
}

fn speaker(
    settings: SpeakerSettings,
    members: Members,
    programmed: Option<Programmed>,
    tasks: &mut Tasks,
) -> Result<SpeakerPart, Error> {
    let (batches, batches_in) = mpsc::channel(QUEUE);
    let (to_members, opaque_out) = mpsc::channel(1024);
    let (opaque_in, from_members) = mpsc::channel(1024);
    let (tell_snapshot, snapshot) = watch::channel(SpeakerSnapshot::default());
    let (tell_addresses, addresses) = delta::channel();
    let (stop, stopped) = watch::channel(false);
    let (members, known) = watch::channel(members);
    let wiring = Wiring {
        batches: batches_in,
        members: known,
        programmed,
        opaque_out,
        opaque_in,
        snapshot: tell_snapshot,
        addresses: tell_addresses,
        stop: stopped,
    };
    let end = thread::spawn("speaker", || async move {
        ferrolb_speaker::run::run(settings, wiring)
            .await
            .map_err(Error::failed)
    })?;
    tasks.spawn(end.wait());
    Ok(SpeakerPart {
        batches,
        members,
        to_members,
        from_members,
        addresses,
        snapshot,
        stop,
    })
}
