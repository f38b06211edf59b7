//! Writes on a thread of its own. An fsync may take seconds, or forever on a disk that hangs, and the node must continue
//! meanwhile.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::sync::mpsc::{Receiver, channel};

use super::{DirStore, Store, StoreError};
use crate::agreement::table::Saved;

/// A directory with a thread that writes to it.
#[derive(Debug)]
pub struct Background {
    store: DirStore,
    jobs: SyncSender<Arc<Saved>>,
    ends: Receiver<Result<(), StoreError>>,
    writing: bool,
}

impl Background {
    /// Starts the thread. It ends when this value is dropped, or after the write that hangs.
    pub fn start(store: DirStore) -> Result<Self, StoreError> {
        let disk = store.clone();
        Self::with(store, move |saved| disk.save(saved))
    }

    fn with(
        store: DirStore,
        mut write: impl FnMut(&Saved) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<Self, StoreError> {
        // There is one write at a time, so neither queue ever holds more than one entry.
        let (jobs, work) = sync_channel::<Arc<Saved>>(1);
        let (done, ends) = channel(1);
        let run = move || {
            while let Ok(saved) = work.recv() {
                if done.blocking_send(write(&saved)).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("store".into());
        thread
            .spawn(run)
            .map_err(|e| StoreError::io(store.folder(), e))?;
        Ok(Self {
            store,
            jobs,
            ends,
            writing: false,
        })
    }

    fn lost(&self) -> StoreError {
        let source = io::Error::other("the thread that writes has ended");
        StoreError::io(self.store.folder(), source)
    }
}

impl Store for Background {
    fn load(&mut self) -> Result<Option<Saved>, StoreError> {
        self.store.load()
    }

    fn save(&mut self, saved: Arc<Saved>) {
        // If the thread is gone, this shows where its answer is awaited.
        let _ = self.jobs.try_send(saved);
        self.writing = true;
    }

    fn try_saved(&mut self) -> Option<Result<(), StoreError>> {
        let end = self.ends.try_recv().ok().filter(|_| self.writing)?;
        self.writing = false;
        Some(end)
    }

    async fn saved(&mut self) -> Result<(), StoreError> {
        if !self.writing {
            std::future::pending::<()>().await;
        }
        let end = self.ends.recv().await;
        self.writing = false;
        end.unwrap_or_else(|| Err(self.lost()))
    }

    fn folder(&self) -> &Path {
        self.store.folder()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_end_of_a_write_is_heard_and_the_file_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Background::start(DirStore::open(dir.path()).unwrap()).unwrap();
        for number in 1..4 {
            let mut saved = Saved::default();
            saved.promised.round = number;
            store.save(Arc::new(saved.clone()));
            store.saved().await.unwrap();
            assert_eq!(store.load().unwrap(), Some(saved));
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_write_that_hangs_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let disk = DirStore::open(dir.path()).unwrap();
        let (hang, hangs) = std::sync::mpsc::channel::<()>();
        let write = move |_: &Saved| {
            hangs.recv().unwrap();
            Ok(())
        };
        let mut store = Background::with(disk, write).unwrap();
        store.save(Arc::new(Saved::default()));
        let waited = tokio::time::timeout(Duration::from_millis(20), store.saved()).await;
        assert!(waited.is_err() && store.try_saved().is_none());
        hang.send(()).unwrap();
        store.saved().await.unwrap();
    }

    #[tokio::test]
    async fn nothing_is_heard_where_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Background::start(DirStore::open(dir.path()).unwrap()).unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(20), store.saved()).await;
        assert!(waited.is_err());
    }
}
