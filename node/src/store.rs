//! The state directory: what a member promised, holds and knows to be agreed, in one file that is replaced atomically.
//!
//! A crash at any moment leaves either the old file or the new one: temporary file, fsync, rename, fsync of the directory.
//!
//! A file whose counters have no successor ([`MAX_ROUND`]) is refused like an unreadable file. It is not repaired: lowering a
//! promise would break it, and a single node cannot know whether a majority relies on it. Without the file, the node starts from
//! scratch and fetches the table from the other members.

mod background;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::libc;
use serde::{Deserialize, Serialize};

pub use self::background::Background;
use crate::agreement::table::{MAX_ROUND, MAX_TABLE, Saved};

/// The file's name in the state directory.
pub const FILE: &str = "assignments.json";
const TEMPORARY: &str = "assignments.json.new";
const CORRUPT: &str = "assignments.json.corrupt";
const FORMAT: u32 = 1;
/// Two tables, with their field names, are less than eight times as large as one encoded table.
const MAX_FILE: u64 = 8 * MAX_TABLE as u64;

/// Why the state could not be saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The user has no access to the directory or file.
    #[error(
        "{path}: permission denied: run as root, or give this user the directory named by --state"
    )]
    Permission {
        /// What could not be used.
        path: PathBuf,
    },
    /// Any other error of the system.
    #[error(
        "{path}: {source}: make sure that the directory named by --state is on a writable disk with room"
    )]
    Io {
        /// What could not be used.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A write does not finish.
    #[error(
        "{path}: the disk has not answered for seconds: check the disk of the directory named by --state"
    )]
    Stalled {
        /// The directory.
        path: PathBuf,
    },
    /// The path exists but is not a state file.
    #[error("{path}: {why}: put a backup in its place, or delete it to start without assignments")]
    Strange {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The content is invalid.
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
    /// The file was written by a later version.
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
    /// The path that could not be used, the reason, and the remedy.
    pub(crate) fn parts(&self) -> (&Path, String, &'static str) {
        let room = "Make room on its disk, or make it writable";
        match self {
            Self::Permission { path } => (
                path,
                "permission denied".to_owned(),
                "Run the node as root, or give its user the folder",
            ),
            Self::Io { path, source } => (path, source.to_string(), room),
            Self::Stalled { path } => (
                path,
                "the disk has not answered for 5 seconds".to_owned(),
                "Check its disk",
            ),
            Self::Strange { path, .. } | Self::Corrupt { path, .. } | Self::Newer { path, .. } => {
                (path, self.to_string(), room)
            }
        }
    }

    fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Permission { path },
            _ => Self::Io { path, source },
        }
    }
}

/// Persistent storage for a member's state.
pub trait Store: Send {
    /// The last saved state; `None` at the very first start.
    fn load(&mut self) -> Result<Option<Saved>, StoreError>;
    /// Starts to save; only one save at a time. [`Store::saved`] and [`Store::try_saved`] report its end.
    fn save(&mut self, saved: Arc<Saved>);
    /// The result of the current save, if it has finished: without an error, the state is on disk.
    fn try_saved(&mut self) -> Option<Result<(), StoreError>>;
    /// Waits for that result; never returns if nothing is being saved. Cancel-safe.
    fn saved(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// The location, for messages.
    fn folder(&self) -> &Path;
}

/// A store in memory, for tests and for a node that keeps no state.
#[derive(Debug, Default)]
pub struct MemoryStore {
    /// The last saved state.
    pub saved: Option<Saved>,
    /// If set, saving fails with this error.
    pub broken: Option<io::ErrorKind>,
    /// Writes never finish.
    pub hangs: bool,
    end: Option<Result<(), StoreError>>,
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Option<Saved>, StoreError> {
        Ok(self.saved.clone())
    }

    fn save(&mut self, saved: Arc<Saved>) {
        if self.hangs {
            return;
        }
        self.end = Some(match self.broken {
            Some(kind) => Err(StoreError::io(self.folder(), kind.into())),
            None => {
                self.saved = Some((*saved).clone());
                Ok(())
            }
        });
    }

    fn try_saved(&mut self) -> Option<Result<(), StoreError>> {
        self.end.take()
    }

    async fn saved(&mut self) -> Result<(), StoreError> {
        match self.end.take() {
            Some(end) => end,
            None => std::future::pending().await,
        }
    }

    fn folder(&self) -> &Path {
        Path::new("memory")
    }
}

/// A store in a directory.
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
    /// Uses this directory, which is created if it does not exist.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let dir = dir.into();
        fs::create_dir_all(&dir).map_err(|e| StoreError::io(&dir, e))?;
        Ok(Self { dir })
    }

    /// The directory.
    pub fn folder(&self) -> &Path {
        &self.dir
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        let strange = |why| {
            let path = path.to_owned();
            Err(StoreError::Strange { path, why })
        };
        // Opening a pipe must not block until it has a writer, and a link may lead to anybody's file.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOFOLLOW)
            .open(path);
        let file = match opened {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) if e.raw_os_error() == Some(libc::ELOOP) => {
                return strange("it is a symbolic link, which is not followed".to_owned());
            }
            other => other.map_err(|e| StoreError::io(path, e))?,
        };
        let about = file.metadata().map_err(|e| StoreError::io(path, e))?;
        if !about.is_file() {
            return strange("it is not a regular file".to_owned());
        }
        if about.len() > MAX_FILE {
            let size = about.len();
            return strange(format!(
                "it has {size} bytes, and no state has more than {MAX_FILE}"
            ));
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| StoreError::io(path, e))?;
        Ok(Some(bytes))
    }

    fn corrupt(&self, path: PathBuf, bytes: &[u8], why: String) -> StoreError {
        let copy = self.dir.join(CORRUPT);
        // The original remains in any case, so nothing is lost if the copy fails.
        let _ = create_anew(&copy).and_then(|mut file| file.write_all(bytes));
        StoreError::Corrupt { path, copy, why }
    }
}

/// Creates a new file that replaces what has this name. If that is a link, its target is not touched.
fn create_anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).open(path)
}

impl DirStore {
    /// The last saved state; `None` at the very first start.
    pub fn load(&self) -> Result<Option<Saved>, StoreError> {
        let path = self.dir.join(FILE);
        let Some(bytes) = self.read(&path)? else {
            return Ok(None);
        };
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
            Ok(saved) => match saved.exhausted() {
                None => Ok(Some(saved)),
                Some(n) => {
                    let why = format!(
                        "it has the round or number {n}, and no member follows one from {MAX_ROUND} on"
                    );
                    Err(self.corrupt(path, &bytes, why))
                }
            },
            Err(e) => Err(self.corrupt(path, &bytes, e.to_string())),
        }
    }

    /// Saves the state; once it returns without an error, the state is on disk. It blocks for as long as the disk needs.
    pub fn save(&self, saved: &Saved) -> Result<(), StoreError> {
        let (path, temporary) = (self.dir.join(FILE), self.dir.join(TEMPORARY));
        let fail = |e| StoreError::io(&self.dir, e);
        let text = serde_json::to_vec(&Written {
            format: FORMAT,
            saved,
        })
        .map_err(|e| fail(e.into()))?;
        let mut file = create_anew(&temporary).map_err(fail)?;
        file.write_all(&text).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        fs::rename(&temporary, &path).map_err(fail)?;
        let dir = File::open(&self.dir).map_err(fail)?;
        dir.sync_all().map_err(fail)
    }
}
