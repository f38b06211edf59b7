//! The lab: namespaces that act as nodes, pods and a client on one LAN, the servers and traffic in them, and a VM for machines
//! whose kernel has no IPVS. Tests and the demo are built from these parts.
//!
//! This is test code: if something cannot be set up, it ends the test with a message that says what was needed, so panics are
//! acceptable. Unlike the product, it may run other programs (`ip`, `nft`, `ipvsadm`, `nginx`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod arp;
pub mod client;
pub mod cluster;
pub mod demo;
pub mod dns;
pub mod failover;
pub mod lan;
pub mod late;
pub mod manifests;
pub mod need;
pub mod netns;
pub mod node;
pub mod paths;
pub mod plane;
pub mod pod;
pub mod pod_net;
pub mod process;
pub mod report;
pub mod rows;
pub mod servers;
pub mod stall;
pub mod vm;
pub mod wait;
