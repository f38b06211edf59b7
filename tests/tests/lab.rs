//! The lab tier: announcers alone (`--proxy none`) in network namespaces. It runs on any Linux with root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "lab/addresses.rs"]
mod addresses;
#[path = "lab/announce.rs"]
mod announce;
#[path = "lab/bad_input.rs"]
mod bad_input;
#[path = "lab/full_disk.rs"]
mod full_disk;
#[path = "lab/grow.rs"]
mod grow;
#[path = "lab/members.rs"]
mod members;
#[path = "lab/rights.rs"]
mod rights;
#[path = "lab/slow.rs"]
mod slow;
#[path = "lab/tenant.rs"]
mod tenant;
#[path = "lab/unit.rs"]
mod unit;
