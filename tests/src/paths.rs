//! Paths: the workspace, what `hack/setup` put under `target/`, the binaries under test, and folders for a single run.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The root of the workspace: `FERROLB_ROOT`, or where this crate was built.
pub fn workspace() -> PathBuf {
    match std::env::var_os("FERROLB_ROOT") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the crate lies in the workspace")
            .to_path_buf(),
    }
}

/// The folder with what the setup script built: the kernel image, CoreDNS.
pub fn lab_dir() -> PathBuf {
    workspace().join("target/lab")
}

/// The program under test: `FERROLB_BIN`, or the newer one of the release and debug builds.
pub fn ferrolb() -> PathBuf {
    if let Some(path) = std::env::var_os("FERROLB_BIN") {
        return PathBuf::from(path);
    }
    let target = target_dir();
    let built = ["release", "debug"].map(|profile| target.join(profile).join("ferrolb"));
    let age = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
    built
        .iter()
        .filter(|path| path.exists())
        .max_by_key(|path| age(path))
        .unwrap_or(&built[0])
        .clone()
}

/// A program of this crate (`lab-http`), in the folder of the running one.
pub fn own_program(name: &str) -> PathBuf {
    let running = std::env::current_exe().expect("the running program has a path");
    let folder = running.parent().expect("a program lies in a folder");
    // A test is in `deps`, one level below the programs.
    let folder = if folder.ends_with("deps") {
        folder.parent().expect("deps has a parent")
    } else {
        folder
    };
    folder.join(name)
}

fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// A temporary folder for one run, removed when dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Creates a folder in the system's temporary folder; `what` is part of its name.
    pub fn new(what: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::at(&std::env::temp_dir().join(format!(
            "ferrolb-lab-{}-{number}-{what}",
            std::process::id()
        )))
    }

    /// Creates a folder at this path.
    pub fn at(path: &Path) -> Self {
        let path = path.to_path_buf();
        std::fs::create_dir_all(&path)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Kept on request, so that the logs can be inspected afterwards.
        if std::env::var_os("FERROLB_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
