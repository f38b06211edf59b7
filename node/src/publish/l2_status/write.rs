//! Brings the objects of kind ServiceL2Status in line with what is wanted, without haste: they are for people and dashboards.
//!
//! The fields of their status cannot be changed (MetalLB's definition forbids it), so an announcer replaces the object of another
//! one: it is deleted and made anew. An object that was replaced is not deleted by the one that made it before (its uid differs).
//! One that a Node object of before owns is replaced too: the garbage collector takes it away with that Node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ferrolb_api::refusal::Refusal;
use ferrolb_api::{Backoff, delta};
use ferrolb_source::cluster::access::refusal;
use kube::{Client, Error};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::objects::{ApiObjects, Found, Objects};
use super::{Announcement, Changes, Want, Wanted};

#[cfg(test)]
mod tests;

/// Between two attempts.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// What the API server has is listed again so often: somebody may have deleted it.
const AUDIT: Duration = Duration::from_secs(300);

/// Where what is wanted goes.
#[derive(Debug)]
pub(crate) struct Writer {
    changes: delta::Sender<String, Want>,
    owner: watch::Sender<Option<Owner>>,
}

/// The uid of this node's Node object, where it has one.
type Owner = Option<String>;

impl Writer {
    /// Starts to write as this node, in the namespace of MetalLB's objects. Nothing is done before the first [`Writer::want`].
    pub(crate) fn start(client: Client, namespace: &str, node: &str) -> Self {
        let (changes, hear) = delta::channel();
        let (owner, hear_owner) = watch::channel(None);
        let scribe = Scribe {
            objects: ApiObjects::new(client, namespace),
            node: node.to_owned(),
        };
        tokio::spawn(scribe.follow(hear, hear_owner));
        Self { changes, owner }
    }

    /// Says how what is to be changes.
    pub(in crate::publish) fn want(&self, changes: Changes, owner: Option<&str>) {
        self.changes.send(changes);
        self.owner.send_if_modified(|old| {
            let other = old.as_ref().is_none_or(|old| old.as_deref() != owner);
            if other {
                *old = Some(owner.map(str::to_owned));
            }
            other
        });
    }
}

/// An object of this node.
#[derive(Debug)]
struct Held {
    uid: String,
    /// The uid of the Node object that owns it.
    owner: Option<String>,
    /// `None`: its status was not written yet.
    shown: Option<Announcement>,
}

type HeldByName = BTreeMap<String, Held>;

/// What is known of the API server's objects.
#[derive(Debug, Default)]
struct Known {
    /// Those of this node.
    held: HeldByName,
    /// When they were listed.
    listed: Option<Instant>,
    /// Those that no node should have, as they were looked for last.
    orphaned: BTreeSet<String>,
}

impl Known {
    /// When the objects of this node are listed again; changes meanwhile do not put it off.
    fn due(&self) -> Option<Instant> {
        self.listed.map(|listed| listed + AUDIT)
    }
}

/// The first refusal of a pass. What is refused for one object keeps no other from being written; any other failure is one of all.
#[derive(Debug, Default)]
struct Refused(Option<Error>);

impl Refused {
    /// Whether it was done.
    fn note(&mut self, done: Result<(), Error>) -> Result<bool, Error> {
        match done {
            Ok(()) => Ok(true),
            Err(error @ Error::Api(_)) => {
                self.0.get_or_insert(error);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

struct Scribe<O> {
    objects: O,
    node: String,
}

impl<O: Objects> Scribe<O> {
    async fn follow(
        self,
        hear: delta::Receiver<String, Want>,
        mut hear_owner: watch::Receiver<Option<Owner>>,
    ) {
        if hear_owner.wait_for(Option::is_some).await.is_err() {
            return;
        }
        let mut known = Known::default();
        let mut wanted = Wanted::default();
        let mut backoff = PAUSES;
        loop {
            wanted.apply(hear.take());
            wanted.owner = hear_owner.borrow_and_update().clone().flatten();
            match self.bring(&mut known, &wanted, Instant::now()).await {
                Ok(()) => {
                    if backoff.failures() > 0 {
                        backoff.reset();
                        info!("ServiceL2Status objects can be written again");
                    }
                    let due = known.due().unwrap_or_else(Instant::now);
                    tokio::select! {
                        () = hear.changed() => {}
                        owner = hear_owner.changed() => if owner.is_err() { return },
                        () = tokio::time::sleep_until(due.into()) => {}
                    }
                }
                Err(error) => {
                    let why = why(&error);
                    if backoff.failures() > 0 {
                        debug!(%why, "cannot write ServiceL2Status objects");
                    } else {
                        warn!("cannot write ServiceL2Status objects: {why}");
                    }
                    tokio::time::sleep(backoff.next(0)).await;
                }
            }
        }
    }

    /// One pass; what is right is not asked about. An object that is refused keeps no other from being written.
    async fn bring(&self, known: &mut Known, wanted: &Wanted, now: Instant) -> Result<(), Error> {
        if known.due().is_none_or(|due| due <= now) {
            known.held = self.list().await?;
            known.listed = Some(now);
        }
        let mut refused = Refused::default();
        let held = &mut known.held;
        let is_right = |name: &String, object: &Held| {
            wanted.own.contains_key(name) && object.owner == wanted.owner
        };
        let wrong = held.iter().filter(|(name, held)| !is_right(name, held));
        let wrong: Vec<(String, String)> = wrong
            .map(|(n, held)| (n.clone(), held.uid.clone()))
            .collect();
        for (name, uid) in wrong {
            if refused.note(self.delete(&name, Some(&uid)).await)? {
                held.remove(&name);
            }
        }
        if !wanted.orphaned.is_subset(&known.orphaned) {
            known.orphaned.clear();
            let left = self.take_back(&wanted.orphaned, &mut refused).await?;
            known.orphaned = wanted.orphaned.difference(&left).cloned().collect();
        } else if known.orphaned.len() > wanted.orphaned.len() {
            known.orphaned.clone_from(&wanted.orphaned);
        }
        for (name, announcement) in &wanted.own {
            // One that is still another Node's could not be deleted.
            if held.get(name).is_none_or(|held| held.owner == wanted.owner) {
                let owner = wanted.owner.as_deref();
                refused.note(self.put(held, name, announcement, owner).await)?;
            }
        }
        refused.0.map_or(Ok(()), Err)
    }

    /// Deletes those of these objects that there are, whosever they are, and returns those that could not be.
    async fn take_back(
        &self,
        orphaned: &BTreeSet<String>,
        refused: &mut Refused,
    ) -> Result<BTreeSet<String>, Error> {
        let all = match self.objects.list(None).await {
            Ok(all) => all,
            refusal => {
                refused.note(refusal.map(drop))?;
                return Ok(orphaned.clone());
            }
        };
        let mut left = BTreeSet::new();
        for object in all {
            if orphaned.contains(&object.name)
                && !refused.note(self.delete(&object.name, Some(&object.uid)).await)?
            {
                left.insert(object.name);
            }
        }
        Ok(left)
    }

    async fn put(
        &self,
        held: &mut HeldByName,
        name: &str,
        announcement: &Announcement,
        owner: Option<&str>,
    ) -> Result<(), Error> {
        match held.get(name) {
            Some(object) if object.shown.as_ref() == Some(announcement) => return Ok(()),
            Some(_) => {}
            None => {
                let made = self.create(name, announcement, owner).await?;
                held.insert(name.to_owned(), made);
            }
        }
        match self.objects.show(&self.node, name, announcement).await {
            // Somebody deleted it.
            Err(Error::Api(status)) if status.is_not_found() => {
                held.remove(name);
                let made = self.create(name, announcement, owner).await?;
                held.insert(name.to_owned(), made);
                self.objects.show(&self.node, name, announcement).await?;
            }
            shown => shown?,
        }
        if let Some(object) = held.get_mut(name) {
            object.shown = Some(announcement.clone());
        }
        Ok(())
    }

    /// What this node wrote, in this life or before.
    async fn list(&self) -> Result<HeldByName, Error> {
        let found = self.objects.list(Some(&self.node)).await?;
        // Two long names may have the same label.
        let is_own = |object: &Found| match &object.shown {
            Some((node, _)) => node.is_empty() || *node == self.node,
            None => true,
        };
        let held = found.into_iter().filter(is_own).map(|object| {
            let shown = object.shown.filter(|(node, _)| *node == self.node);
            let held = Held {
                uid: object.uid,
                owner: object.owner,
                shown: shown.map(|(_, announcement)| announcement),
            };
            (object.name, held)
        });
        Ok(held.collect())
    }

    /// Makes an object, in the place of another announcer's.
    async fn create(
        &self,
        name: &str,
        announcement: &Announcement,
        owner: Option<&str>,
    ) -> Result<Held, Error> {
        let create = || self.objects.create(&self.node, name, announcement, owner);
        let uid = match create().await {
            Err(Error::Api(status)) if status.is_already_exists() => {
                self.delete(name, None).await?;
                create().await?
            }
            made => made?,
        };
        Ok(Held {
            uid,
            owner: owner.map(str::to_owned),
            shown: None,
        })
    }

    /// Deletes an object. One that is gone, or is another one by now, is no error.
    async fn delete(&self, name: &str, uid: Option<&str>) -> Result<(), Error> {
        match self.objects.delete(name, uid).await {
            Err(Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(Error::Api(status)) if uid.is_some() && status.is_conflict() => Ok(()),
            done => done,
        }
    }
}

/// What these requests need to be allowed.
const RIGHT: &str = "write servicel2statuses.metallb.io";

/// Why they came to nothing.
fn why(error: &Error) -> Refusal {
    refusal(error, RIGHT).of_kind("servicel2statuses.metallb.io")
}
