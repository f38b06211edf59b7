//! Brings the objects of kind ServiceL2Status in line with what is wanted, without haste: they are for people and dashboards.
//!
//! The fields of their status cannot be changed (MetalLB's definition forbids it), so an announcer replaces the object of another
//! one: it is deleted and made anew. An object that was replaced is not deleted by the one that made it before (its uid differs).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ferrolb_api::cluster::chain;
use ferrolb_api::crd::l2_status;
use ferrolb_api::crd::l2_status::{Interface, L2Status, NODE, SERVICE_NAME, SERVICE_NAMESPACE};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{
    DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions,
};
use kube::{Api, Client, Error, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{Announcement, Wanted};

/// Between the first two attempts; doubled up to [`SLOWEST`].
const PAUSE: Duration = Duration::from_secs(1);
const SLOWEST: Duration = Duration::from_secs(60);
/// What the API server has is listed again so often: somebody may have deleted it.
const AUDIT: Duration = Duration::from_secs(300);

/// Who writes.
#[derive(Debug, Clone)]
pub(in crate::node) struct Author {
    /// Name of this node.
    pub(in crate::node) node: String,
    /// The uid of its Node object: with that the objects go too.
    pub(in crate::node) uid: Option<String>,
}

/// Where what is wanted goes.
#[derive(Debug)]
pub(in crate::node) struct Writer(watch::Sender<Wanted>);

impl Writer {
    /// Starts to write, in the namespace of MetalLB's objects. Nothing is done before the first [`Writer::want`].
    pub(in crate::node) fn start(client: Client, namespace: &str, author: Author) -> Self {
        let (wanted, hear) = watch::channel(Wanted::default());
        let api = Api::namespaced_with(client, namespace, &l2_status::resource());
        tokio::spawn(Scribe { api, author }.follow(hear));
        Self(wanted)
    }

    /// Says what is to be.
    pub(in crate::node::tell) fn want(&self, wanted: Wanted) {
        self.0.send_if_modified(|old| {
            let other = *old != wanted;
            *old = wanted;
            other
        });
    }
}

/// An object of this node.
#[derive(Debug)]
struct Held {
    uid: String,
    /// `None`: its status was not written yet.
    shown: Option<Announcement>,
}

type HeldByName = BTreeMap<String, Held>;

/// What is known of the API server's objects.
#[derive(Debug, Default)]
struct Known {
    /// Those of this node; `None`: they must be listed.
    held: Option<HeldByName>,
    /// Those that no node should have, as they were looked for last.
    orphaned: BTreeSet<String>,
}

struct Scribe {
    api: Api<DynamicObject>,
    author: Author,
}

impl Scribe {
    async fn follow(self, mut hear: watch::Receiver<Wanted>) {
        if hear.changed().await.is_err() {
            return;
        }
        let mut known = Known::default();
        let (mut pause, mut told) = (PAUSE, false);
        loop {
            let wanted = hear.borrow_and_update().clone();
            match self.bring(&mut known, &wanted).await {
                Ok(()) => {
                    if std::mem::take(&mut told) {
                        info!("objects of kind ServiceL2Status are written again");
                    }
                    pause = PAUSE;
                    match tokio::time::timeout(AUDIT, hear.changed()).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => return,
                        Err(_) => known.held = None,
                    }
                }
                Err(error) => {
                    let why = sentence(&error);
                    if std::mem::replace(&mut told, true) {
                        debug!("{why}");
                    } else {
                        warn!("{why}");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(SLOWEST);
                }
            }
        }
    }

    /// One pass; what is right is not asked about. An object that is refused keeps no other from being written.
    async fn bring(&self, known: &mut Known, wanted: &Wanted) -> Result<(), Error> {
        let held = match &mut known.held {
            Some(held) => held,
            held => held.insert(self.list().await?),
        };
        let is_wanted = |name: &String| wanted.own.contains_key(name);
        let gone: Vec<String> = held.keys().filter(|n| !is_wanted(n)).cloned().collect();
        for name in gone {
            if let Some(object) = held.get(&name) {
                self.delete(&name, Some(&object.uid)).await?;
            }
            held.remove(&name);
        }
        if !wanted.orphaned.is_subset(&known.orphaned) {
            self.take_back(&wanted.orphaned).await?;
        }
        known.orphaned.clone_from(&wanted.orphaned);
        let mut refused = None;
        for (name, announcement) in &wanted.own {
            match self.put(held, name, announcement).await {
                Ok(()) => {}
                Err(error @ Error::Api(_)) => refused = refused.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Deletes those of these objects that there are, whosever they are.
    async fn take_back(&self, orphaned: &BTreeSet<String>) -> Result<(), Error> {
        for object in self.api.list(&ListParams::default()).await? {
            if orphaned.contains(&object.name_any()) {
                self.delete(&object.name_any(), object.uid().as_deref())
                    .await?;
            }
        }
        Ok(())
    }

    async fn put(
        &self,
        held: &mut HeldByName,
        name: &str,
        announcement: &Announcement,
    ) -> Result<(), Error> {
        let is_shown = |object: &Held| object.shown.as_ref() == Some(announcement);
        if held.get(name).is_some_and(is_shown) {
            return Ok(());
        }
        let object = match held.entry(name.to_owned()) {
            Entry::Occupied(object) => object.into_mut(),
            Entry::Vacant(place) => place.insert(self.create(name, announcement).await?),
        };
        match self.show(name, announcement).await {
            // Somebody deleted it.
            Err(Error::Api(status)) if status.is_not_found() => {
                *object = self.create(name, announcement).await?;
                self.show(name, announcement).await?;
            }
            shown => shown?,
        }
        object.shown = Some(announcement.clone());
        Ok(())
    }

    /// What this node wrote, in this life or before.
    async fn list(&self) -> Result<HeldByName, Error> {
        let of_mine = ListParams::default().labels(&format!("{NODE}={}", self.author.node));
        let found = self.api.list(&of_mine).await?;
        let held = found.into_iter().filter_map(|object| {
            let shown = L2Status::of(&object)
                .filter(|status| status.node == self.author.node)
                .map(|status| Announcement {
                    service: status.service(),
                    interfaces: status.interfaces.into_iter().map(|i| i.name).collect(),
                });
            let uid = object.uid()?;
            Some((object.name_any(), Held { uid, shown }))
        });
        Ok(held.collect())
    }

    /// Makes an object, in the place of another announcer's.
    async fn create(&self, name: &str, announcement: &Announcement) -> Result<Held, Error> {
        let object = self.object(name, announcement);
        let made = match self.api.create(&PostParams::default(), &object).await {
            Err(Error::Api(status)) if status.is_already_exists() => {
                self.delete(name, None).await?;
                self.api.create(&PostParams::default(), &object).await?
            }
            made => made?,
        };
        Ok(Held {
            uid: made.uid().unwrap_or_default(),
            shown: None,
        })
    }

    fn object(&self, name: &str, announcement: &Announcement) -> DynamicObject {
        let owner = self.author.uid.as_ref().map(|uid| OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.author.node.clone(),
            uid: uid.clone(),
            ..OwnerReference::default()
        });
        let mut object =
            DynamicObject::new(name, &l2_status::resource()).data(json!({ "spec": {} }));
        object.metadata.owner_references = owner.map(|owner| vec![owner]);
        let labels = [
            (NODE, &self.author.node),
            (SERVICE_NAME, &announcement.service.name),
            (SERVICE_NAMESPACE, &announcement.service.namespace),
        ];
        object.metadata.labels = Some(
            labels
                .into_iter()
                .map(|(label, value)| (label.to_owned(), value.clone()))
                .collect(),
        );
        object
    }

    async fn show(&self, name: &str, announcement: &Announcement) -> Result<(), Error> {
        let interfaces = announcement.interfaces.iter();
        let status = L2Status {
            node: self.author.node.clone(),
            service_name: announcement.service.name.clone(),
            service_namespace: announcement.service.namespace.clone(),
            interfaces: interfaces.map(|i| Interface { name: i.clone() }).collect(),
        };
        let patch = Patch::Merge(json!({ "status": status }));
        let params = PatchParams::default();
        self.api.patch_status(name, &params, &patch).await.map(drop)
    }

    /// Deletes an object; with a uid only that one. One that is gone is no error.
    async fn delete(&self, name: &str, uid: Option<&str>) -> Result<(), Error> {
        let params = DeleteParams {
            preconditions: uid.map(|uid| Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.api.delete(name, &params).await {
            Err(Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(Error::Api(status)) if uid.is_some() && status.is_conflict() => Ok(()),
            done => done.map(drop),
        }
    }
}

/// What went wrong and what to do.
fn sentence(error: &Error) -> String {
    let what = "who announces which Service cannot be written (servicel2statuses.metallb.io)";
    match error {
        Error::Api(status) if status.is_not_found() => format!(
            "{what}: the API server does not know this kind: apply the definition of it that `ferrolb crds` prints"
        ),
        Error::Api(status) if status.is_forbidden() => {
            format!("{what}: give this user that right (deploy/kustomize/base/rbac.yaml has it)")
        }
        error => format!("{what}: {}", chain(error)),
    }
}
