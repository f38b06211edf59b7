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

/// An event with its object and that object's uid, by which `kubectl describe` finds it.
#[derive(Debug)]
struct Addressed {
    of: Kind,
    object: ObjectKey,
    uid: String,
    event: Event,
}

/// The sending side: it takes the events to publish.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    events: mpsc::Sender<Addressed>,
    node: String,
}

impl Publisher {
    /// Starts to publish as this node.
    pub(crate) fn start(client: Client, node: &str) -> Self {
        let (events, queue) = mpsc::channel(QUEUE);
        tokio::spawn(publish(Events::new(client, TELLER, node), queue));
        let node = node.to_owned();
        Self { events, node }
    }

    /// Publishes as many events as fit into the queue.
    pub(in crate::publish) fn send(&self, events: Vec<Event>, uid: impl Fn(&ObjectKey) -> String) {
        for event in events {
            let addressed = match &event.service {
                Some(service) => Addressed {
                    of: Kind::Service,
                    object: service.clone(),
                    uid: uid(service),
                    event,
                },
                None => Addressed {
                    of: Kind::Node,
                    object: ObjectKey::new("", &self.node),
                    // Events about Nodes carry the name in its place, as the kubelet's do.
                    uid: self.node.clone(),
                    event,
                },
            };
            if self.events.try_send(addressed).is_err() {
                debug!("an event was dropped: the API server is slow");
            }
        }
    }
}

async fn publish(events: Events, mut queue: mpsc::Receiver<Addressed>) {
    let mut refused = false;
    while let Some(addressed) = queue.recv().await {
        let telling = telling(&addressed);
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

fn telling(addressed: &Addressed) -> Telling<'_> {
    let event = &addressed.event;
    Telling {
        of: addressed.of,
        object: &addressed.object,
        uid: &addressed.uid,
        warning: event.warning,
        reason: &event.reason,
        action: "Announce",
        note: &event.note,
    }
}
