//! Leaves announced addresses to the kernel while the agent restarts.
//!
//! The kernel answers ARP for an address of its interface by itself. The address has a valid lifetime of the hold and a
//! preferred lifetime of 0: nothing takes it for a source, and it goes away by itself should the agent never come back.

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

/// Takes it away again: another node announces the address now. Only what [`leave`] put there fits: alone in its prefix.
pub(crate) async fn remove(
    handle: &Handle,
    address: Ipv4Addr,
    interface: u32,
) -> Result<(), Error> {
    let message = AddressMessageBuilder::<Ipv4Addr>::new()
        .index(interface)
        .address(address, 32)
        .build();
    handle.address().del(message).execute().await
}
