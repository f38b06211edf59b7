//! The way to a cluster's API server: address and credentials.
//!
//! A proxy that replaces kube-proxy cannot reach the API through the ClusterIP that it programs itself, so an address that needs
//! no proxy comes first: a kubeconfig that is named, the kubeconfig that the KubeProxyConfiguration names, a server that is named
//! (with the credentials of the pod), and only then the environment of the pod.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// How long a connection may take: less than the time between two attempts would add up to.
const CONNECT: Duration = Duration::from_secs(5);

/// What is said about the API server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// A kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; `None`: its current one.
    pub context: Option<String>,
    /// `clientConnection.kubeconfig` of the KubeProxyConfiguration.
    pub proxy_kubeconfig: Option<PathBuf>,
    /// URL of the API server, with the pod's service account.
    pub server: Option<String>,
}

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A kubeconfig cannot be used.
    #[error("kubeconfig {}: {error}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        error: Box<kube::config::KubeconfigError>,
    },
    /// No URL.
    #[error("--server {0}: this is not a URL like https://192.0.2.1:6443")]
    Server(String),
    /// This is no pod, or one without a service account.
    #[error(
        "no way to the API server is known ({0}): give --kubeconfig FILE, or --manifests DIR to run without one"
    )]
    NoPod(Box<kube::config::InClusterError>),
    /// Certificates or a client key cannot be used.
    #[error("the credentials for {server} cannot be used: {error}")]
    Credentials {
        /// URL of the API server.
        server: String,
        /// Why.
        error: Box<kube::Error>,
    },
}

/// A client and what it asks.
#[derive(Clone)]
pub struct Connection {
    /// The client. No request was made yet.
    pub client: Client,
    /// URL of the API server.
    pub server: String,
}

impl Access {
    /// Finds address and credentials; makes no request.
    pub async fn connect(&self) -> Result<Connection, AccessError> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(CONNECT);
        let server = config.cluster_url.to_string();
        match Client::try_from(config) {
            Ok(client) => Ok(Connection { client, server }),
            Err(error) => Err(AccessError::Credentials {
                server,
                error: Box::new(error),
            }),
        }
    }

    async fn config(&self) -> Result<Config, AccessError> {
        if let Some(path) = &self.kubeconfig {
            return self.named(path, self.context.as_deref()).await;
        }
        if let Some(path) = &self.proxy_kubeconfig {
            return self.named(path, None).await;
        }
        let no_pod = |error| AccessError::NoPod(Box::new(error));
        match &self.server {
            Some(server) => {
                let bad = || AccessError::Server(server.clone());
                let mut config = Config::incluster_dns().map_err(no_pod)?;
                config.cluster_url = server.parse().map_err(|_| bad())?;
                if config.cluster_url.scheme().is_none() || config.cluster_url.host().is_none() {
                    return Err(bad());
                }
                Ok(config)
            }
            None => Config::incluster().map_err(no_pod),
        }
    }

    async fn named(&self, path: &Path, context: Option<&str>) -> Result<Config, AccessError> {
        let unusable = |error| AccessError::Kubeconfig {
            path: path.to_owned(),
            error: Box::new(error),
        };
        let kubeconfig = Kubeconfig::read_from(path).map_err(unusable)?;
        let options = KubeConfigOptions {
            context: context.map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .map_err(unusable)
    }
}

/// An error with its causes, which say more than it does.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text.chars().take(300).collect()
}
