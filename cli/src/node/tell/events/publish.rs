//! Writes events to the API server, in order and without haste: they are for people, and one that cannot be written is not missed.

use ferrolb_api::ObjectKey;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event as KubeEvent, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::Event;

/// Events that wait; more are dropped.
const QUEUE: usize = 256;

/// An event with the uid of its Service, by which `kubectl describe` finds it.
type Addressed = (Event, String);

/// Where events go.
#[derive(Debug, Clone)]
pub(in crate::node) struct Publisher(mpsc::Sender<Addressed>);

impl Publisher {
    /// Starts to publish as this node.
    pub(in crate::node) fn start(client: Client, node: &str) -> Self {
        let (events, queue) = mpsc::channel(QUEUE);
        let reporter = Reporter {
            controller: "ferrolb-node".to_owned(),
            instance: Some(node.to_owned()),
        };
        tokio::spawn(publish(Recorder::new(client, reporter), queue));
        Self(events)
    }

    /// Publishes what fits into the queue.
    pub(in crate::node::tell) fn send(
        &self,
        events: Vec<Event>,
        uid: impl Fn(&ObjectKey) -> String,
    ) {
        for event in events {
            let uid = uid(&event.service);
            if self.0.try_send((event, uid)).is_err() {
                debug!("an event was dropped: the API server is slow");
            }
        }
    }
}

async fn publish(recorder: Recorder, mut queue: mpsc::Receiver<Addressed>) {
    let mut refused = false;
    while let Some((event, uid)) = queue.recv().await {
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            namespace: Some(event.service.namespace.clone()),
            name: Some(event.service.name.clone()),
            uid: Some(uid).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        };
        let event = KubeEvent {
            type_: if event.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: event.reason,
            note: Some(event.note),
            action: "Announce".to_owned(),
            secondary: None,
        };
        match recorder.publish(&event, &about).await {
            Ok(()) => refused = false,
            Err(error) if refused => debug!(%error, "an event was not written"),
            Err(error) => {
                refused = true;
                warn!("events about Services cannot be written: {error}");
            }
        }
    }
}
