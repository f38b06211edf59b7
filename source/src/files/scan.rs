//! Reads the current content of the folder. A file that has not changed since the last scan is not read again.
//!
//! A ConfigMap mounted by the kubelet is a folder of links into `..data`, which is itself a link that is swapped. So links to
//! files are followed, and names that begin with a dot are skipped.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ferrolb_api::problem::{Cause, Consequence, Excess, Problem, Subject, Unreadable};

use super::disk::{Disk, Kernel};
use super::document::{self, Read};
use super::index::share;
use crate::decode::raw::check_name;
use crate::memory;

/// Limits on what is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Size of one file in bytes.
    pub file_bytes: u64,
    /// Total number of files.
    pub files: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 16 << 20,
            files: 10_000,
        }
    }
}

/// The result of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scan {
    /// Why the folder could not be read at all.
    pub missing: Option<String>,
    /// The content of each file, by its path within the folder.
    pub files: BTreeMap<String, Arc<Read>>,
    /// Subfolders that could not be read completely (path with a trailing slash; empty for the folder itself).
    pub blind: Vec<String>,
    /// Problems that are not about the content of a file.
    pub problems: Vec<Problem>,
}

/// The metadata that reveals a change of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    /// The file changed so shortly before it was read that a further write may not have changed the stamp.
    fresh: bool,
    read: Arc<Read>,
}

/// A scan that has read this much gives back memory, in bytes.
const LARGE: usize = 128 << 10;

/// The resolution of timestamps: a file system's clock may be as coarse as a jiffy, and that of a network file system coarser.
const FRESH: Duration = Duration::from_millis(1500);

/// Scans the folder repeatedly.
#[derive(Debug)]
pub struct Scanner {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    limits: Limits,
    known: BTreeMap<String, Known>,
    /// How much text the scan under way has read, in bytes.
    read: usize,
}

impl Scanner {
    /// Creates a scanner for a folder.
    pub fn new(dir: PathBuf, limits: Limits) -> Self {
        Self::on(Arc::new(Kernel), dir, limits)
    }

    /// Creates a scanner for a folder on this file system.
    pub(super) fn on(disk: Arc<dyn Disk>, dir: PathBuf, limits: Limits) -> Self {
        Self {
            disk,
            dir,
            limits,
            known: BTreeMap::new(),
            read: 0,
        }
    }

    /// Reads the current state.
    pub fn scan(&mut self) -> Scan {
        let mut scan = Scan::default();
        match self.list(&self.dir) {
            Err(error) => {
                scan.missing = Some(format!("{}: {error}", self.dir.display()));
                return scan;
            }
            Ok(names) => self.folder("", "default", names, &mut scan),
        }
        self.known.retain(|path, _| scan.files.contains_key(path));
        if std::mem::take(&mut self.read) >= LARGE {
            memory::give_back();
        }
        scan
    }

    /// Scans the files of one folder; `prefix` is its path with a trailing slash.
    fn folder(&mut self, prefix: &str, namespace: &str, names: Vec<String>, scan: &mut Scan) {
        for name in names {
            let path = format!("{prefix}{name}");
            let full = self.dir.join(&path);
            match self.disk.metadata(&full) {
                Ok(metadata) if metadata.is_dir() => self.subfolder(path, &full, prefix, scan),
                _ if !is_manifest(&name) => {}
                Ok(metadata) => self.file(path, &full, &metadata, namespace, scan),
                // A dangling link, perhaps only for a moment.
                Err(error) => unreadable(path, &error, scan),
            }
        }
    }

    fn subfolder(&mut self, path: String, full: &Path, prefix: &str, scan: &mut Scan) {
        let misplaced = |text: String| {
            let cause = Cause::Misplaced { text };
            Problem::new(Subject::Input, cause).at(path.clone())
        };
        if !prefix.is_empty() {
            let text = "a folder within a subfolder is not read: move its files up";
            scan.problems.push(misplaced(text.into()));
        } else if self.disk.is_link(full) {
            let text = "a link to a folder is not followed: make it a folder of its own";
            scan.problems.push(misplaced(text.into()));
        } else if let Err(error) = check_name("", &path, 63) {
            let text = format!("a subfolder is a namespace, and {}", error.message);
            scan.problems.push(misplaced(text));
        } else {
            match self.list(full) {
                Ok(names) => self.folder(&format!("{path}/"), &path, names, scan),
                // Deleted since its parent was listed: the next scan will show.
                Err(error) => {
                    let problem = cannot_read(Unreadable::Folder, &path, &error);
                    scan.problems.push(problem);
                    scan.blind.push(format!("{path}/"));
                }
            }
        }
    }

    /// The names in a folder that are not hidden, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = self.disk.list(dir)?;
        names.retain(|name| !name.starts_with('.'));
        names.sort_unstable();
        Ok(names)
    }

    fn file(
        &mut self,
        path: String,
        full: &Path,
        metadata: &Metadata,
        namespace: &str,
        scan: &mut Scan,
    ) {
        if scan.files.len() >= self.limits.files {
            if !scan.blind.iter().any(String::is_empty) {
                scan.blind.push(String::new());
                let cause = Cause::TooMany {
                    what: Excess::Files,
                    most: self.limits.files,
                };
                let problem = Problem::new(Subject::Input, cause);
                scan.problems.push(problem.at(path));
            }
            return;
        }
        let stamp = Stamp::of(metadata);
        if let Some(known) = self.known.get(&path)
            && known.stamp == stamp
            && !known.fresh
        {
            scan.files.insert(path, Arc::clone(&known.read));
            return;
        }
        match read_text(&*self.disk, full, self.limits.file_bytes) {
            Ok(text) => {
                self.read += text.len();
                let mut read = document::read(&path, namespace, &text);
                // What is unchanged keeps the same value, so that it is cheap to see that nothing changed.
                let read = match self.known.get(&path) {
                    Some(known) if *known.read == read => Arc::clone(&known.read),
                    Some(known) => {
                        share(&mut read, &known.read);
                        Arc::new(read)
                    }
                    None => Arc::new(read),
                };
                scan.files.insert(path.clone(), Arc::clone(&read));
                let fresh = metadata
                    .modified()
                    .ok()
                    .and_then(|m| SystemTime::now().duration_since(m).ok())
                    .is_none_or(|age| age < FRESH);
                self.known.insert(path, Known { stamp, fresh, read });
            }
            Err(error) => unreadable(path, &error, scan),
        }
    }
}

fn unreadable(path: String, error: &io::Error, scan: &mut Scan) {
    let read = Read {
        unknown: true,
        problems: vec![cannot_read(Unreadable::File, &path, error)],
        ..Read::default()
    };
    scan.files.insert(path, Arc::new(read));
}

fn cannot_read(what: Unreadable, path: &str, error: &io::Error) -> Problem {
    let error = error.to_string();
    let cause = Cause::Unreadable { what, error };
    Problem::new(Subject::Input, cause)
        .at(path)
        .so(Consequence::Kept)
}

fn is_manifest(name: &str) -> bool {
    [".yaml", ".yml", ".json"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

fn read_text(disk: &dyn Disk, path: &Path, most: u64) -> io::Result<String> {
    // Reading a device might never end, and opening a pipe waits for a writer.
    if !disk.metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let bytes = disk.read(path, most.saturating_add(1))?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > most) {
        return Err(io::Error::other(format!(
            "it has more than {most} bytes, split it"
        )));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
}
