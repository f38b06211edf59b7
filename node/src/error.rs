//! What ends a node, or keeps it from starting, in one sentence that says what to do.

use std::path::PathBuf;

/// Why a node ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings contradict each other or lack something.
    #[error("{0}")]
    Usage(String),
    /// A file or folder can't be used.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The socket for `status` can't be made.
    #[error(
        "the socket for `ferrolb status` cannot be made at {path}: {source}; run as root, or name another place with --socket",
        path = path.display()
    )]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The state folder can't be used.
    #[error(
        "the state folder {path} cannot be used: {source}; name one with --state that this user can write to",
        path = path.display()
    )]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A node runs already with this state or socket.
    #[error("another node uses {path}; stop it first, or give this one its own --socket and --state", path = path.display())]
    InUse {
        /// The folder or the socket.
        path: PathBuf,
    },
    /// Something of the daemons failed for good.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// An error of a crate, by its message.
    pub(crate) fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}
