//! Why an API server does not do what it is asked, as a value. Its text is built here and nowhere else.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Refusal {
    /// There is no answer, or only part of one.
    Unanswered {
        /// What happened instead.
        why: String,
    },
    /// It answers that it cannot serve the request at the moment (HTTP 429 and 5xx).
    Busy {
        /// The server's message.
        said: String,
    },
    /// Something in front of it, such as a load balancer, answers in its place.
    Gateway {
        /// HTTP status.
        code: u16,
    },
    /// What answers is not a Kubernetes API server.
    NotKubernetes,
    /// It rejects the credentials (HTTP 401).
    Credentials,
    /// It denies access (HTTP 403).
    Forbidden {
        /// The permission that is needed: `list and watch nodes`.
        right: String,
        /// The server's message. A quota or a terminating namespace has the same code as a missing permission.
        said: String,
    },
    /// The object does not exist (HTTP 404).
    NotFound {
        /// The server's message.
        said: String,
    },
    /// It does not know the kind (HTTP 404).
    UnknownKind {
        /// For example `ipaddresspools.metallb.io`.
        kind: String,
    },
    /// An object of that name already exists (HTTP 409).
    AlreadyExists,
    /// The object changed, or is not the intended one (HTTP 409, or 422 for its uid).
    Conflict {
        /// The server's message.
        said: String,
    },
    /// The server has discarded the changes since the last list (HTTP 410).
    Expired,
    /// Any other rejection.
    Rejected {
        /// The server's message.
        said: String,
    },
}

impl Refusal {
    /// Converts the refusal for a request that names no object: not found then means that the kind is unknown.
    #[must_use]
    pub fn of_kind(self, kind: &str) -> Self {
        match self {
            Self::NotFound { .. } => Self::UnknownKind {
                kind: kind.to_owned(),
            },
            other => other,
        }
    }

    /// Whether the failure may resolve itself, so that waiting is enough.
    pub fn passes(&self) -> bool {
        matches!(
            self,
            Self::Unanswered { .. } | Self::Busy { .. } | Self::Gateway { .. } | Self::Expired
        )
    }

    /// Whether the request was based on an outdated state of the object. What the watch delivers next decides.
    pub fn is_stale(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. } | Self::AlreadyExists | Self::Conflict { .. }
        )
    }

    /// Whether this is the same kind of failure as another, perhaps for another object.
    pub fn is_like(&self, other: &Self) -> bool {
        match self {
            Self::Rejected { .. } | Self::NotFound { .. } | Self::Conflict { .. } => self == other,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// Whether someone has to grant a permission or supply credentials.
    pub fn lacks_right(&self) -> bool {
        matches!(self, Self::Credentials | Self::Forbidden { .. })
    }
}

impl fmt::Display for Refusal {
    /// What is wrong and how to fix it, in a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered { why } => write!(f, "the API server does not answer ({why})"),
            Self::Busy { said } => {
                write!(f, "the API server has an error instead of an answer ({said})")
            }
            Self::Gateway { code } => {
                write!(f, "HTTP {code} from something in front of the API server")
            }
            Self::NotKubernetes => {
                f.write_str("what answers is no Kubernetes API server: correct the address")
            }
            Self::Credentials => f.write_str(
                "the API server does not accept these credentials: renew the token or the kubeconfig",
            ),
            Self::Forbidden { right, said } => {
                write!(
                    f,
                    "not allowed to {right}: give this user that right (deploy/kustomize/base/rbac.yaml has it)"
                )?;
                match said.is_empty() {
                    true => Ok(()),
                    false => write!(f, "; the API server says: {said}"),
                }
            }
            Self::NotFound { said } | Self::Conflict { said } | Self::Rejected { said } => {
                f.write_str(said)
            }
            Self::UnknownKind { kind } => write!(
                f,
                "the API server does not know {kind}: apply the definitions that `ferrolb crds` prints"
            ),
            Self::AlreadyExists => f.write_str("an object of that name is there already"),
            Self::Expired => f.write_str(
                "the API server no longer has the changes since the last list: it is listed again",
            ),
        }
    }
}
