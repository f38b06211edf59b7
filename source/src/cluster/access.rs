//! The way to a cluster's API server: address and credentials; and what went wrong on it, in sentences.
//!
//! A proxy that replaces kube-proxy cannot reach the API through the ClusterIP that it programs itself, so an address that needs
//! no proxy comes first: a kubeconfig that is named, the kubeconfig that the KubeProxyConfiguration names, a server that is named
//! (with the credentials of the pod), and only then the environment of the pod.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::{Client, Config};

use super::deadline::{Deadlines, Late, Limits};

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
        let config = self.config().await?;
        let server = config.cluster_url.to_string();
        match client(config) {
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

/// A client, every request of which has a deadline. It asks once: each daemon has its own time between two attempts.
pub fn client(config: Config) -> Result<Client, kube::Error> {
    client_with(config, Limits::default())
}

pub(super) fn client_with(mut config: Config, limits: Limits) -> Result<Client, kube::Error> {
    config.connect_timeout = Some(CONNECT);
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config)?;
    Ok(builder.with_layer(&Deadlines(limits)).build())
}

/// What an error may be long: what somebody else's server says can have any length.
const LONGEST: usize = 300;
/// What `kube` gives as reason of an answer that is none of Kubernetes' (`handle_api_errors` in its client).
const NOT_KUBERNETES: &str = "Failed to parse error data";

/// An error with its causes, which say more than it does.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(late) = Late::of(error) {
        return late.to_string();
    }
    let mut text = alone(error);
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = alone(inner);
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    line(&text)
}

/// One error of a chain. Those of an answer that refuses show themselves, and those around them, with all their fields, as no
/// user wants them.
fn alone(error: &(dyn std::error::Error + 'static)) -> String {
    let status = match error.downcast_ref() {
        Some(kube::Error::Api(status)) => Some(&**status),
        _ => error
            .downcast_ref::<Box<Status>>()
            .map(|status| &**status)
            .or_else(|| error.downcast_ref()),
    };
    match (status, error.source()) {
        (Some(status), _) => said(status),
        (None, Some(cause)) if !cause.to_string().is_empty() => {
            error.to_string().replace(&cause.to_string(), &alone(cause))
        }
        (None, _) => error.to_string(),
    }
}

/// A request that failed, in a sentence. `right`: what it needs to be allowed ("list nodes").
pub fn failure(error: &kube::Error, right: &str) -> String {
    match error {
        kube::Error::Api(status) => refusal(status, right),
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => {
            "what answers is no Kubernetes API server: correct the address".to_owned()
        }
        error => format!("it does not answer: {}", chain(error)),
    }
}

/// An answer that refuses, in a sentence that says what to do.
pub fn refusal(status: &Status, right: &str) -> String {
    match status.code {
        401 => {
            "the API server does not accept these credentials: renew the token or the kubeconfig"
                .to_owned()
        }
        403 if status.reason != NOT_KUBERNETES => format!(
            "not allowed to {right}: give this user that right (deploy/kustomize/base/rbac.yaml has it)"
        ),
        _ => said(status),
    }
}

/// What an answer says. A page of another server is left out; a load balancer in front of the API server has one too.
fn said(status: &Status) -> String {
    let code = status.code;
    match status.reason.as_str() {
        NOT_KUBERNETES if code >= 500 => {
            format!("HTTP {code} of something in front of the API server")
        }
        NOT_KUBERNETES => {
            format!(
                "HTTP {code} of something that is no Kubernetes API server: correct the address"
            )
        }
        reason if status.message.is_empty() => format!("HTTP {code} {}", line(reason)),
        _ => line(&status.message),
    }
}

/// One line, and no endless one.
fn line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().take(LONGEST).collect();
    words.join(" ").chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use kube::runtime::watcher;

    use super::*;

    fn answer(code: u16, message: &str, reason: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, reason).with_code(code).boxed())
    }

    #[test]
    fn a_refusal_is_a_sentence_without_the_fields_of_the_answer() {
        let page = "<html>\n<body>It works!</body></html>".repeat(100);
        for (error, expected) in [
            (
                answer(401, "Unauthorized", "Unauthorized"),
                "does not accept these credentials",
            ),
            (
                answer(403, "User cannot list", "Forbidden"),
                "not allowed to list nodes: give",
            ),
            (
                answer(404, &page, NOT_KUBERNETES),
                "no Kubernetes API server",
            ),
            (
                answer(403, &page, NOT_KUBERNETES),
                "no Kubernetes API server",
            ),
            (
                answer(503, &page, NOT_KUBERNETES),
                "HTTP 503 of something in front",
            ),
            (
                answer(500, "etcd is\naway", "InternalError"),
                "etcd is away",
            ),
        ] {
            let told = failure(&error, "list nodes");
            assert!(told.contains(expected), "{told}");
            for text in [told, chain(&error)] {
                let leaks = ["Status {", "ApiError", "<html>", "\n"];
                assert!(!leaks.iter().any(|l| text.contains(l)), "{text}");
                assert!(text.len() <= LONGEST, "{text}");
            }
        }
    }

    #[test]
    fn an_answer_in_another_language_is_not_of_an_api_server() {
        let error = serde_json::from_str::<u8>("<html>").unwrap_err();
        let told = failure(&kube::Error::SerdeError(error), "list nodes");
        assert!(told.contains("no Kubernetes API server"), "{told}");
    }

    #[test]
    fn the_answer_within_another_error_shows_no_fields_either() {
        let error = answer(500, "etcd is away", "InternalError");
        let told = chain(&watcher::Error::InitialListFailed(error));
        assert_eq!(told, "failed to perform initial object list: etcd is away");
    }
}
