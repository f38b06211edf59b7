//! The errors that end the program: one sentence each that says how to fix it, and an exit code.

use std::io::Write;
use std::path::PathBuf;

/// Why `ferrolb` ends with an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The arguments contradict each other or are incomplete.
    #[error("{0}")]
    Usage(String),
    /// A node cannot start, or failed.
    #[error(transparent)]
    Node(#[from] ferrolb_node::Error),
    /// The node's socket does not answer.
    #[error(
        "no node answers on {path}: {source}; is `ferrolb node` running with this --socket, and are you root or in its group? (A whole cluster: --kubeconfig)",
        path = path.display()
    )]
    NoNode {
        path: PathBuf,
        source: std::io::Error,
    },
    /// A request to an API server failed, in a command that does not retry.
    #[error("{server}: {why}")]
    ApiServer { server: String, why: String },
    /// A part of a daemon failed permanently.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// 2 for a usage error, 1 for everything else.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Node(ferrolb_node::Error::Usage(_)) => 2,
            _ => 1,
        }
    }

    /// Wraps an error of another crate by its message.
    pub(crate) fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Writes to standard output. A reader that closes the pipe early (`| head`) is not an error.
pub(crate) fn print(text: &[u8]) -> Result<(), Error> {
    match std::io::stdout().write_all(text) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::failed(e)),
        _ => Ok(()),
    }
}
