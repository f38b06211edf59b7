//! A folder of YAML as a source: like `kubectl apply -f DIR`, followed for as long as the program runs.
//!
//! [`scan`] reads the folder, [`document`] turns files into objects, [`settle`] decides which differences to act on and when,
//! [`watch`] decides when to read again. Objects without a namespace in a file directly in the folder are in namespace `default`;
//! those in a subfolder are in the namespace of the subfolder's name.
//!
//! The folder is somebody's working copy: it is edited, rewritten, replaced and unmounted while it is followed. So additions and
//! changes take effect at once, removals only after they have settled, and unreadable files remove nothing.
//!
//! Reading may take long or hang (a large folder, an unreachable network file system). So one thread at a time reads, outside of
//! the runtime's threads, and it continues while the caller of [`Source::next`] does other things. The end of the program must
//! not wait for it (use `Runtime::shutdown_background`).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ferrolb_api::change::Batch;
use tokio::task::{JoinError, JoinHandle};

use crate::Source;
use crate::synth::Synth;

mod disk;
pub mod document;
mod index;
mod locate;
pub mod scan;
pub mod settle;
pub mod watch;

#[cfg(test)]
mod tests;

use disk::{Disk, Kernel};
use scan::{Limits, Scan, Scanner};
use settle::Settle;
use watch::{Debounce, Followed, Follower, Watch};

/// Settings for following a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long the folder must be quiet before it is read.
    pub quiet: Duration,
    /// When it is read despite constant writes.
    pub busy: Duration,
    /// How long an object must be missing before it is removed.
    pub settle: Duration,
    /// How often it is checked without a notification (bind mounts and network file systems send none).
    pub rescan: Duration,
    /// After this time, a scan that has not finished is reported.
    pub patience: Duration,
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
            patience: Duration::from_secs(30),
            limits: Limits::default(),
        }
    }
}

/// Why the folder cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// It does not exist, or cannot be read.
    #[error("the manifests folder {} cannot be read: {error}; create it or name another one", dir.display())]
    Unreadable {
        /// The folder.
        dir: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not a folder.
    #[error("{} is not a folder: name the folder that holds the manifests", .0.display())]
    NotAFolder(PathBuf),
}

/// A folder of manifests.
#[derive(Debug)]
pub struct FilesSource {
    dir: PathBuf,
    settings: Settings,
    disk: Arc<dyn Disk>,
    reader: Arc<Mutex<Reader>>,
    reading: Option<Reading>,
    settle: Settle,
    synth: Synth,
    watch: Option<Watch>,
    debounce: Debounce,
    /// When the folder was last read; `None` if never.
    scanned: Option<Instant>,
}

/// The state that a scan needs, moved to the thread that reads.
#[derive(Debug)]
struct Reader {
    scanner: Scanner,
    follower: Option<Follower>,
}

/// A scan in progress.
#[derive(Debug)]
struct Reading {
    scan: JoinHandle<(Followed, Scan)>,
    began: Instant,
    /// Whether the delay has been reported.
    said: bool,
}

impl FilesSource {
    /// Follows a folder, which must exist. An empty folder is valid.
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
        Ok(Self::on(Arc::new(Kernel), dir, settings))
    }

    /// Follows a folder on this file system.
    fn on(disk: Arc<dyn Disk>, dir: PathBuf, settings: Settings) -> Self {
        let scanner = Scanner::on(Arc::clone(&disk), dir.clone(), settings.limits.clone());
        let reader = Reader {
            scanner,
            follower: None,
        };
        Self {
            disk,
            reader: Arc::new(Mutex::new(reader)),
            reading: None,
            settle: Settle::new(settings.settle),
            synth: Synth::default(),
            watch: None,
            debounce: Debounce::new(settings.quiet, settings.busy),
            scanned: None,
            dir,
            settings,
        }
    }

    /// Starts to read the folder.
    fn begin(&mut self) {
        let new = self.watch.is_none();
        let watch = self.watch.get_or_insert_with(|| Watch::new(&self.dir));
        let follower = new.then(|| watch.follower(&self.dir)).flatten();
        let (reader, disk) = (Arc::clone(&self.reader), Arc::clone(&self.disk));
        let scan = tokio::task::spawn_blocking(move || {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            if follower.is_some() {
                reader.follower = follower;
            }
            let followed = reader.follower.as_mut().map(|f| f.follow(&*disk));
            (followed.unwrap_or_default(), reader.scanner.scan())
        });
        self.reading = Some(Reading {
            scan,
            began: Instant::now(),
            said: false,
        });
    }

    /// Processes the result of a scan.
    fn end(&mut self, read: Result<(Followed, Scan), JoinError>, began: Instant) -> Option<Batch> {
        self.debounce.done(began);
        self.scanned = Some(Instant::now());
        match read {
            Ok((followed, scan)) => {
                if let Some(watch) = &mut self.watch {
                    watch.follows(followed);
                }
                self.settle.step(scan, Instant::now())
            }
            Err(error) => {
                tracing::error!(%error, "reading the manifests folder failed; it is read again");
                None
            }
        }
    }

    /// Reports that reading the folder takes too long.
    fn complain(&mut self) -> Option<Batch> {
        let patience = self.settings.patience;
        tracing::warn!(folder = %self.dir.display(), "reading the manifests folder has taken more than {patience:?}: is its file system unreachable?");
        let scan = Scan {
            missing: Some(format!(
                "{}: reading it takes more than {patience:?}",
                self.dir.display()
            )),
            ..Scan::default()
        };
        self.settle.step(scan, Instant::now())
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

/// Waits until something happens in the folder.
async fn changed(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

impl Source for FilesSource {
    /// Cancel-safe: a scan in progress continues.
    async fn next(&mut self) -> Option<Batch> {
        loop {
            let Some(reading) = &mut self.reading else {
                let due = self.due();
                if due <= Instant::now() {
                    self.begin();
                    continue;
                }
                tokio::select! {
                    () = changed(&mut self.watch) => self.debounce.event(Instant::now()),
                    () = tokio::time::sleep_until(due.into()) => {}
                }
                continue;
            };
            let began = reading.began;
            let late = tokio::time::sleep_until((began + self.settings.patience).into());
            let batch = tokio::select! {
                read = &mut reading.scan => {
                    self.reading = None;
                    self.end(read, began)
                }
                () = changed(&mut self.watch) => {
                    self.debounce.event(Instant::now());
                    continue;
                }
                () = late, if !reading.said => {
                    reading.said = true;
                    self.complain()
                }
            };
            if let Some(batch) = batch {
                return Some(self.synth.apply(batch));
            }
        }
    }
}
