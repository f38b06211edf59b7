//! The state directory: what a member promised, holds and knows to be agreed, in one file that is replaced as a whole.
//!
//! A crash at any moment leaves the old file or the new one: temporary file, fsync, rename, fsync of the directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::agreement::table::{MAX_TABLE, Saved};

/// The file's name in the state directory.
pub const FILE: &str = "assignments.json";
const TEMPORARY: &str = "assignments.json.new";
const CORRUPT: &str = "assignments.json.corrupt";
const FORMAT: u32 = 1;
/// Two tables in JSON with field names are a few times the size of one on the wire.
const MAX_FILE: u64 = 8 * MAX_TABLE as u64;

/// Why the state could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or file can't be used by this user.
    #[error(
        "{path}: permission denied: run as root, or give this user the directory named by --state"
    )]
    Permission {
        /// What could not be used.
        path: PathBuf,
    },
    /// Anything else that the system said.
    #[error(
        "{path}: {source}: make sure that the directory named by --state is on a writable disk with room"
    )]
    Io {
        /// What could not be used.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content makes no sense.
    #[error(
        "{path}: not readable as assignments ({why}); a copy is kept as {copy}: put a backup in its place, or delete it to start without assignments"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The copy.
        copy: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Written by a later version.
    #[error(
        "{path}: format {found} is newer than {FORMAT}, which this version reads: run the version that wrote it"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

impl StoreError {
    fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Permission { path },
            _ => Self::Io { path, source },
        }
    }
}

/// Where a member's state is kept.
pub trait Store: Send {
    /// What was saved last; `None` at the very first start.
    fn load(&mut self) -> Result<Option<Saved>, StoreError>;
    /// Saves; when it returns without error, it is on disk.
    fn save(&mut self, saved: &Saved) -> Result<(), StoreError>;
}

/// In memory, for tests and for a node that keeps no state.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(pub Option<Saved>);

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Option<Saved>, StoreError> {
        Ok(self.0.clone())
    }

    fn save(&mut self, saved: &Saved) -> Result<(), StoreError> {
        self.0 = Some(saved.clone());
        Ok(())
    }
}

/// In a directory.
#[derive(Debug, Clone)]
pub struct DirStore {
    dir: PathBuf,
}

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    #[serde(flatten)]
    saved: &'a Saved,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl DirStore {
    /// Uses this directory; it is made where it does not exist.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let dir = dir.into();
        fs::create_dir_all(&dir).map_err(|e| StoreError::io(&dir, e))?;
        Ok(Self { dir })
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        let file = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| StoreError::io(path, e))?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| StoreError::io(path, e))?;
        Ok(Some(bytes))
    }

    fn corrupt(&self, path: PathBuf, bytes: &[u8], why: String) -> StoreError {
        let copy = self.dir.join(CORRUPT);
        // The original stays in any case, so a copy that can't be made is no loss.
        let _ = fs::write(&copy, bytes);
        StoreError::Corrupt { path, copy, why }
    }
}

impl Store for DirStore {
    fn load(&mut self) -> Result<Option<Saved>, StoreError> {
        let path = self.dir.join(FILE);
        let Some(bytes) = self.read(&path)? else {
            return Ok(None);
        };
        if bytes.len() as u64 > MAX_FILE {
            return Err(self.corrupt(path, &[], format!("it is larger than {MAX_FILE} bytes")));
        }
        match serde_json::from_slice::<Format>(&bytes) {
            Ok(Format { format: FORMAT }) => {}
            Ok(Format { format }) => {
                return Err(StoreError::Newer {
                    path,
                    found: format,
                });
            }
            Err(e) => return Err(self.corrupt(path, &bytes, e.to_string())),
        }
        match serde_json::from_slice::<Saved>(&bytes) {
            Ok(saved) => Ok(Some(saved)),
            Err(e) => Err(self.corrupt(path, &bytes, e.to_string())),
        }
    }

    fn save(&mut self, saved: &Saved) -> Result<(), StoreError> {
        let (path, temporary) = (self.dir.join(FILE), self.dir.join(TEMPORARY));
        let fail = |e| StoreError::io(&temporary, e);
        let text = serde_json::to_vec(&Written {
            format: FORMAT,
            saved,
        })
        .map_err(|e| fail(e.into()))?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)
            .map_err(fail)?;
        file.write_all(&text).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        fs::rename(&temporary, &path).map_err(fail)?;
        let dir = File::open(&self.dir).map_err(|e| StoreError::io(&self.dir, e))?;
        dir.sync_all().map_err(|e| StoreError::io(&self.dir, e))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::sync::Arc;

    use super::*;
    use crate::agreement::table::Table;
    use ferrolb_controller::assignment::Assignment;
    use ferrolb_controller::testing::{ip, key};

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("ferrolb-store-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn saved() -> Saved {
        let mut table = Table::default();
        table.version.number = 3;
        table.assignments.insert(
            key("default/web"),
            Assignment {
                cluster_ips: vec![ip("10.96.0.2")],
                addresses: vec![ip("172.17.255.1"), ip("1::1")],
                pool: Some("default".into()),
                terms: u64::MAX,
            },
        );
        let table = Arc::new(table);
        Saved {
            held: table.clone(),
            agreed: table,
            ..Saved::default()
        }
    }

    #[test]
    fn what_was_saved_is_loaded_after_a_restart() {
        let dir = Dir::new("restart");
        let mut store = DirStore::open(dir.0.join("deep/er")).unwrap();
        assert!(store.load().unwrap().is_none());
        store.save(&Saved::default()).unwrap();
        store.save(&saved()).unwrap();
        let mut again = DirStore::open(dir.0.join("deep/er")).unwrap();
        assert_eq!(again.load().unwrap(), Some(saved()));
        assert!(!dir.0.join("deep/er").join(TEMPORARY).exists());
    }

    #[test]
    fn a_write_that_was_cut_off_leaves_the_old_state() {
        let dir = Dir::new("cut");
        let mut store = DirStore::open(&dir.0).unwrap();
        store.save(&saved()).unwrap();
        fs::write(dir.0.join(TEMPORARY), b"{\"form").unwrap();
        assert_eq!(store.load().unwrap(), Some(saved()));
        store.save(&saved()).unwrap();
    }

    #[test]
    fn a_corrupt_file_is_copied_aside_and_the_error_says_what_to_do() {
        let dir = Dir::new("corrupt");
        let mut store = DirStore::open(&dir.0).unwrap();
        for text in [
            "",
            "{\"format\":1}",
            "no json",
            "{\"format\":1,\"promised\":3}",
        ] {
            fs::write(dir.0.join(FILE), text).unwrap();
            let error = store.load().unwrap_err().to_string();
            assert!(
                error.contains("assignments.json.corrupt") && error.contains("delete it"),
                "{error}"
            );
            assert_eq!(fs::read_to_string(dir.0.join(CORRUPT)).unwrap(), text);
            assert_eq!(fs::read_to_string(dir.0.join(FILE)).unwrap(), text);
        }
    }

    #[test]
    fn a_newer_format_is_left_alone() {
        let dir = Dir::new("newer");
        let mut store = DirStore::open(&dir.0).unwrap();
        fs::write(dir.0.join(FILE), "{\"format\":9,\"x\":1}").unwrap();
        assert!(matches!(
            store.load(),
            Err(StoreError::Newer { found: 9, .. })
        ));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let error = DirStore::open("/proc/ferrolb/state")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("/proc/ferrolb/state: "), "{error}");
        let denied = StoreError::io(Path::new("/x"), io::ErrorKind::PermissionDenied.into());
        assert_eq!(
            denied.to_string(),
            "/x: permission denied: run as root, or give this user the directory named by --state"
        );
    }
}
