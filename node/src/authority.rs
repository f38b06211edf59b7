//! Who says which Service has which addresses: the members among themselves (`standalone`) or a cluster's API
//! ([`super::observed`]). The daemons of a node cannot tell the two apart.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::{Batch, Change};
use ferrolb_api::problem::Problem;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::Service;

use crate::agreement::machine::View;
use crate::agreement::table::Name;
use crate::store::StoreError;

/// What a step leads to.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the speaker, as soon as it is known: members must find each other before they can agree.
    pub speaker: Vec<Change>,
    /// For the proxy: nothing before a table is in force, then all of it (which may be nothing).
    pub proxy: Option<Vec<Change>>,
    /// For other members.
    pub send: Vec<(Name, Vec<u8>)>,
}

/// Why a Service has the addresses that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The Service with its agreed addresses.
    pub service: Arc<Service>,
    /// Pool of its load-balancer addresses.
    pub pool: Option<String>,
    /// Why.
    pub reason: Reason,
    /// The same as a sentence.
    pub message: String,
}

/// Turns what a source says into what the daemons see.
pub trait Authority {
    /// Takes in what the source says.
    fn source(&mut self, batch: Batch, now: Instant) -> Effects;

    /// Takes in how this node sees the others.
    fn view(&mut self, view: View, now: Instant) -> Effects;

    /// Takes in what another member says.
    fn received(&mut self, from: Name, bytes: Vec<u8>, now: Instant) -> Effects;

    /// Waits for the end of a write to disk; for ever where nothing is written. May be dropped and called again.
    fn disk(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send {
        std::future::pending()
    }

    /// Takes in the end of that write.
    fn wrote(&mut self, _end: Result<(), StoreError>, _now: Instant) -> Effects {
        Effects::default()
    }

    /// Lets time pass.
    fn tick(&mut self, now: Instant) -> Effects;

    /// The uid of this node's Node object, where there is an API server that gave it one.
    fn node_uid(&self) -> Option<&str> {
        None
    }

    /// A Service with its addresses and why; `None`: there is no such Service.
    fn standing(&self, service: &ObjectKey) -> Option<Standing>;

    /// The Services whose standing may have changed since the last call, those that are gone among them.
    fn touched(&mut self) -> BTreeSet<ObjectKey>;

    /// What is wrong with the input, with the pools and with what Services ask for.
    fn problems(&self) -> Vec<Problem>;
}
