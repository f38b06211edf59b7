//! A node's view of the announcements, as `status` prints it.

use std::fmt;
use std::net::IpAddr;

use ferrolb_api::ownership::Owner;
use ferrolb_api::reason::Reason;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// Everything at one moment, but for the addresses: those are reported one by one, where they change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// This node.
    pub node: String,
    /// Whether it knows the other nodes' claims.
    pub settled: bool,
    /// Whether more than half of the known nodes are alive in its view.
    pub majority: bool,
    /// The member that places addresses and may serve as the elected member for other work.
    pub placer: Option<String>,
    /// All known nodes, by name.
    pub members: Vec<Member>,
    /// What is wrong with this node's announcements.
    pub problems: Vec<Problem>,
    /// How many addresses this node announces.
    #[serde(default)]
    pub announced: usize,
    /// Counters since its start.
    pub counters: Counters,
}

/// A known node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Name.
    pub name: String,
    /// Its listening address. `None`: not known.
    pub address: Option<IpAddr>,
    /// Its status in this node's view.
    pub status: Status,
    /// Whether it knows the other nodes' claims.
    pub settled: bool,
    /// How many times longer than usual it may be silent before it counts as dead: 1 unless it is often late.
    pub multiplier: u8,
    /// Its incarnation: its wall clock in milliseconds when it started.
    pub incarnation: u64,
    /// How many addresses it may announce.
    pub eligible: usize,
}

/// The status of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Never heard.
    Unknown,
    /// Its agent speaks.
    Alive,
    /// Its agent is briefly away; it keeps its addresses.
    Held,
    /// Declared dead.
    Dead,
}

/// An address of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// The node that announces it.
    pub owner: Option<String>,
    /// The interfaces it is announced on, where this node answers.
    pub interfaces: Vec<String>,
    /// `Announced`; where nobody announces it, why this node does not.
    pub reason: Reason,
    /// To whom the address belongs, if that is why this node does not announce it.
    pub owned: Option<Owner>,
    /// Where no advertisement fits this node: those that cover the address.
    pub advertised: Advertised,
    /// Who else claims the address by ARP.
    pub conflict: Option<Conflict>,
}

/// The advertisements that cover an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advertised {
    /// Their names, `namespace/name`.
    pub by: Vec<String>,
    /// The interfaces in `spec.interfaces` of those that have any.
    pub on: Vec<String>,
}

/// A station that claims one of our addresses by ARP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Its Ethernet address.
    pub mac: String,
    /// The member with that Ethernet address. `None`: no known member has it.
    pub member: Option<String>,
    /// The UDP port on which members talk.
    pub port: u16,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// ARP requests answered.
    pub answered: u64,
    /// ARP requests for our addresses that were not answered because the loop had been paused.
    pub withheld: u64,
    /// Gratuitous ARP frames sent.
    pub gratuitous: u64,
    /// Datagrams accepted from members.
    pub received: u64,
    /// Datagrams dropped: not authentic, replayed, or from strangers.
    pub dropped: u64,
    /// Frames or datagrams that could not be sent.
    pub failed: u64,
    /// The greatest lateness of the loop so far, in microseconds after the time at which it was due to wake.
    #[serde(default)]
    pub latest: u64,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.member {
            Some(member) => write!(
                f,
                "member {member} ({}) announces this too, because it and this node do not hear each other: open UDP port {} between the two, and give both the same key",
                self.mac, self.port
            ),
            None => write!(
                f,
                "a host with the Ethernet address {}, which is not one that a member is known by, claims this too: take the address off that host, or out of the pool. If it is a node, open UDP port {} between it and this node, and give both the same key",
                self.mac, self.port
            ),
        }
    }
}
