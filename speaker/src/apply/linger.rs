//! Leaves announced addresses on the interface while the agent restarts, so that the kernel answers for them.
//!
//! The kernel answers ARP for the addresses of its interfaces on its own. The address gets the hold as its valid lifetime and a
//! preferred lifetime of 0: it is never chosen as a source address, and it expires by itself if the agent does not come back.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use rtnetlink::packet_route::address::{AddressAttribute, CacheInfo};
use rtnetlink::{AddressMessageBuilder, Error, Handle};

/// Puts the address on the interface for `hold` (whole seconds, at least one), or renews it.
pub(crate) async fn leave(
    handle: &Handle,
    address: Ipv4Addr,
    interface: u32,
    hold: Duration,
) -> Result<(), Error> {
    let mut lifetime = CacheInfo::default();
    lifetime.ifa_preferred = 0;
    lifetime.ifa_valid = u32::try_from(hold.as_secs()).unwrap_or(u32::MAX - 1).max(1);
    let mut request = handle
        .address()
        .add(interface, IpAddr::V4(address), 32)
        .replace();
    request
        .message_mut()
        .attributes
        .push(AddressAttribute::CacheInfo(lifetime));
    request.execute().await
}

/// Removes it again, because another node announces the address now. Removes only what [`leave`] added: an address alone in its
/// prefix. Returns false if it was not there.
pub(crate) async fn remove(
    handle: &Handle,
    address: Ipv4Addr,
    interface: u32,
) -> Result<bool, Error> {
    let message = AddressMessageBuilder::<Ipv4Addr>::new()
        .index(interface)
        .address(address, 32)
        .build();
    match handle.address().del(message).execute().await {
        Err(Error::NetlinkError(e)) if e.raw_code() == -libc::EADDRNOTAVAIL => Ok(false),
        done => done.map(|()| true),
    }
}
