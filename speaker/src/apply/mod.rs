//! Sends on the LAN: gratuitous ARP whenever it is due, ARP replies, and the defence of an address.
//!
//! `schedule`, `probe` and `conflict` are pure and take the clock as an argument. [`Announcer`] is the edge; `real` (packet sockets) and
//! `Memory` implement it. `linger` leaves addresses to the kernel when the agent stops.

pub(crate) mod conflict;
pub(crate) mod linger;
pub(crate) mod neighbour;
pub(crate) mod probe;
pub(crate) mod real;
pub(crate) mod schedule;

#[cfg(test)]
mod tests;

use std::io;

use crate::frame::arp::{Arp, Mac};

/// Sends ARP frames.
pub(crate) trait Announcer {
    /// The Ethernet address of an interface that frames can be sent on.
    fn mac(&self, interface: u32) -> Option<Mac>;

    /// Sends a frame on an interface.
    fn send(&mut self, interface: u32, arp: &Arp) -> io::Result<()>;
}

/// An announcer that records what it was asked to send. Every interface has the address `02:00:00:00:00:<index>`.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Interface and frame, in order.
    pub sent: Vec<(u32, Arp)>,
}

#[cfg(test)]
impl Announcer for Memory {
    fn mac(&self, interface: u32) -> Option<Mac> {
        u8::try_from(interface)
            .ok()
            .map(|i| Mac([2, 0, 0, 0, 0, i]))
    }

    fn send(&mut self, interface: u32, arp: &Arp) -> io::Result<()> {
        self.sent.push((interface, *arp));
        Ok(())
    }
}

/// Announces `address` on `interface`, in both forms (RFC 5227 section 3).
pub(crate) fn announce(
    announcer: &mut impl Announcer,
    interface: u32,
    address: std::net::Ipv4Addr,
) -> io::Result<()> {
    use crate::frame::arp::Operation;
    let mac = announcer
        .mac(interface)
        .ok_or(io::ErrorKind::NotConnected)?;
    for operation in [Operation::Request, Operation::Reply] {
        announcer.send(interface, &Arp::gratuitous(operation, address, mac))?;
    }
    Ok(())
}

/// Asks on `interface` who has `address` (RFC 5227 section 2.1.1).
pub(crate) fn probe(
    announcer: &mut impl Announcer,
    interface: u32,
    address: std::net::Ipv4Addr,
) -> io::Result<()> {
    let mac = announcer
        .mac(interface)
        .ok_or(io::ErrorKind::NotConnected)?;
    announcer.send(interface, &Arp::probe(address, mac))
}

/// Answers an ARP request for an address that this node announces on `interface`. Returns false if the frame was not such a
/// request.
pub(crate) fn answer(
    announcer: &mut impl Announcer,
    interface: u32,
    question: &Arp,
) -> io::Result<bool> {
    let mac = announcer
        .mac(interface)
        .ok_or(io::ErrorKind::NotConnected)?;
    let Some(reply) = question.answer(mac) else {
        return Ok(false);
    };
    announcer.send(interface, &reply).map(|()| true)
}
