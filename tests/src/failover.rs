//! Sends a steady stream of requests from the client and measures the longest time without an answer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::{Ask, http};
use crate::netns::Netns;

/// Requests at a steady pace, each on its own connection and thread, so that one that hangs delays no other.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<Instant>>>,
    sender: Option<JoinHandle<u32>>,
}

/// The result, as the client saw it.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// The longest time between two answers.
    pub longest: Duration,
    /// Requests sent.
    pub sent: u32,
    /// Requests answered.
    pub answered: usize,
}

impl Stream {
    /// Starts, with one request per `pace`.
    pub fn start(client: &Netns, to: SocketAddr, pace: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answers: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let (stopped, seen, netns) = (Arc::clone(&stop), Arc::clone(&answers), client.clone());
        let sender = std::thread::spawn(move || {
            let mut asking = Vec::new();
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                let seen = Arc::clone(&seen);
                sent += 1;
                asking.push(netns.thread(move || {
                    if http(to, Ask::default()).is_ok() {
                        seen.lock()
                            .expect("no thread panics with it")
                            .push(Instant::now());
                    }
                }));
                asking.retain(|thread| !thread.is_finished());
                std::thread::sleep(pace);
            }
            for thread in asking {
                let _ = thread.join();
            }
            sent
        });
        Self {
            stop,
            answers,
            sender: Some(sender),
        }
    }

    /// The number of answers so far.
    pub fn answered(&self) -> usize {
        self.answers
            .lock()
            .map(|answers| answers.len())
            .unwrap_or_default()
    }

    /// Whether an answer arrived after this moment.
    pub fn answered_since(&self, moment: Instant) -> bool {
        self.answers
            .lock()
            .is_ok_and(|answers| answers.iter().any(|&at| at > moment))
    }

    /// Stops the stream and returns the result.
    pub fn finish(mut self) -> Outage {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self
            .sender
            .take()
            .and_then(|sender| sender.join().ok())
            .unwrap_or_default();
        let mut answers = self
            .answers
            .lock()
            .map(|answers| answers.clone())
            .unwrap_or_default();
        answers.sort();
        let gaps = answers.windows(2).map(|pair| pair[1] - pair[0]);
        Outage {
            longest: gaps.max().unwrap_or_default(),
            sent,
            answered: answers.len(),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
