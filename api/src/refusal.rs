//! Why an API server does not do what it is asked, as a value, and the one place for the sentences about it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Refusal {
    /// There is no answer, or not all of one.
    Unanswered {
        /// What was seen instead.
        why: String,
    },
    /// It answers that it cannot at the moment (HTTP 429 and 5xx).
    Busy {
        /// What it says.
        said: String,
    },
    /// Something in front of it, a load balancer for one, answers in its place.
    Gateway {
        /// HTTP status.
        code: u16,
    },
    /// What answers is no Kubernetes API server.
    NotKubernetes,
    /// It does not accept the credentials (HTTP 401).
    Credentials,
    /// It does not allow it (HTTP 403).
    Forbidden {
        /// What needs to be allowed: `list and watch nodes`.
        right: String,
        /// What it says. A quota or a namespace that ends has the same code as a missing right.
        said: String,
    },
    /// The object is not there (HTTP 404).
    NotFound {
        /// What it says.
        said: String,
    },
    /// It does not know the kind (HTTP 404).
    UnknownKind {
        /// `ipaddresspools.metallb.io`.
        kind: String,
    },
    /// An object of that name is there already (HTTP 409).
    AlreadyExists,
    /// The object changed, or is another one than was meant (HTTP 409, or 422 for its uid).
    Conflict {
        /// What it says.
        said: String,
    },
    /// The changes since the last list are forgotten (HTTP 410).
    Expired,
    /// Anything else that it does not accept.
    Rejected {
        /// What it says.
        said: String,
    },
}

impl Refusal {
    /// The same about a request that names no object: what is not found is the kind then.
    #[must_use]
    pub fn of_kind(self, kind: &str) -> Self {
        match self {
            Self::NotFound { .. } => Self::UnknownKind {
                kind: kind.to_owned(),
            },
            other => other,
        }
    }

    /// Whether it may pass by itself: nobody has to do anything but wait.
    pub fn passes(&self) -> bool {
        matches!(
            self,
            Self::Unanswered { .. } | Self::Busy { .. } | Self::Gateway { .. } | Self::Expired
        )
    }

    /// Whether the object is not the one that was meant any more: what a watch says next decides.
    pub fn is_stale(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. } | Self::AlreadyExists | Self::Conflict { .. }
        )
    }

    /// Whether it is the same trouble as another one, perhaps with another object.
    pub fn is_like(&self, other: &Self) -> bool {
        match self {
            Self::Rejected { .. } | Self::NotFound { .. } | Self::Conflict { .. } => self == other,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// Whether somebody has to give a right or credentials.
    pub fn lacks_right(&self) -> bool {
        matches!(self, Self::Credentials | Self::Forbidden { .. })
    }
}

impl fmt::Display for Refusal {
    /// What is wrong and what to do, in a sentence.
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
