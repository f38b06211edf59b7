//! The edge to the API server: its objects of kind ServiceL2Status. [`ApiObjects`] is the real implementation; tests keep the
//! objects in memory.

use std::future::Future;

use ferrolb_api::crd::l2_status::{Interface, L2Status, NODE, SERVICE_NAME, SERVICE_NAMESPACE};
use ferrolb_source::cluster::l2_status_kind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{
    DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions,
};
use kube::{Api, Client, Error, ResourceExt};
use serde_json::json;

use super::Announcement;

/// The API server limits a label value to this length, but node names can have up to 253 bytes.
const LABEL: usize = 63;

/// An object that the API server listed.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) uid: String,
    /// The uid of the Node object that owns it.
    pub(super) owner: Option<String>,
    /// The node and the announcement in its status.
    pub(super) shown: Option<(String, Announcement)>,
}

/// Access to objects of kind ServiceL2Status.
pub(super) trait Objects: Sync {
    /// Lists the objects with this node's label, or all objects.
    fn list(&self, of: Option<&str>) -> impl Future<Output = Result<Vec<Found>, Error>> + Send;

    /// Creates an object without a status and returns its uid. `owner`: the uid of this node's Node object.
    fn create(
        &self,
        node: &str,
        name: &str,
        service: &Announcement,
        owner: Option<&str>,
    ) -> impl Future<Output = Result<String, Error>> + Send;

    /// Writes an object's status.
    fn show(
        &self,
        node: &str,
        name: &str,
        announcement: &Announcement,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Deletes an object. If a uid is given, deletes the object only if it has this uid.
    fn delete(
        &self,
        name: &str,
        uid: Option<&str>,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// The objects of an API server, in one namespace.
pub(super) struct ApiObjects(Api<DynamicObject>);

impl ApiObjects {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        let kind = l2_status_kind();
        Self(Api::namespaced_with(client, namespace, &kind))
    }
}

impl Objects for ApiObjects {
    async fn list(&self, of: Option<&str>) -> Result<Vec<Found>, Error> {
        let label = of.map(|node| format!("{NODE}={}", label(node)));
        let params = ListParams {
            label_selector: label,
            ..ListParams::default()
        };
        let objects = self.0.list(&params).await?;
        Ok(objects.into_iter().filter_map(found).collect())
    }

    async fn create(
        &self,
        node: &str,
        name: &str,
        announcement: &Announcement,
        owner: Option<&str>,
    ) -> Result<String, Error> {
        let object = object(node, name, announcement, owner);
        let made = self.0.create(&PostParams::default(), &object).await?;
        Ok(made.uid().unwrap_or_default())
    }

    async fn show(&self, node: &str, name: &str, announcement: &Announcement) -> Result<(), Error> {
        let interfaces = announcement.interfaces.iter();
        let status = L2Status {
            node: node.to_owned(),
            service_name: announcement.service.name.clone(),
            service_namespace: announcement.service.namespace.clone(),
            interfaces: interfaces.map(|i| Interface { name: i.clone() }).collect(),
        };
        let patch = Patch::Merge(json!({ "status": status }));
        let params = PatchParams::default();
        self.0.patch_status(name, &params, &patch).await.map(drop)
    }

    async fn delete(&self, name: &str, uid: Option<&str>) -> Result<(), Error> {
        let params = DeleteParams {
            preconditions: uid.map(|uid| Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        self.0.delete(name, &params).await.map(drop)
    }
}

fn found(object: DynamicObject) -> Option<Found> {
    let shown = L2Status::of(&object.data).map(|status| {
        let announcement = Announcement {
            service: status.service(),
            interfaces: status.interfaces.into_iter().map(|i| i.name).collect(),
        };
        (status.node, announcement)
    });
    let owners = object.owner_references().iter();
    Some(Found {
        name: object.name_any(),
        uid: object.uid()?,
        owner: owners
            .filter(|o| o.kind == "Node")
            .map(|o| o.uid.clone())
            .next(),
        shown,
    })
}

fn object(
    node: &str,
    name: &str,
    announcement: &Announcement,
    owner: Option<&str>,
) -> DynamicObject {
    let owner = owner.map(|uid| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    });
    let mut object = DynamicObject::new(name, &l2_status_kind()).data(json!({ "spec": {} }));
    object.metadata.owner_references = owner.map(|owner| vec![owner]);
    let labels = [
        (NODE, label(node)),
        (SERVICE_NAME, announcement.service.name.clone()),
        (SERVICE_NAMESPACE, announcement.service.namespace.clone()),
    ];
    let labels = labels.into_iter();
    object.metadata.labels = Some(labels.map(|(l, v)| (l.to_owned(), v)).collect());
    object
}

/// A node's name as a label value. If the name is too long, this is its beginning and a hash of the whole name.
fn label(node: &str) -> String {
    if node.len() <= LABEL {
        return node.to_owned();
    }
    // FNV-1a, and it must stay: objects that an earlier build wrote must be found again.
    let hash = node.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let beginning = &node[..node.floor_char_boundary(LABEL - 17)];
    format!("{beginning}-{hash:016x}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use ferrolb_api::ObjectKey;

    use super::*;

    #[test]
    fn the_name_of_a_node_is_its_label_or_what_fits_of_it_with_a_number() {
        assert_eq!(label("node-1"), "node-1");
        assert_eq!(label(&"n".repeat(63)), "n".repeat(63));
        let (a, b) = (
            format!("{}.a", "n".repeat(62)),
            format!("{}.b", "n".repeat(62)),
        );
        assert_eq!((label(&a).len(), label(&b).len()), (63, 63));
        assert_ne!(label(&a), label(&b));
        assert_eq!(label(&a), label(&a));
    }

    #[test]
    fn an_object_that_is_found_says_what_it_was_made_of() {
        let announcement = Announcement {
            service: ObjectKey::new("default", "web"),
            interfaces: vec!["eth0".to_owned()],
        };
        let mut made = object("node-1", "l2-1", &announcement, Some("n1"));
        assert!(found(made.clone()).is_none(), "no API server has it yet");
        made.metadata.uid = Some("7".to_owned());
        made.data["status"] = json!({
            "node": "node-1", "serviceName": "web", "serviceNamespace": "default", "interfaces": [{"name": "eth0"}],
        });
        let found = found(made).unwrap();
        assert_eq!((found.name.as_str(), found.uid.as_str()), ("l2-1", "7"));
        assert_eq!(found.owner.as_deref(), Some("n1"));
        assert_eq!(found.shown, Some(("node-1".to_owned(), announcement)));
    }
}
