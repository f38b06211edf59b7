//! A Lease that says when this node's agent was last well enough to say so, and its version, for `ferrolb status --kubeconfig`.
//!
//! The kubelet's own Lease says that the machine lives; this one says the same of the agent. Nothing is decided by it.

use std::time::Duration;

use ferrolb_api::refusal::Refusal;
use ferrolb_source::cluster::access::refusal;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

/// How often the Lease is renewed, as the kubelet renews its own.
const EVERY: Duration = Duration::from_secs(10);
/// For how long one renewal counts.
const LASTS: i32 = 40;
/// The label of the Leases of all nodes, with its value.
pub const LABEL: (&str, &str) = ("app.kubernetes.io/name", "ferrolb");
/// The annotation with the version of the agent.
pub const VERSION: &str = "ferrolb.io/version";

/// Starts to renew the Lease of this node, in the namespace of the agents. `uid`: of its Node object, with which it is deleted.
pub(crate) fn start(client: Client, namespace: &str, node: &str, uid: Option<String>) {
    let leases: Api<Lease> = Api::namespaced(client, namespace);
    let node = node.to_owned();
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = false;
        loop {
            tick.tick().await;
            match renew(&leases, &node, uid.as_deref()).await {
                Ok(()) => told = false,
                Err(refusal) if std::mem::replace(&mut told, true) => {
                    debug!("the Lease of this node was not renewed: {refusal}");
                }
                Err(refusal) => warn!(
                    "the Lease of this node was not renewed: {refusal}; `ferrolb status --kubeconfig` will take its agent for gone"
                ),
            }
        }
    });
}

async fn renew(leases: &Api<Lease>, node: &str, uid: Option<&str>) -> Result<(), Refusal> {
    let now = MicroTime(Timestamp::now());
    let change = json!({
        "metadata": {"annotations": {VERSION: env!("CARGO_PKG_VERSION")}},
        "spec": {"holderIdentity": node, "leaseDurationSeconds": LASTS, "renewTime": now},
    });
    let patched = leases
        .patch(node, &PatchParams::default(), &Patch::Merge(change))
        .await;
    match patched.map_err(|e| refusal(&e, "patch leases.coordination.k8s.io")) {
        Ok(_) => return Ok(()),
        Err(Refusal::NotFound { .. }) => {}
        Err(refusal) => return Err(refusal),
    }
    let created = leases
        .create(&PostParams::default(), &lease(node, uid, now))
        .await;
    created
        .map(drop)
        .map_err(|e| refusal(&e, "create leases.coordination.k8s.io"))
}

fn lease(node: &str, uid: Option<&str>, now: MicroTime) -> Lease {
    let owner = uid.map(|uid| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    });
    Lease {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            labels: Some([(LABEL.0.to_owned(), LABEL.1.to_owned())].into()),
            annotations: Some([(VERSION.to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.to_owned()),
            lease_duration_seconds: Some(LASTS),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    }
}
