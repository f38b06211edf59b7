//! Stops processes for a part of every second, as on a machine whose processors are busy with other work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The periods during which a process was stopped, from and to.
pub type Stops = Vec<(Instant, Instant)>;

/// Stops and continues processes until it is finished; stopped processes then continue.
#[derive(Debug)]
pub struct Stalls {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Stops>>,
}

impl Stalls {
    /// Stops each process for `stall` in each `period`; each starts `apart` later than the one before.
    pub fn start(pids: &[u32], stall: Duration, period: Duration, apart: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let begin = Instant::now();
        let thread = |(number, pid): (u32, &u32)| {
            let (stopped, pid) = (
                Arc::clone(&stop),
                Pid::from_raw(i32::try_from(*pid).expect("a process id fits")),
            );
            let mut next = begin + apart * number;
            std::thread::spawn(move || {
                let mut stops = Stops::new();
                while !stopped.load(Ordering::Relaxed) {
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                    let from = Instant::now();
                    let _ = kill(pid, Signal::SIGSTOP);
                    std::thread::sleep(stall);
                    let _ = kill(pid, Signal::SIGCONT);
                    stops.push((from, Instant::now()));
                    next += period;
                }
                stops
            })
        };
        let threads = (0..).zip(pids).map(thread).collect();
        Self { stop, threads }
    }

    /// Ends it and returns when each process was stopped.
    pub fn finish(mut self) -> Vec<Stops> {
        self.stop.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut self.threads);
        let stops = threads.into_iter().map(JoinHandle::join);
        stops
            .map(|stops| stops.expect("the thread does not panic"))
            .collect()
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
