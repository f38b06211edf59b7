//! Writes events to the API server, in order and without hurry. They are for people, so an event that cannot be written is
//! dropped.

use ferrolb_api::ObjectKey;
use ferrolb_api::object::Kind;
use ferrolb_controller::cluster::api::events::{Events, Telling, insist};
use kube::Client;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::Event;

/// The name under which nodes report events.
const TELLER: &str = "ferrolb-node";
/// How many events may wait. Further events are dropped.
const QUEUE: usize = 256;

/// An event with the uid of its Service; `kubectl describe` finds it by this uid.
type Addressed = (Event, String);

/// The sending side: it takes the events to publish.
#[derive(Debug, Clone)]
pub(crate) struct Publisher(mpsc::Sender<Addressed>);

impl Publisher {
    /// Starts to publish as this node.
    pub(crate) fn start(client: Client, node: &str) -> Self {
        let (events, queue) = mpsc::channel(QUEUE);
        tokio::spawn(publish(Events::new(client, TELLER, node), queue));
        Self(events)
    }

    /// Publishes as many events as fit into the queue.
    pub(in crate::publish) fn send(&self, events: Vec<Event>, uid: impl Fn(&ObjectKey) -> String) {
        for event in events {
            let uid = uid(&event.service);
            if self.0.try_send((event, uid)).is_err() {
                debug!("an event was dropped: the API server is slow");
            }
        }
    }
}

async fn publish(events: Events, mut queue: mpsc::Receiver<Addressed>) {
    let mut refused = false;
    while let Some((event, uid)) = queue.recv().await {
        let telling = telling(&event, &uid);
        match insist(|| events.publish(&telling)).await {
            Ok(()) => refused = false,
            Err(error) if refused => debug!(%error, "an event was not written"),
            Err(error) => {
                refused = true;
                warn!("events about Services cannot be written: {error}");
            }
        }
    }
}

fn telling<'a>(event: &'a Event, uid: &'a str) -> Telling<'a> {
    Telling {
        of: Kind::Service,
        object: &event.service,
        uid,
        warning: event.warning,
        reason: &event.reason,
        action: "Announce",
        note: &event.note,
    }
}
