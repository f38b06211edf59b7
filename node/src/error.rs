//! Errors that end a node or keep it from starting. Each is one sentence that says what to do.

use std::path::PathBuf;

/// Why a node ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings contradict each other, or something is missing.
    #[error("{0}")]
    Usage(String),
    /// A file or directory can't be used.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The socket for `status` can't be created.
    #[error(
        "the socket for `ferrolb status` cannot be made at {path}: {source}; run as root, or name another place with --socket",
        path = path.display()
    )]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The state directory can't be used.
    #[error(
        "the state folder {path} cannot be used: {source}; name one with --state that this user can write to",
        path = path.display()
    )]
    State {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Another node is already running with this state directory or socket.
    #[error("another node uses {path}; stop it first, or give this one its own --socket and --state", path = path.display())]
    InUse {
        /// The directory or the socket.
        path: PathBuf,
    },
    /// A part of the daemons failed permanently.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// Wraps the error of another crate by its message.
    pub(crate) fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}
