//! A cluster's API as a source: one watch for each kind, resumed where it broke off.
//!
//! `object` holds the parsed form of an answer, `watch` makes the requests and retries, `merge` builds batches from the events.
//! `kube`'s watcher implements the protocol: a paged list, then a watch from its resource version, bookmarks, and a new list
//! after 410 Gone (Kubernetes API concepts, "Efficient detection of changes").

pub mod access;
pub mod api_server;
mod deadline;
mod l2_status;
mod merge;
mod object;
pub mod requests;
mod watch;

#[cfg(test)]
mod tests;

use std::time::Duration;

use ferrolb_api::change::Batch;
use kube::Client;
use merge::{Merge, News};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::Source;
pub use l2_status::l2_status_kind;
pub use watch::{Resources, Settings};

/// A permission to list and watch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// API group, empty for the core.
    pub group: String,
    /// The resource, in the plural.
    pub resource: String,
    /// The only namespace; `None`: all namespaces, or a cluster-scoped kind.
    pub namespace: Option<String>,
    /// The only object, by its name; `None`: all objects.
    pub name: Option<String>,
}

/// Exactly the permissions that a source with these settings needs.
pub fn rights(settings: &Settings) -> Vec<Right> {
    let resources = watch::resources(settings);
    resources.iter().map(watch::Resource::right).collect()
}

/// The capacity of the queue to the merger. When it is full, the watches wait.
const QUEUE: usize = 1024;
/// The maximum number of events in one batch.
const TOGETHER: usize = 10_000;
/// How often the source logs what the first batch is waiting for.
const IMPATIENCE: Duration = Duration::from_secs(10);

/// A cluster's API.
#[derive(Debug)]
pub struct ClusterSource {
    merge: Merge,
    news: mpsc::Receiver<(usize, News)>,
    began: bool,
    told: Option<Vec<String>>,
    /// When to log next what the first batch is waiting for. This is not a timeout, because repeated refusals must not postpone
    /// it.
    impatient_at: Instant,
    /// Dropped with the source, which ends the watches.
    _watches: JoinSet<()>,
}

impl ClusterSource {
    /// Starts watching. Needs a tokio runtime.
    pub fn new(client: &Client, settings: &Settings) -> Self {
        let (tell, news) = mpsc::channel(QUEUE);
        let mut watches = JoinSet::new();
        let resources = watch::resources(settings);
        let merge = Merge::new(resources.iter().map(|r| r.kind));
        for (number, resource) in resources.into_iter().enumerate() {
            watches.spawn(watch::follow(
                client.clone(),
                resource,
                number,
                tell.clone(),
            ));
        }
        Self {
            merge,
            news,
            began: false,
            told: None,
            impatient_at: Instant::now() + IMPATIENCE,
            _watches: watches,
        }
    }

    /// The ones among them that lack a permission. [`next`](Source::next) waits until somebody grants it.
    pub fn refusals(&self) -> Vec<String> {
        self.merge.refusals()
    }

    fn complain(&mut self) {
        let waits = self.merge.waits_for();
        if self.told.as_ref() != Some(&waits) {
            for what in &waits {
                warn!("still waiting for the API server: {what}");
            }
            self.told = Some(waits);
        }
    }
}

impl Source for ClusterSource {
    async fn next(&mut self) -> Option<Batch> {
        loop {
            let news = if self.began {
                Ok(self.news.recv().await)
            } else {
                tokio::time::timeout_at(self.impatient_at, self.news.recv()).await
            };
            match news {
                Ok(Some((number, news))) => self.merge.hear(number, news),
                Ok(None) => return None,
                Err(_) => {
                    self.complain();
                    self.impatient_at = Instant::now() + IMPATIENCE;
                }
            }
            for _ in 0..TOGETHER {
                match self.news.try_recv() {
                    Ok((number, news)) => self.merge.hear(number, news),
                    Err(_) => break,
                }
            }
            if let Some(batch) = self.merge.take() {
                if !std::mem::replace(&mut self.began, true) {
                    info!(
                        objects = batch.changes.len(),
                        "the API server's lists are complete"
                    );
                }
                return Some(batch);
            }
        }
    }

    fn waits_for(&self) -> Vec<String> {
        self.merge.waits_for()
    }
}
