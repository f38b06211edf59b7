//! When to look at the folder: inotify on it, its subfolders and its name in the folder above (it may be replaced as a whole),
//! and the wait for a pause in the writing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use inotify::{EventStream, Inotify, WatchDescriptor, WatchMask};

/// Room for some hundred events at once.
const BUFFER: usize = 16 << 10;

/// Waits for a pause: `quiet` after the last event, but no longer than `busy` after the first.
#[derive(Debug)]
pub struct Debounce {
    quiet: Duration,
    busy: Duration,
    /// First and last event not dealt with.
    events: Option<(Instant, Instant)>,
}

impl Debounce {
    /// With these waits.
    pub fn new(quiet: Duration, busy: Duration) -> Self {
        Self {
            quiet,
            busy,
            events: None,
        }
    }

    /// Something happened.
    pub fn event(&mut self, now: Instant) {
        let first = self.events.map_or(now, |(first, _)| first);
        self.events = Some((first, now));
    }

    /// When to look; `None` where nothing happened.
    pub fn due(&self) -> Option<Instant> {
        let (first, last) = self.events?;
        Some((last + self.quiet).min(first + self.busy))
    }

    /// All events up to then are dealt with.
    pub fn done(&mut self, began: Instant) {
        if self.events.is_some_and(|(_, last)| last <= began) {
            self.events = None;
        }
    }
}

/// Hears of changes in a folder.
pub struct Watch {
    dir: PathBuf,
    /// Its own name in the folder above.
    name: Option<OsString>,
    stream: Option<EventStream<Vec<u8>>>,
    followed: BTreeMap<PathBuf, WatchDescriptor>,
    parent: Option<WatchDescriptor>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// Begins to listen; must be called on a runtime. Without inotify it is deaf, and the folder is looked at by the clock.
    pub fn new(dir: &Path) -> Self {
        let stream = Inotify::init()
            .and_then(|inotify| inotify.into_event_stream(vec![0; BUFFER]))
            .inspect_err(|error| tracing::warn!(%error, "no inotify: the manifests folder is looked at every second instead"))
            .ok();
        Self {
            dir: dir.to_owned(),
            name: dir.file_name().map(OsString::from),
            stream,
            followed: BTreeMap::new(),
            parent: None,
        }
    }

    /// Whether it hears nothing.
    pub fn is_deaf(&self) -> bool {
        self.stream.is_none()
    }

    /// Watches the folders that are there now. To be called before they are read, so that what changes meanwhile is heard of.
    pub fn follow(&mut self) {
        let Some(stream) = &self.stream else {
            return;
        };
        let mut watches = stream.watches();
        let replaced = WatchMask::CREATE | WatchMask::MOVE | WatchMask::DELETE;
        let inside = replaced
            | WatchMask::CLOSE_WRITE
            | WatchMask::MODIFY
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        if let Some(parent) = self.dir.parent() {
            self.parent = watches.add(parent, replaced | WatchMask::ONLYDIR).ok();
        }
        let mut followed = BTreeMap::new();
        for folder in std::iter::once(self.dir.clone()).chain(subfolders(&self.dir)) {
            // Gone again, or no watch left: the clock is the fallback.
            if let Ok(watch) = watches.add(&folder, inside | WatchMask::ONLYDIR) {
                followed.insert(folder, watch);
            }
        }
        for old in self.followed.values() {
            if !followed.values().any(|new| new == old) && self.parent.as_ref() != Some(old) {
                // Fails where the folder is gone, and the watch with it.
                watches.remove(old.clone()).ok();
            }
        }
        self.followed = followed;
    }

    /// Returns when something happened; never where it is deaf. May be given up and called again.
    pub async fn changed(&mut self) {
        loop {
            let event = match &mut self.stream {
                Some(stream) => stream.next().await,
                None => std::future::pending().await,
            };
            match event {
                Some(Ok(event)) => {
                    // The folder above may be a busy one.
                    let elsewhere = self.parent.as_ref() == Some(&event.wd)
                        && !self.followed.values().any(|wd| *wd == event.wd)
                        && event.name.is_some()
                        && event.name != self.name;
                    if !elsewhere {
                        return;
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "inotify failed: the manifests folder is looked at every second instead");
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

fn subfolders(dir: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter(|entry| {
            !entry.file_name().as_encoded_bytes().starts_with(b".")
                && entry.file_type().is_ok_and(|t| t.is_dir())
        })
        .map(|entry| entry.path())
}
