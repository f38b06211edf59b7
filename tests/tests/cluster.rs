//! The cluster tier: a real control plane, and what ferrolb derives from its objects. It runs natively on any Linux with root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "cluster/announcers.rs"]
mod announcers;
#[path = "cluster/controller.rs"]
mod controller;
#[path = "cluster/install.rs"]
mod install;
#[path = "cluster/outage.rs"]
mod outage;
#[path = "cluster/plane.rs"]
mod plane;
#[path = "cluster/rights.rs"]
mod rights;
#[path = "cluster/scene.rs"]
mod scene;
#[path = "cluster/story.rs"]
mod story;
#[path = "cluster/workloads.rs"]
mod workloads;

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use ferrolb_tests::plane::Plane;

/// Held by each test that uses the plane. A test that takes the plane's API server away holds it exclusively.
static IN_USE: RwLock<()> = RwLock::new(());

/// The running plane that all these tests share.
fn shared() -> (Arc<Plane>, RwLockReadGuard<'static, ()>) {
    let plane = the_plane();
    let guard = IN_USE.read().unwrap_or_else(PoisonError::into_inner);
    (plane, guard)
}

/// The same plane, for one test alone.
fn alone() -> (Arc<Plane>, RwLockWriteGuard<'static, ()>) {
    let plane = the_plane();
    (plane, turn())
}

/// Exclusive access, for a test with its own plane.
fn turn() -> RwLockWriteGuard<'static, ()> {
    IN_USE.write().unwrap_or_else(PoisonError::into_inner)
}

/// The shared plane, or a new one if no test uses it now. It ends with the last test that uses it, and leaves nothing behind.
fn the_plane() -> Arc<Plane> {
    static PLANE: Mutex<Weak<Plane>> = Mutex::new(Weak::new());
    one_of(&PLANE, Plane::connect_or_start)
}

fn one_of<T>(place: &Mutex<Weak<T>>, make: impl FnOnce() -> T) -> Arc<T> {
    let mut known = place.lock().unwrap_or_else(PoisonError::into_inner);
    known.upgrade().unwrap_or_else(|| {
        let made = Arc::new(make());
        *known = Arc::downgrade(&made);
        made
    })
}

macro_rules! needs {
    ($test:expr) => {
        ferrolb_tests::need!(
            $test,
            ferrolb_tests::need::Need::Root,
            ferrolb_tests::need::Need::Plane,
            ferrolb_tests::need::Need::Tool("openssl"),
            ferrolb_tests::need::Need::Tool("curl")
        )
    };
}
use needs;
