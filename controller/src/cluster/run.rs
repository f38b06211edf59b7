//! The controller's main loop: it passes changes, writes and events between the source, [`Core`] and the writer. It decides
//! nothing.

use std::future::{Future, pending};
use std::pin::pin;
use std::time::{Duration, Instant};

use ferrolb_source::Source;
use futures_util::StreamExt;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::api::events::insist;
use super::chance;
use super::core::Core;
use super::event::Event;
use super::lease::Found;
use super::writer::Writer;
use crate::state::Settings;

/// The capacity for pending events: enough for a first event for each Service of a large cluster. More are dropped; the log has
/// them.
const EVENTS: usize = 16_384;
/// How long a stopping controller waits for answers: less than a pod's grace period (30 s), and short enough for a user.
pub(super) const STOP_WITHIN: Duration = Duration::from_secs(3);

/// Runs until `stop` is ready or the source ends. `found` has the addresses that nodes found to belong to somebody else.
/// It then begins no further write. Writes in progress and events have 3 s to finish; those that have not may or may not have
/// arrived. Waiting writes are abandoned: the next controller derives them from the Services.
pub async fn run<S: Source, W: Writer>(
    mut source: S,
    writer: &W,
    settings: Settings,
    mut found: watch::Receiver<Found>,
    stop: impl Future<Output = ()>,
) {
    let mut core = Core::new(settings);
    let mut writes = FuturesUnordered::new();
    let (tell, events) = mpsc::channel(EVENTS);
    let mut teller = pin!(tell_all(writer, events));
    let mut stop = pin!(stop);
    // What is known already counts too.
    found.mark_changed();
    loop {
        while let Some(write) = core.begin(now()) {
            writes.push(async move {
                let result = writer.assign(&write).await;
                (write.key, result)
            });
        }
        let due = core.due();
        let told: Vec<Event> = tokio::select! {
            () = &mut stop => break,
            () = &mut teller => return,
            Some((key, result)) = writes.next() => core.done(&key, result, now(), chance()).into_iter().collect(),
            batch = source.next() => match batch {
                Some(batch) => core.batch(batch, now()),
                None => break,
            },
            found = news(&mut found) => core.found(&found, now()),
            () = until(due) => continue,
        };
        send(&tell, told);
    }
    let finish = async {
        while let Some((key, result)) = writes.next().await {
            send(&tell, core.done(&key, result, now(), chance()));
        }
        drop(tell);
    };
    let finish = join(finish, teller);
    if tokio::time::timeout(STOP_WITHIN, finish).await.is_err() {
        warn!("the API server did not answer in time, so the last write may not have arrived");
    }
    match core.left() {
        (0, 0) => {}
        (flying, waiting) => info!(flying, waiting, "writes left to the next controller"),
    }
}

fn send(tell: &mpsc::Sender<Event>, events: impl IntoIterator<Item = Event>) {
    for event in events {
        if tell.try_send(event).is_err() {
            warn!("too many events wait for the API server: one is dropped");
        }
    }
}

/// Waits for news of addresses that belong to somebody else.
async fn news(found: &mut watch::Receiver<Found>) -> Found {
    match found.changed().await {
        Ok(()) => found.borrow_and_update().clone(),
        Err(_) => pending().await,
    }
}

/// Tokio's clock, so that tests can control it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// Sends events one at a time.
async fn tell_all<W: Writer>(writer: &W, mut events: mpsc::Receiver<Event>) {
    let mut failing = false;
    while let Some(event) = events.recv().await {
        match insist(|| writer.event(&event)).await {
            Ok(()) => failing = false,
            Err(refusal) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(object = %event.object, "event {} not written: {refusal}", event.kind.reason());
                }
            }
        }
    }
}
