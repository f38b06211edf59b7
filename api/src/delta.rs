//! Changes by key on their way from one task to another, kept as one change per key.
//!
//! The sender never waits, and a slow receiver costs at most one entry per key: of several changes to one key only the last one
//! arrives. So a part of the node can report on ten thousand Services without copying what did not change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// What changed, by key: the new value, or `None` where it is gone.
pub type Delta<K, V> = BTreeMap<K, Option<V>>;

#[derive(Debug)]
struct Shared<K, V> {
    waiting: Mutex<Delta<K, V>>,
    filled: Notify,
}

/// The end that reports changes.
#[derive(Debug)]
pub struct Sender<K, V>(Arc<Shared<K, V>>);

/// The end that takes them.
#[derive(Debug)]
pub struct Receiver<K, V>(Arc<Shared<K, V>>);

/// Both ends, with nothing on its way.
pub fn channel<K: Ord, V>() -> (Sender<K, V>, Receiver<K, V>) {
    let shared = Arc::new(Shared {
        waiting: Mutex::new(BTreeMap::new()),
        filled: Notify::new(),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<K: Ord, V> Sender<K, V> {
    /// Reports changes. It returns at once, whether or not anybody receives them. Make the changes before you call this: the
    /// receiver is kept out while they are being handed over.
    pub fn send(&self, changes: Delta<K, V>) {
        if changes.is_empty() {
            return;
        }
        let mut waiting = lock(&self.0.waiting);
        if waiting.is_empty() {
            *waiting = changes;
        } else {
            waiting.extend(changes);
        }
        drop(waiting);
        self.0.filled.notify_one();
    }
}

impl<K: Ord, V> Receiver<K, V> {
    /// Waits until there is a change to take. It may be dropped while it waits: nothing is lost.
    pub async fn changed(&self) {
        while lock(&self.0.waiting).is_empty() {
            self.0.filled.notified().await;
        }
    }

    /// Everything that changed since the last call; it may be nothing.
    pub fn take(&self) -> Delta<K, V> {
        std::mem::take(&mut *lock(&self.0.waiting))
    }
}

/// A map is whole between two statements, so one that a panic left locked is still good.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn is_ready(changed: impl Future<Output = ()>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(changed).poll(&mut context) == Poll::Ready(())
    }

    #[test]
    fn of_several_changes_to_one_key_the_last_one_arrives() {
        let (sender, receiver) = channel();
        sender.send([("a", Some(1)), ("b", Some(1))].into());
        sender.send([("a", None)].into());
        sender.send([("b", None)].into());
        sender.send([("b", Some(2)), ("c", Some(3))].into());
        let expected = [("a", None), ("b", Some(2)), ("c", Some(3))];
        assert_eq!(receiver.take(), expected.into());
        assert!(receiver.take().is_empty());
    }

    #[test]
    fn the_receiver_wakes_for_changes_only() {
        let (sender, receiver) = channel();
        assert!(!is_ready(receiver.changed()));
        sender.send(Delta::new());
        assert!(!is_ready(receiver.changed()));
        sender.send([(1, Some(1))].into());
        assert!(is_ready(receiver.changed()));
        receiver.take();
        assert!(
            !is_ready(receiver.changed()),
            "a stale wake-up is no change"
        );
    }

    #[test]
    fn a_change_that_comes_while_the_receiver_waits_wakes_it() {
        let (sender, receiver) = channel();
        let mut context = Context::from_waker(Waker::noop());
        let mut changed = pin!(receiver.changed());
        assert!(changed.as_mut().poll(&mut context).is_pending());
        sender.send([(1, Some(1))].into());
        assert!(changed.as_mut().poll(&mut context).is_ready());
    }
}
