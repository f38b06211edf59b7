//! The speaker's settings and the channels that it is connected to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_api::change::Batch;
use ferrolb_api::delta;
use tokio::sync::{mpsc, watch};

use crate::link::Patterns;
use crate::message::NodeName;
use crate::snapshot::{Address, Snapshot};
use crate::timers::Timers;
use crate::wire::key::Key;
use crate::wire::transport::PORT;

/// Settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's name, from its Node object or the static list.
    pub node: String,
    /// UDP port of all members.
    pub port: u16,
    /// The cluster's key.
    pub key: Key,
    /// Timers of the ownership protocol. All nodes need the same.
    pub timers: Timers,
    /// Interfaces that never announce.
    pub exclude: Patterns,
    /// The `loadBalancerClass` of the Services to announce. `None`: Services without one.
    pub class: Option<String>,
    /// Leave announced addresses to the kernel while the agent restarts. Do not set this if another proxy manages the kernel's
    /// addresses.
    pub leave_addresses: bool,
    /// Ask the LAN who has an address before it is announced for the first time.
    pub probes: bool,
}

impl Config {
    /// The defaults for a node of this name.
    pub fn new(node: impl Into<String>, key: Key) -> Self {
        Self {
            node: node.into(),
            port: PORT,
            key,
            timers: Timers::default(),
            exclude: Patterns::default(),
            class: None,
            leave_addresses: false,
            probes: true,
        }
    }
}

/// The channels that connect the speaker to the rest of the node.
#[derive(Debug)]
pub struct Wiring {
    /// Changes of the objects, including Services with their assigned addresses. The first batch is complete.
    pub batches: mpsc::Receiver<Batch>,
    /// The members, including this node, each with its listening address if that is known.
    pub members: watch::Receiver<BTreeMap<String, Option<IpAddr>>>,
    /// The addresses that this node's proxy has programmed. The inner `None`: its first pass is not over yet. The outer `None`:
    /// our proxy does not run on this node.
    pub programmed: Option<watch::Receiver<Option<BTreeSet<IpAddr>>>>,
    /// Payloads of the node for other members, at most [`crate::message::MAX_OPAQUE`] bytes. They may be lost.
    pub opaque_out: mpsc::Receiver<(NodeName, Vec<u8>)>,
    /// Payloads from other members.
    pub opaque_in: mpsc::Sender<(NodeName, Vec<u8>)>,
    /// What is known beside the addresses, at most every 50 ms.
    pub snapshot: watch::Sender<Snapshot>,
    /// What is known of each address that Services have, where it changed; `None`: no Service has it any more. At most every
    /// 50 ms, before the snapshot of that moment.
    pub addresses: delta::Sender<IpAddr, Arc<Address>>,
    /// Turns true (or its sender is dropped) when the speaker is to stop.
    pub stop: watch::Receiver<bool>,
}
