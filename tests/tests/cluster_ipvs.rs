//! The cluster tier with traffic: a real control plane and real IPVS. Run it through `lab run --plane`, as the Makefile does. If
//! this kernel has no IPVS, the nodes run in a VM, and the control plane runs outside it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "cluster/change.rs"]
mod change;
#[path = "kernel/restart_load.rs"]
#[allow(dead_code)]
mod restart_load;
#[path = "kernel/rows.rs"]
mod rows;

use std::sync::Arc;

use ferrolb_tests::cluster::Cluster;
use ferrolb_tests::plane::Plane;

/// A cluster with the users' manifests, applied with `kubectl apply` and served.
fn users_cluster() -> Cluster {
    let plane = Arc::new(Plane::connect_or_start());
    let mut cluster = Cluster::on_api(plane, "ipvs");
    cluster.start_controller();
    cluster.start_nodes();
    cluster.apply_manifests();
    ferrolb_tests::rows::settled(&cluster).expect("the cluster settles");
    cluster
}
