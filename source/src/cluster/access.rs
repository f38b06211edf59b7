//! Access to a cluster's API server: address, credentials and a client, and the reason why a request failed.
//!
//! A proxy that replaces kube-proxy cannot reach the API through the ClusterIP that it programs itself. So addresses that need no
//! proxy come first, in this order: the given kubeconfig, the kubeconfig that the KubeProxyConfiguration names, the given server
//! (with the credentials of the pod). The environment of the pod comes last.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrolb_api::refusal::Refusal;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::Status;
use kube::{Client, Config};

use super::deadline::{Deadlines, Late, Limits};
use super::requests::Requests;

/// The limit for a connection: less than the pauses between attempts add up to.
const CONNECT: Duration = Duration::from_secs(5);

/// The settings for access to the API server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// A kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// Without `kubeconfig`: those that kubectl uses, in `$KUBECONFIG` or else `~/.kube/config`.
    pub usual: bool,
    /// The context in the kubeconfig; `None`: its current one.
    pub context: Option<String>,
    /// `clientConnection.kubeconfig` of the KubeProxyConfiguration.
    pub proxy_kubeconfig: Option<PathBuf>,
    /// URL of the API server, with the pod's service account.
    pub server: Option<String>,
}

/// Why the API server cannot be accessed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A kubeconfig cannot be used.
    #[error("kubeconfig {}: {error}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        error: Box<KubeconfigError>,
    },
    /// The address is not a URL.
    #[error("--server {0}: this is not a URL like https://192.0.2.1:6443")]
    Server(String),
    /// The program does not run in a pod, or the pod has no service account.
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

/// A client and the server that it uses.
#[derive(Clone)]
pub struct Connection {
    /// The client. It has made no request yet.
    pub client: Client,
    /// URL of the API server.
    pub server: String,
    /// The requests that the client makes.
    pub requests: Requests,
}

impl Access {
    /// Determines address and credentials; makes no request.
    pub async fn connect(&self) -> Result<Connection, AccessError> {
        let config = self.config().await?;
        let server = config.cluster_url.to_string();
        let url = &config.cluster_url;
        let host = url.authority().map(ToString::to_string);
        let requests = Requests::to(host.unwrap_or_default());
        match client_with(config, Limits::default(), requests.clone()) {
            Ok(client) => Ok(Connection {
                client,
                server,
                requests,
            }),
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
        if self.usual {
            let place = std::env::var_os("KUBECONFIG").filter(|place| !place.is_empty());
            let place = PathBuf::from(place.unwrap_or_else(|| "~/.kube/config".into()));
            return chosen(Kubeconfig::read(), &place, self.context.as_deref()).await;
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
        chosen(Kubeconfig::read_from(path), path, context).await
    }
}

/// The settings of a context of the kubeconfig that was read from this place.
async fn chosen(
    read: Result<Kubeconfig, KubeconfigError>,
    place: &Path,
    context: Option<&str>,
) -> Result<Config, AccessError> {
    let unusable = |error| AccessError::Kubeconfig {
        path: place.to_owned(),
        error: Box::new(error),
    };
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    Config::from_custom_kubeconfig(read.map_err(unusable)?, &options)
        .await
        .map_err(unusable)
}

/// Creates a client that gives every request a deadline. It does not retry: each daemon has its own pauses between attempts.
pub fn client(config: Config) -> Result<Client, kube::Error> {
    client_with(config, Limits::default(), Requests::default())
}

pub(super) fn client_with(
    mut config: Config,
    limits: Limits,
    requests: Requests,
) -> Result<Client, kube::Error> {
    config.connect_timeout = Some(CONNECT);
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config)?;
    Ok(builder.with_layer(&Deadlines { limits, requests }).build())
}

/// The length limit of an error: a foreign server's message can have any length.
const LONGEST: usize = 300;
/// The reason that `kube` gives for an answer that is not from Kubernetes (`handle_api_errors` in its client).
const NOT_KUBERNETES: &str = "Failed to parse error data";
/// The field with which a write identifies the one object that it is for.
const UID: &str = "metadata.uid";

/// Why a request failed. `right`: the permission that it needs ("list nodes").
pub fn refusal(error: &kube::Error, right: &str) -> Refusal {
    match error {
        kube::Error::Api(status) => refused(status, right),
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Refusal::NotKubernetes,
        error => unanswered(error),
    }
}

/// Why there is no answer.
pub(super) fn unanswered(error: &(dyn std::error::Error + 'static)) -> Refusal {
    let why = match Late::of(error) {
        Some(late) => late.to_string(),
        None => chain(error),
    };
    Refusal::Unanswered { why }
}

/// The meaning of an answer that refuses a request.
pub(super) fn refused(status: &Status, right: &str) -> Refusal {
    let code = status.code;
    if status.reason == NOT_KUBERNETES {
        return match code {
            401 => Refusal::Credentials,
            500.. => Refusal::Gateway { code },
            _ => Refusal::NotKubernetes,
        };
    }
    let said = said(status);
    match code {
        401 => Refusal::Credentials,
        403 => Refusal::Forbidden {
            right: right.to_owned(),
            said,
        },
        404 => Refusal::NotFound { said },
        409 if status.is_already_exists() => Refusal::AlreadyExists,
        409 => Refusal::Conflict { said },
        422 if names_another(status) => Refusal::Conflict { said },
        410 => Refusal::Expired,
        429 | 500.. => Refusal::Busy { said },
        _ => Refusal::Rejected { said },
    }
}

/// Whether the uid in the request belongs to a different object.
fn names_another(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.field == UID)
}

/// The message of an answer, on one line.
fn said(status: &Status) -> String {
    match (status.message.as_str(), status.reason.as_str()) {
        ("", reason) => format!("HTTP {} {}", status.code, line(reason)),
        (message, _) => line(message),
    }
}

/// An error with its causes, which are more specific than the error itself.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    line(&text)
}

/// Joins a text into one line of bounded length.
fn line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().take(LONGEST).collect();
    words.join(" ").chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use kube::core::response::{StatusCause, StatusDetails};

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
                "HTTP 503 from something in front",
            ),
            (
                answer(500, "etcd is\naway", "InternalError"),
                "etcd is away",
            ),
            (
                answer(500, &"etcd ".repeat(100), "InternalError"),
                "etcd etcd",
            ),
        ] {
            let text = refusal(&error, "list nodes").to_string();
            assert!(text.contains(expected), "{text}");
            let leaks = ["Status {", "ApiError", "<html>", "\n"];
            assert!(!leaks.iter().any(|l| text.contains(l)), "{text}");
            assert!(text.len() <= LONGEST + 100, "{text}");
        }
    }

    #[test]
    fn a_refusal_is_known_by_code_and_reason_whatever_its_message_says() {
        let kind =
            |code, reason: &str| refusal(&answer(code, "x cannot already exists", reason), "r");
        assert!(matches!(kind(404, "NotFound"), Refusal::NotFound { .. }));
        assert_eq!(kind(409, "AlreadyExists"), Refusal::AlreadyExists);
        assert!(matches!(kind(409, "Conflict"), Refusal::Conflict { .. }));
        assert_eq!(kind(410, "Expired"), Refusal::Expired);
        assert!(matches!(kind(422, "Invalid"), Refusal::Rejected { .. }));
        assert!(matches!(kind(429, "TooManyRequests"), Refusal::Busy { .. }));
        assert!(matches!(
            kind(503, "ServiceUnavailable"),
            Refusal::Busy { .. }
        ));
    }

    #[test]
    fn a_write_to_an_object_that_was_made_anew_is_a_conflict() {
        let mut status = Status::failure("Service \"web\" is invalid", "Invalid").with_code(422);
        let about = |field: &str| StatusDetails {
            name: "web".into(),
            group: String::new(),
            kind: "Service".into(),
            uid: String::new(),
            causes: vec![StatusCause {
                reason: "FieldValueInvalid".into(),
                message: "field is immutable".into(),
                field: field.into(),
            }],
            retry_after_seconds: 0,
        };
        status.details = Some(about("metadata.uid"));
        assert!(matches!(refused(&status, "r"), Refusal::Conflict { .. }));
        status.details = Some(about("spec.ports"));
        assert!(matches!(refused(&status, "r"), Refusal::Rejected { .. }));
    }

    #[test]
    fn an_answer_in_another_language_is_not_of_an_api_server() {
        let error = serde_json::from_str::<u8>("<html>").unwrap_err();
        let refusal = refusal(&kube::Error::SerdeError(error), "list nodes");
        assert_eq!(refusal, Refusal::NotKubernetes);
    }
}
