//! The cluster tier: a real control plane, and what is made from its objects. Natively on any Linux with root.
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

/// Held by whoever uses the plane; alone by those that take its API server away meanwhile.
static IN_USE: RwLock<()> = RwLock::new(());

/// The plane of all these tests, running.
fn shared() -> (Arc<Plane>, RwLockReadGuard<'static, ()>) {
    let plane = the_plane();
    let guard = IN_USE.read().unwrap_or_else(PoisonError::into_inner);
    (plane, guard)
}

/// The same, for one test alone.
fn alone() -> (Arc<Plane>, RwLockWriteGuard<'static, ()>) {
    let plane = the_plane();
    (plane, turn())
}

/// A turn alone, for a test with a plane of its own.
fn turn() -> RwLockWriteGuard<'static, ()> {
    IN_USE.write().unwrap_or_else(PoisonError::into_inner)
}

/// The one that some test has, else a new one; it ends with the last test that has it, and leaves nothing behind.
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
