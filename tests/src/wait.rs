//! Waits for a condition, never for a fixed time: polls with a deadline, and a message that says what was expected and what was
//! found.
//!
//! A deadline matters only if the condition is never met. A passing test does not wait for it, so it is generous: the same tests
//! run beside other builds. What has to be fast is measured, and judged with [`crate::late::Lateness`].

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// The factor for a machine that has other work.
const BUSY: u32 = 3;

/// The factor for all times: 1 natively, 5 in an emulated machine. `FERROLB_SLOW` overrides it.
pub fn slowness() -> u32 {
    std::env::var("FERROLB_SLOW")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1)
}

/// How long to wait for something that takes at most `usual` on an idle and fast machine.
pub fn patience(usual: Duration) -> Duration {
    usual * slowness() * BUSY
}

/// Polls `probe` until it returns a value; the error is what it saw last. `within` is for an idle and fast machine.
pub fn value<T, E: Debug>(
    what: &str,
    within: Duration,
    mut probe: impl FnMut() -> Result<T, E>,
) -> Result<T, String> {
    let within = patience(within);
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= within => {
                return Err(format!(
                    "{what}: not within {} s; last seen: {error:?}",
                    within.as_secs_f32()
                ));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Polls until `probe` returns true, or panics.
#[track_caller]
pub fn until(what: &str, within: Duration, mut probe: impl FnMut() -> bool) {
    expect(what, within, || if probe() { Ok(()) } else { Err("no") });
}

/// Polls until `probe` returns a value, or panics with what it saw last.
#[track_caller]
pub fn expect<T, E: Debug>(what: &str, within: Duration, probe: impl FnMut() -> Result<T, E>) -> T {
    match value(what, within, probe) {
        Ok(value) => value,
        Err(message) => panic!("{message}"),
    }
}

/// Checks that something stays true for a while, to test what must *not* happen.
pub fn holds(what: &str, during: Duration, mut probe: impl FnMut() -> bool) -> Result<(), String> {
    let start = Instant::now();
    while start.elapsed() < during {
        if !probe() {
            return Err(format!(
                "{what}: no longer so after {} ms",
                start.elapsed().as_millis()
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
