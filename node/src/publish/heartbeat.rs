//! A Lease that says when this node's agent was last well enough to say so, and its version, for `ferrolb status --kubeconfig`.
//!
//! The kubelet's own Lease says that the machine lives; this one says the same of the agent. It also tells the controller which
//! addresses belong to somebody else, so that no Service gets them.

use std::time::Duration;

use ferrolb_api::refusal::Refusal;
use ferrolb_controller::cluster::lease::{self, FOUND, Found, LABEL, VERSION};
use ferrolb_source::cluster::access::refusal;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

/// How often the Lease is renewed, as the kubelet renews its own.
const EVERY: Duration = Duration::from_secs(10);
/// For how long one renewal counts.
const LASTS: i32 = 40;
/// Starts to renew the Lease of this node, in the namespace of the agents. `uid`: of its Node object, with which it is deleted.
/// `found`: the addresses that this node found to belong to somebody else. The Lease says so at once.
pub(crate) fn start(
    client: Client,
    namespace: &str,
    node: &str,
    uid: Option<String>,
    mut found: watch::Receiver<Found>,
) {
    let leases: Api<Lease> = Api::namespaced(client, namespace);
    let node = node.to_owned();
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = false;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = news(&mut found) => {}
            }
            let says = lease::text(&found.borrow_and_update());
            match renew(&leases, &node, uid.as_deref(), says).await {
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

/// Waits for news. Where there is never any, it waits for ever.
async fn news(found: &mut watch::Receiver<Found>) {
    if found.changed().await.is_err() {
        std::future::pending().await
    }
}

async fn renew(
    leases: &Api<Lease>,
    node: &str,
    uid: Option<&str>,
    found: Option<String>,
) -> Result<(), Refusal> {
    let now = MicroTime(Timestamp::now());
    let change = json!({
        "metadata": {"annotations": {VERSION: env!("CARGO_PKG_VERSION"), FOUND: found}},
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
        .create(&PostParams::default(), &lease(node, uid, found, now))
        .await;
    created
        .map(drop)
        .map_err(|e| refusal(&e, "create leases.coordination.k8s.io"))
}

fn lease(node: &str, uid: Option<&str>, found: Option<String>, now: MicroTime) -> Lease {
    let version = (VERSION.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    let found = found.map(|text| (FOUND.to_owned(), text));
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
            annotations: Some(std::iter::once(version).chain(found).collect()),
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
