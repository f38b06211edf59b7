//! The edge: the calls to a file system that a scan makes. Each may hang for as long as a network file system is away.

use std::fmt::Debug;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// A file system; the one of the kernel, unless a test puts something between.
pub(super) trait Disk: Debug + Send + Sync {
    /// The names in a folder, in any order; those that are no text are passed over.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// The folders in a folder that are not hidden, as far as they can be seen.
    fn subfolders(&self, dir: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).into_iter().flatten();
        let folders = entries.filter_map(Result::ok).filter(|entry| {
            !entry.file_name().as_encoded_bytes().starts_with(b".")
                && entry.file_type().is_ok_and(|t| t.is_dir())
        });
        folders.map(|entry| entry.path()).collect()
    }

    /// What a path is, links followed.
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        std::fs::metadata(path)
    }

    /// Whether a path is itself a link.
    fn is_link(&self, path: &Path) -> bool {
        std::fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink())
    }

    /// The first bytes of a file, at most so many.
    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// The kernel's.
#[derive(Debug)]
pub(super) struct Kernel;

impl Disk for Kernel {}
