//! Defines who decides which Service has which addresses: the members among themselves (`standalone`) or a cluster's API
//! ([`super::observed`]). The daemons of a node cannot see a difference between the two.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::{Batch, Change};
use ferrolb_api::delta::Delta;
use ferrolb_api::problem::Problem;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::Service;
use ferrolb_speaker::snapshot::Address;

use crate::agreement::machine::View;
use crate::agreement::table::Name;
use crate::membership::Members;
use crate::store::StoreError;

/// The effects of a step.
#[derive(Debug, Default)]
pub struct Effects {
    /// Changes for the speaker. It gets them immediately, because members must find each other before they can agree.
    pub speaker: Vec<Change>,
    /// Changes for the proxy. It gets none before a table is in force; then it gets all of them (possibly an empty list).
    pub proxy: Option<Vec<Change>>,
    /// Messages for other members.
    pub send: Vec<(Name, Vec<u8>)>,
}

/// Why a Service has the addresses that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The Service with its agreed addresses.
    pub service: Arc<Service>,
    /// The pool of its load-balancer addresses.
    pub pool: Option<String>,
    /// The reason.
    pub reason: Reason,
    /// The reason as a sentence.
    pub message: String,
}

/// Turns a source's objects into what the daemons see.
pub trait Authority {
    /// Takes in a batch from the source.
    fn source(&mut self, batch: Batch, now: Instant) -> Effects;

    /// Takes in who the members are. What follows from it takes effect with the next batch.
    fn members(&mut self, _members: &Members) {}

    /// Takes in the speaker's news of addresses.
    fn addresses(&mut self, _changes: &Delta<IpAddr, Arc<Address>>, _now: Instant) -> Effects {
        Effects::default()
    }

    /// Takes in how this node sees the other members.
    fn view(&mut self, view: View, now: Instant) -> Effects;

    /// Takes in a message from another member.
    fn received(&mut self, from: Name, bytes: Vec<u8>, now: Instant) -> Effects;

    /// Waits for the end of a write to disk, forever if nothing is being written. The future may be dropped and the method called
    /// again.
    fn disk(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send {
        std::future::pending()
    }

    /// Takes in the result of that write.
    fn wrote(&mut self, _end: Result<(), StoreError>, _now: Instant) -> Effects {
        Effects::default()
    }

    /// Lets time pass.
    fn tick(&mut self, now: Instant) -> Effects;

    /// The uid of this node's Node object, if an API server gave it one.
    fn node_uid(&self) -> Option<&str> {
        None
    }

    /// A Service with its addresses and the reason for them; `None` if there is no such Service.
    fn standing(&self, service: &ObjectKey) -> Option<Standing>;

    /// The Services whose standing may have changed since the last call, including those that are gone.
    fn touched(&mut self) -> BTreeSet<ObjectKey>;

    /// What is wrong with the input, with the pools and with what Services ask for.
    fn problems(&self) -> Vec<Problem>;
}
