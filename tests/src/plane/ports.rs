//! Ports for servers that cannot choose one themselves and must keep the same one after a restart. They are below the range that
//! the kernel uses for outgoing connections, so that no connection takes a port while its server is down.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 18_000;
const COUNT: u32 = 12_000;

/// A port on the loopback interface that nothing listens on. Each process starts its search at a different port to avoid
/// collisions.
pub(super) fn free() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(37);
    (0..COUNT)
        .map(|_| FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .expect("a port is free")
}
