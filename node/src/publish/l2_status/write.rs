//! Brings the objects of kind ServiceL2Status in line with what is wanted. It does not hurry: they are for people and dashboards.
//!
//! MetalLB's definition makes the fields of the status immutable. So a new announcer replaces the previous announcer's object: it
//! deletes the object and creates it again. The previous announcer does not delete the new object, because its uid differs. An
//! object that is owned by an earlier Node object is replaced too, because the garbage collector deletes it together with that
//! Node.

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

/// The pauses between two attempts.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// How often the API server's objects are listed again: somebody may have deleted one.
const AUDIT: Duration = Duration::from_secs(300);

/// The sending side: it passes on which objects are wanted.
#[derive(Debug)]
pub(crate) struct Writer {
    changes: delta::Sender<String, Want>,
    owner: watch::Sender<Option<Owner>>,
}

/// The uid of this node's Node object, if there is one.
type Owner = Option<String>;

impl Writer {
    /// Starts to write as this node, in the namespace of MetalLB's objects. Nothing is written before the first [`Writer::want`].
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

    /// Passes on changes of the wanted objects.
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
    /// `None`: its status has not been written yet.
    shown: Option<Announcement>,
}

type HeldByName = BTreeMap<String, Held>;

/// What is known about the API server's objects.
#[derive(Debug, Default)]
struct Known {
    /// The objects of this node.
    held: HeldByName,
    /// When they were last listed.
    listed: Option<Instant>,
    /// The objects that no node should have, as of the last search for them.
    orphaned: BTreeSet<String>,
}

impl Known {
    /// When this node's objects must be listed again. Changes in the meantime do not postpone it.
    fn due(&self) -> Option<Instant> {
        self.listed.map(|listed| listed + AUDIT)
    }
}

/// The first refusal in a pass. If one object is refused, the others are still written. Any other error ends the pass.
#[derive(Debug, Default)]
struct Refused(Option<Error>);

impl Refused {
    /// Returns whether the request succeeded.
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

    /// One pass. It sends no request for objects that are already right. If one object is refused, the others are still written.
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
            // An object that still belongs to another Node is one that could not be deleted.
            if held.get(name).is_none_or(|held| held.owner == wanted.owner) {
                let owner = wanted.owner.as_deref();
                refused.note(self.put(held, name, announcement, owner).await)?;
            }
        }
        refused.0.map_or(Ok(()), Err)
    }

    /// Deletes those of these objects that exist, regardless of who owns them. Returns those that could not be deleted.
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

    /// Lists what this node wrote, including before a restart.
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

    /// Creates an object, replacing one of another announcer.
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

    /// Deletes an object. It is not an error if the object is gone or has been replaced.
    async fn delete(&self, name: &str, uid: Option<&str>) -> Result<(), Error> {
        match self.objects.delete(name, uid).await {
            Err(Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(Error::Api(status)) if uid.is_some() && status.is_conflict() => Ok(()),
            done => done,
        }
    }
}

/// The right that these requests need.
const RIGHT: &str = "write servicel2statuses.metallb.io";

/// Why the requests failed.
fn why(error: &Error) -> Refusal {
    refusal(error, RIGHT).of_kind("servicel2statuses.metallb.io")
}
