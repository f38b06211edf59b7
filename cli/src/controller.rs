//! `ferrolb controller`: connects the cluster's API as a source, the controller's main loop and its writer.

use std::pin::pin;

use clap::Args;
use ferrolb_controller::cluster::api::KubeWriter;
use ferrolb_controller::cluster::{key, lease, run};
use ferrolb_controller::state::Settings;
use ferrolb_source::cluster::access::{AccessError, Connection};
use ferrolb_source::cluster::{ClusterSource, Resources, Settings as SourceSettings, api_server};
use ferrolb_source::memory;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

use crate::args::ClusterArgs;
use crate::error::Error;

/// The file in which a pod finds its own namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

const EXAMPLES: &str = "\
Examples:
  In a pod (deploy/kustomize/base/controller.yaml):
    ferrolb controller
  Anywhere, with a kubeconfig:
    ferrolb controller --kubeconfig /etc/kubernetes/ferrolb.conf
  Beside another load balancer, for Services with loadBalancerClass: example.com/lan:
    ferrolb controller --lb-class example.com/lan

Run one controller for each load balancer class. Services keep their addresses
while no controller runs.

Exit codes: 0 stopped by SIGTERM or SIGINT, 1 there is no way to the API server,
2 a mistake in the arguments.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ControllerArgs {
    #[command(flatten)]
    cluster: ClusterArgs,

    /// Secret with the key that the nodes share. It is created in the
    /// namespace of the pod if it does not exist; empty: no Secret is created
    #[arg(long, value_name = "NAME", default_value = "ferrolb-members")]
    key_secret: String,

    /// Log in JSON
    #[arg(long)]
    log_json: bool,
}

/// Runs a controller until SIGTERM or SIGINT.
pub(crate) fn main(args: &ControllerArgs) -> Result<(), Error> {
    crate::log::init(args.log_json);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Error::failed)?;
    let ended = runtime.block_on(start(args));
    runtime.shutdown_background();
    ended
}

async fn start(args: &ControllerArgs) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::failed)?;
    let mut stop = pin!(async {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        info!(signal = name, "stopping; Services keep their addresses");
    });
    let access = args.cluster.access(None);
    let connection = tokio::select! {
        () = &mut stop => return Ok(()),
        connection = access.connect() => connection.map_err(refusal)?,
    };
    let class = args.cluster.class();
    info!(
        server = connection.server,
        namespace = args.cluster.namespace,
        class = class.as_deref().unwrap_or("<none>"),
        "starting"
    );
    make_key(args, &connection);
    let source = ClusterSource::new(
        &connection.client,
        &SourceSettings {
            resources: Resources::Controller,
            namespace: args.cluster.namespace.clone(),
        },
    );
    let host = nix::unistd::gethostname().unwrap_or_default();
    let (tell, found) = watch::channel(lease::Found::new());
    match own_namespace() {
        Some(namespace) => {
            tokio::spawn(lease::follow(connection.client.clone(), namespace, tell));
        }
        None => info!(
            "this is no pod, and POD_NAMESPACE names no namespace, so the controller does not learn which addresses hosts on the network \
             have"
        ),
    }
    let writer = KubeWriter::new(connection.client, &host.to_string_lossy());
    let settings = Settings {
        class,
        api_servers: api_server::addresses(&connection.server).await,
        ..Settings::default()
    };
    tokio::spawn(memory::tend());
    run(source, &writer, settings, found, stop).await;
    Ok(())
}

/// Keeps, in the background, the key of the nodes.
fn make_key(args: &ControllerArgs, connection: &Connection) {
    let client = connection.client.clone();
    let name = args.key_secret.clone();
    if name.is_empty() {
        return;
    }
    match own_namespace() {
        Some(namespace) => {
            tokio::spawn(async move { key::keep(&client, &namespace, &name).await });
        }
        None => info!(
            "no Secret {name} is made: this is no pod, and POD_NAMESPACE names no namespace for it"
        ),
    }
}

fn own_namespace() -> Option<String> {
    std::env::var("POD_NAMESPACE")
        .or_else(|_| std::fs::read_to_string(NAMESPACE_FILE))
        .ok()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
}

fn refusal(error: AccessError) -> Error {
    match error {
        AccessError::Server(_) => Error::Usage(error.to_string()),
        AccessError::NoPod(why) => Error::Failed(format!(
            "no way to the API server is known ({why}): give --kubeconfig FILE, or run it in a pod with a service account"
        )),
        other => Error::failed(other),
    }
}
