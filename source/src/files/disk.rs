//! The I/O boundary: the file system calls of a scan. Each may hang for as long as a network file system is unreachable.

use std::fmt::Debug;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// A file system: the kernel's, or a test's.
pub(super) trait Disk: Debug + Send + Sync {
    /// The names in a folder, in any order; names that are not valid text are skipped.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// The visible subfolders of a folder that are not hidden.
    fn subfolders(&self, dir: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).into_iter().flatten();
        let folders = entries.filter_map(Result::ok).filter(|entry| {
            !entry.file_name().as_encoded_bytes().starts_with(b".")
                && entry.file_type().is_ok_and(|t| t.is_dir())
        });
        folders.map(|entry| entry.path()).collect()
    }

    /// The metadata of a path, with links followed.
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        std::fs::metadata(path)
    }

    /// Whether the path itself is a link.
    fn is_link(&self, path: &Path) -> bool {
        std::fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink())
    }

    /// The start of a file, up to this many bytes.
    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// The kernel's file system.
#[derive(Debug)]
pub(super) struct Kernel;

impl Disk for Kernel {}
