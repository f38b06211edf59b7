//! Decides when to read the folder: inotify on the folder, its subfolders, and its name in the parent folder (it may be replaced
//! as a whole), and the wait for a pause in the writes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use inotify::{EventStream, Inotify, WatchDescriptor, WatchMask, Watches};

use super::disk::Disk;

/// Room for a few hundred events at once.
const BUFFER: usize = 16 << 10;

/// Waits for a pause: `quiet` after the last event, but at most `busy` after the first.
#[derive(Debug)]
pub struct Debounce {
    quiet: Duration,
    busy: Duration,
    /// The first and the last event that are not handled.
    events: Option<(Instant, Instant)>,
}

impl Debounce {
    /// Creates it with these waits.
    pub fn new(quiet: Duration, busy: Duration) -> Self {
        Self {
            quiet,
            busy,
            events: None,
        }
    }

    /// Records an event.
    pub fn event(&mut self, now: Instant) {
        let first = self.events.map_or(now, |(first, _)| first);
        self.events = Some((first, now));
    }

    /// When to read; `None` if nothing happened.
    pub fn due(&self) -> Option<Instant> {
        let (first, last) = self.events?;
        Some((last + self.quiet).min(first + self.busy))
    }

    /// Marks all events up to this time as handled.
    pub fn done(&mut self, began: Instant) {
        if self.events.is_some_and(|(_, last)| last <= began) {
            self.events = None;
        }
    }
}

/// Notices changes in a folder.
pub struct Watch {
    /// The folder's own name in its parent.
    name: Option<OsString>,
    stream: Option<EventStream<Vec<u8>>>,
    followed: Followed,
}

/// The folders that are watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Followed {
    /// The parent folder.
    parent: Option<WatchDescriptor>,
    folders: Vec<WatchDescriptor>,
}

/// Keeps watches on the folders that exist. This calls the file system, which may hang, so it is separate from the wait for
/// events.
#[derive(Debug)]
pub(super) struct Follower {
    dir: PathBuf,
    watches: Watches,
    followed: BTreeMap<PathBuf, WatchDescriptor>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// Starts to listen; must be called on a runtime. Without inotify it is deaf, and the folder is read at fixed intervals only.
    pub fn new(dir: &Path) -> Self {
        let stream = Inotify::init()
            .and_then(|inotify| inotify.into_event_stream(vec![0; BUFFER]))
            .inspect_err(|error| tracing::warn!(%error, "inotify is not available, so the manifests folder is read every second"))
            .ok();
        Self {
            name: dir.file_name().map(OsString::from),
            stream,
            followed: Followed::default(),
        }
    }

    /// Whether it receives no events.
    pub fn is_deaf(&self) -> bool {
        self.stream.is_none()
    }

    /// The handle that sets in the kernel which folders this watch covers.
    pub(super) fn follower(&self, dir: &Path) -> Option<Follower> {
        let stream = self.stream.as_ref()?;
        Some(Follower {
            dir: dir.to_owned(),
            watches: stream.watches(),
            followed: BTreeMap::new(),
        })
    }

    /// Sets which folders are covered.
    pub(super) fn follows(&mut self, followed: Followed) {
        self.followed = followed;
    }

    /// Returns when something happened; never if it is deaf. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            let event = match &mut self.stream {
                Some(stream) => stream.next().await,
                None => std::future::pending().await,
            };
            match event {
                Some(Ok(event)) => {
                    // The parent folder may be a busy one.
                    let elsewhere = self.followed.parent.as_ref() == Some(&event.wd)
                        && !self.followed.folders.contains(&event.wd)
                        && event.name.is_some()
                        && event.name != self.name;
                    if !elsewhere {
                        return;
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "inotify failed, so the manifests folder is read every second");
                    self.stream = None;
                    return;
                }
                None => {
                    self.stream = None;
                    return;
                }
            }
        }
    }
}

impl Follower {
    /// Watches the folders that exist now. Call this before they are read, so that changes in the meantime are noticed.
    pub(super) fn follow(&mut self, disk: &dyn Disk) -> Followed {
        let replaced = WatchMask::CREATE | WatchMask::MOVE | WatchMask::DELETE;
        let inside = replaced
            | WatchMask::CLOSE_WRITE
            | WatchMask::MODIFY
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        let mut parent = None;
        if let Some(above) = self.dir.parent() {
            let mask = replaced | WatchMask::ONLYDIR;
            parent = self.watches.add(above, mask).ok();
        }
        let mut followed = BTreeMap::new();
        for folder in std::iter::once(self.dir.clone()).chain(disk.subfolders(&self.dir)) {
            // The folder was deleted again, or no watch is left: the timer is the fallback.
            if let Ok(watch) = self.watches.add(&folder, inside | WatchMask::ONLYDIR) {
                followed.insert(folder, watch);
            }
        }
        for old in self.followed.values() {
            if !followed.values().any(|new| new == old) && parent.as_ref() != Some(old) {
                // Fails if the folder, and with it the watch, is gone.
                self.watches.remove(old.clone()).ok();
            }
        }
        self.followed = followed;
        Followed {
            parent,
            folders: self.followed.values().cloned().collect(),
        }
    }
}
