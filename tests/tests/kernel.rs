//! The kernel tier: real IPVS and nftables, real traffic. Run it through `lab run`, as the Makefile does: it boots a VM if this
//! kernel has no IPVS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "kernel/bad_input_kernel.rs"]
mod bad_input_kernel;
#[path = "kernel/cleanup.rs"]
mod cleanup;
#[path = "kernel/detect_local.rs"]
mod detect_local;
#[path = "kernel/exec.rs"]
mod exec;
#[path = "kernel/external.rs"]
mod external;
#[path = "kernel/foreign.rs"]
mod foreign;
#[path = "kernel/health.rs"]
mod health;
#[path = "kernel/hostport.rs"]
mod hostport;
#[path = "kernel/matrix.rs"]
mod matrix;
#[path = "kernel/policy.rs"]
mod policy;
#[path = "kernel/restart.rs"]
mod restart;
#[path = "kernel/restart_cluster.rs"]
mod restart_cluster;
#[path = "kernel/restart_load.rs"]
mod restart_load;
#[path = "kernel/restart_solo.rs"]
mod restart_solo;
#[path = "kernel/rows.rs"]
mod rows;
#[path = "kernel/scheduler.rs"]
mod scheduler;

/// A cluster with the users' manifests from a directory, served.
fn users_cluster() -> ferrolb_tests::cluster::Cluster {
    use ferrolb_tests::{cluster::Cluster, node::PodLinks, rows};
    let mut cluster = Cluster::new("ipvs", PodLinks::Routed);
    cluster.start();
    rows::settled(&cluster).expect("the cluster settles");
    cluster
}
