//! Measures how late this machine runs what is due. A requirement on speed applies to the program, not to the load of the
//! machine, so a test that measures a time adds this lateness to its limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the thread sleeps at a time.
const TICK: Duration = Duration::from_millis(5);

/// A thread that sleeps repeatedly and sums up how late it wakes: a few milliseconds per second on an idle machine.
#[derive(Debug)]
pub struct Lateness {
    nanos: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Lateness {
    /// Starts measuring.
    pub fn start() -> Self {
        let (nanos, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (sum, stopped) = (Arc::clone(&nanos), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let asleep = Instant::now();
                std::thread::sleep(TICK);
                let late = asleep.elapsed().saturating_sub(TICK);
                let late = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
                sum.fetch_add(late, Ordering::Relaxed);
            }
        });
        Self {
            nanos,
            stop,
            thread: Some(thread),
        }
    }

    /// The sum so far.
    pub fn so_far(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
