//! Removes what a stopped speaker left on the LAN interfaces, before it expires by itself.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use crate::apply::linger;
use crate::link::monitor::Monitor;

/// Removes those of `addresses` that a speaker left to the kernel for its restart, and returns them. A permanent address is not
/// ours and stays.
pub async fn remove_leftovers(addresses: &BTreeSet<IpAddr>) -> io::Result<Vec<Ipv4Addr>> {
    let (monitor, links) = Monitor::start().await?;
    let mut removed = Vec::new();
    for (address, interface) in links.leftovers() {
        let IpAddr::V4(v4) = address else { continue };
        if addresses.contains(&address) {
            let done = linger::remove(&monitor.handle(), v4, interface).await;
            let done =
                done.map_err(|e| io::Error::other(format!("{v4} stays on its interface: {e}")))?;
            removed.extend(done.then_some(v4));
        }
    }
    Ok(removed)
}
