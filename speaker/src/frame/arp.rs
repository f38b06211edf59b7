//! ARP over Ethernet for IPv4 (RFC 826), with the announcements of RFC 5227 section 3 ("gratuitous ARP").
//!
//! Accepts only untagged Ethernet frames with 6-octet hardware and 4-octet protocol addresses. Everything else that a socket
//! delivers is `None`. Trailing padding (Ethernet's minimum of 60 octets) is allowed.

use std::fmt;
use std::net::Ipv4Addr;

use pnet::packet::Packet;
use pnet::packet::arp::{
    ArpHardwareTypes, ArpOperation, ArpOperations, ArpPacket, MutableArpPacket,
};
use pnet::packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet::util::MacAddr;

/// Octets of an ARP frame without padding.
pub const FRAME: usize = 42;

/// A 48-bit hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The broadcast address.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    fn pnet(self) -> MacAddr {
        let [a, b, c, d, e, f] = self.0;
        MacAddr(a, b, c, d, e, f)
    }

    fn of(mac: MacAddr) -> Self {
        Self([mac.0, mac.1, mac.2, mac.3, mac.4, mac.5])
    }

    /// Whether it addresses one station: neither a group nor all zeros.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `ar$op`, only the values that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has it?
    Request,
    /// It is at.
    Reply,
}

/// An ARP frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Ethernet source.
    pub source: Mac,
    /// Ethernet destination.
    pub destination: Mac,
    /// Request or reply.
    pub operation: Operation,
    /// Sender hardware address.
    pub sender_mac: Mac,
    /// Sender protocol address; unspecified in an RFC 5227 probe.
    pub sender: Ipv4Addr,
    /// Target hardware address.
    pub target_mac: Mac,
    /// Target protocol address; in a request, the address in question.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Parses a frame. `None` if it is not ARP for IPv4 over Ethernet.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let ethernet = EthernetPacket::new(frame)?;
        if ethernet.get_ethertype() != EtherTypes::Arp {
            return None;
        }
        let arp = ArpPacket::new(ethernet.payload())?;
        if arp.get_hardware_type() != ArpHardwareTypes::Ethernet
            || arp.get_protocol_type() != EtherTypes::Ipv4
            || arp.get_hw_addr_len() != 6
            || arp.get_proto_addr_len() != 4
        {
            return None;
        }
        let operation = match arp.get_operation() {
            ArpOperations::Request => Operation::Request,
            ArpOperations::Reply => Operation::Reply,
            ArpOperation(_) => return None,
        };
        Some(Self {
            source: Mac::of(ethernet.get_source()),
            destination: Mac::of(ethernet.get_destination()),
            operation,
            sender_mac: Mac::of(arp.get_sender_hw_addr()),
            sender: arp.get_sender_proto_addr().octets().into(),
            target_mac: Mac::of(arp.get_target_hw_addr()),
            target: arp.get_target_proto_addr().octets().into(),
        })
    }

    /// The frame without padding: the driver pads it.
    pub fn build(&self) -> [u8; FRAME] {
        let mut frame = [0u8; FRAME];
        if let Some(mut ethernet) = MutableEthernetPacket::new(&mut frame) {
            ethernet.set_source(self.source.pnet());
            ethernet.set_destination(self.destination.pnet());
            ethernet.set_ethertype(EtherTypes::Arp);
        }
        if let Some(mut arp) = frame.get_mut(14..).and_then(MutableArpPacket::new) {
            arp.set_hardware_type(ArpHardwareTypes::Ethernet);
            arp.set_protocol_type(EtherTypes::Ipv4);
            arp.set_hw_addr_len(6);
            arp.set_proto_addr_len(4);
            arp.set_operation(match self.operation {
                Operation::Request => ArpOperations::Request,
                Operation::Reply => ArpOperations::Reply,
            });
            arp.set_sender_hw_addr(self.sender_mac.pnet());
            arp.set_sender_proto_addr(self.sender.octets().into());
            arp.set_target_hw_addr(self.target_mac.pnet());
            arp.set_target_proto_addr(self.target.octets().into());
        }
        frame
    }

    /// The reply of the station `mac` to this request, sent to the asker only. A probe (sender unspecified) gets the same reply.
    /// `None` if the frame is not a request, or if it comes from a group address that nobody can reply to.
    pub fn answer(&self, mac: Mac) -> Option<Self> {
        let asks = self.operation == Operation::Request && self.sender != self.target;
        (asks && self.sender_mac.is_unicast()).then_some(Self {
            source: mac,
            destination: self.sender_mac,
            operation: Operation::Reply,
            sender_mac: mac,
            sender: self.target,
            target_mac: self.sender_mac,
            target: self.sender,
        })
    }

    /// Asks everybody who has `address`, without a sender's address (RFC 5227 section 2.1.1), so that no cache learns from it.
    pub fn probe(address: Ipv4Addr, mac: Mac) -> Self {
        Self {
            source: mac,
            destination: Mac::BROADCAST,
            operation: Operation::Request,
            sender_mac: mac,
            sender: Ipv4Addr::UNSPECIFIED,
            target_mac: Mac::default(),
            target: address,
        }
    }

    /// Announces to everybody that `address` is at `mac`. Some stacks update their caches only on the request form and some only
    /// on the reply form, so both are sent.
    pub fn gratuitous(operation: Operation, address: Ipv4Addr, mac: Mac) -> Self {
        Self {
            source: mac,
            destination: Mac::BROADCAST,
            operation,
            sender_mac: mac,
            sender: address,
            target_mac: match operation {
                Operation::Request => Mac::default(),
                Operation::Reply => Mac::BROADCAST,
            },
            target: address,
        }
    }
}
