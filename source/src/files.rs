//! A folder of YAML as a source: `kubectl apply -f DIR`, followed for as long as the program runs.
//!
//! [`scan`] reads what is there, [`document`] makes objects of it, [`settle`] decides what of the difference to believe and
//! when, [`watch`] says when to look again. Files directly in the folder are of namespace `default` where they name none,
//! those in a subfolder of the namespace that it is called.
//!
//! The folder is somebody's working copy: it is edited, rewritten, replaced and unmounted while it is followed. So additions and
//! changes count at once, removals only when they have settled, and what cannot be read withdraws nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ferrolb_api::change::Batch;

use crate::Source;
use crate::synth::Synth;

pub mod document;
mod locate;
pub mod scan;
pub mod settle;
pub mod watch;

#[cfg(test)]
mod tests;

use scan::{Limits, Scan, Scanner};
use settle::Settle;
use watch::{Debounce, Watch};

/// How a folder is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long nothing must happen in the folder before it is read.
    pub quiet: Duration,
    /// When it is read in spite of constant writing.
    pub busy: Duration,
    /// How long an object must be missing before it is removed.
    pub settle: Duration,
    /// How often it is looked at although nothing was heard of it (bind mounts and network file systems tell nothing).
    pub rescan: Duration,
    /// Bounds.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(200),
            busy: Duration::from_secs(2),
            settle: Duration::from_secs(2),
            rescan: Duration::from_secs(5),
            limits: Limits::default(),
        }
    }
}

/// Why a folder cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// It is not there, or may not be read.
    #[error("the manifests folder {} cannot be read: {error}; create it or name another one", dir.display())]
    Unreadable {
        /// The folder.
        dir: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is something else.
    #[error("{} is not a folder: name the folder that holds the manifests", .0.display())]
    NotAFolder(PathBuf),
}

/// A folder of manifests.
#[derive(Debug)]
pub struct FilesSource {
    dir: PathBuf,
    settings: Settings,
    scanner: Arc<Mutex<Scanner>>,
    settle: Settle,
    synth: Synth,
    watch: Option<Watch>,
    debounce: Debounce,
    /// When the folder was last read; `None` before the first time.
    scanned: Option<Instant>,
}

impl FilesSource {
    /// Follows a folder, which must be there; an empty one is a state like any other.
    pub fn new(dir: impl AsRef<Path>, settings: Settings) -> Result<Self, FilesError> {
        let unreadable = |error| FilesError::Unreadable {
            dir: dir.as_ref().to_owned(),
            error,
        };
        let dir = std::path::absolute(dir.as_ref()).map_err(unreadable)?;
        if !std::fs::metadata(&dir).map_err(unreadable)?.is_dir() {
            return Err(FilesError::NotAFolder(dir));
        }
        std::fs::read_dir(&dir).map_err(unreadable)?;
        Ok(Self {
            scanner: Arc::new(Mutex::new(Scanner::new(
                dir.clone(),
                settings.limits.clone(),
            ))),
            settle: Settle::new(settings.settle),
            synth: Synth::default(),
            watch: None,
            debounce: Debounce::new(settings.quiet, settings.busy),
            scanned: None,
            dir,
            settings,
        })
    }

    /// Reads the folder away from the runtime's threads. A call that is given up halfway loses nothing: the scanner keeps what
    /// it read, and what made it due is forgotten only afterwards.
    async fn scan(&mut self) -> Option<Scan> {
        let watch = self.watch.get_or_insert_with(|| Watch::new(&self.dir));
        watch.follow();
        let heard = Instant::now();
        let scanner = Arc::clone(&self.scanner);
        let scan = tokio::task::spawn_blocking(move || {
            scanner
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .scan()
        })
        .await;
        self.debounce.done(heard);
        self.scanned = Some(Instant::now());
        match scan {
            Ok(scan) => Some(scan),
            Err(error) => {
                tracing::error!(%error, "reading the manifests folder failed");
                tokio::time::sleep(Duration::from_secs(1)).await;
                None
            }
        }
    }

    fn due(&self) -> Instant {
        let Some(scanned) = self.scanned else {
            return Instant::now();
        };
        let rescan = match &self.watch {
            Some(watch) if watch.is_deaf() => self.settings.rescan.min(Duration::from_secs(1)),
            _ => self.settings.rescan,
        };
        [self.debounce.due(), self.settle.due()]
            .into_iter()
            .flatten()
            .fold(scanned + rescan, Instant::min)
    }
}

impl Source for FilesSource {
    async fn next(&mut self) -> Option<Batch> {
        loop {
            let due = self.due();
            if due <= Instant::now() {
                let scan = self.scan().await;
                let batch = scan.and_then(|scan| self.settle.step(&scan, Instant::now()));
                if let Some(batch) = batch {
                    return Some(self.synth.apply(batch));
                }
                continue;
            }
            let sleep = tokio::time::sleep_until(due.into());
            match &mut self.watch {
                Some(watch) => tokio::select! {
                    () = watch.changed() => self.debounce.event(Instant::now()),
                    () = sleep => {}
                },
                None => sleep.await,
            }
        }
    }
}
