//! Only one process at a time works with a state directory. The node holds a lock on it, and the cleanup refuses to run
//! meanwhile.

use std::fs::OpenOptions;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::Error;

/// The lock is held until this is dropped or the process ends, in whatever way it ends.
#[derive(Debug)]
pub struct StateLock {
    _file: Flock<std::fs::File>,
}

impl StateLock {
    /// Takes the lock of a state directory. Creates the directory if it does not exist.
    pub fn take(state: &Path) -> Result<Self, Error> {
        let file_error = |source| Error::State {
            path: state.to_owned(),
            source,
        };
        std::fs::create_dir_all(state).map_err(file_error)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(state.join("lock"))
            .map_err(file_error)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, Errno::EWOULDBLOCK)) => Err(Error::InUse {
                path: state.to_owned(),
            }),
            Err((_, errno)) => Err(file_error(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_state_folder_is_used_by_one_process_at_a_time() {
        let dir = std::env::temp_dir().join(format!("ferrolb-lock-{}", std::process::id()));
        let first = StateLock::take(&dir).unwrap();
        assert!(matches!(StateLock::take(&dir), Err(Error::InUse { .. })));
        drop(first);
        assert!(StateLock::take(&dir).is_ok());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
