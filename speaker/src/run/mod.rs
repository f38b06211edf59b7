//! The speaker's loop: one task that owns the machine, the sockets and the view of the objects.
//!
//! Everything that happens becomes an event for the machine. The loop empties the receive queue before a tick lets the machine
//! decide. For every ARP request it asks [`may_answer`](crate::machine::Machine::may_answer) with the clock of that moment
//! (`CLOCK_BOOTTIME`, which also runs while the host is suspended). So a process that was stopped answers nothing when it wakes.
//! Input that anybody can send (ARP, datagrams) is taken in bursts, and every other event gets its turn between two bursts.

mod complaint;
mod config;
mod digest;
mod eligibility;
mod lan;
mod members;
mod node;
mod view;

use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

pub use config::{Config, Wiring};

use crate::apply::linger;
use crate::apply::real::Sockets;
use crate::kernel_ping::KernelPing;
use crate::link::monitor::Monitor;
use crate::machine::{Clock, Event};
use crate::wire::transport::Transport;
use node::Node;

/// How often to retry sockets that could not be opened: addresses and interfaces may still appear.
const RETRY: Duration = Duration::from_secs(1);
/// The shortest interval between two status updates.
const PUBLISH: Duration = Duration::from_millis(50);
/// The most events taken from one queue before the others get their turn.
const BURST: usize = 1024;

/// Why the speaker ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The kernel's interfaces can't be read.
    #[error("the speaker cannot follow the network interfaces: {0}")]
    Links(io::Error),
    /// Random numbers or the clock are not available.
    #[error("the speaker cannot start: {0}")]
    Start(io::Error),
}

/// The current time on both clocks.
pub fn clock() -> Clock {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .unwrap_or_default();
    let wall = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Clock {
        now,
        wall: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Runs until it is asked to stop, or until the source of batches ends. Announcing needs CAP_NET_RAW. Without it the snapshot
/// says so, and the node takes part as one that can't announce.
pub async fn run(config: Config, mut wiring: Wiring) -> Result<(), RunError> {
    let (mut monitor, links) = Monitor::start().await.map_err(RunError::Links)?;
    let (heard_arp, mut arp) = mpsc::channel(BURST);
    // Nothing is known, claimed or announced before the first complete list.
    let first = tokio::select! {
        batch = wiring.batches.recv() => batch,
        _ = stopped(&mut wiring.stop) => None,
    };
    let Some(first) = first else { return Ok(()) };
    let mut node =
        Node::new(config, links, Sockets::new(heard_arp), clock()).map_err(RunError::Start)?;
    node.known(&wiring.members.borrow_and_update());
    node.batch(first);
    let mut refresh_programmed = true;
    let mut proxy_reports = wiring.programmed.is_some();
    let mut retry = clock().now;
    let mut published = Duration::ZERO;
    let mut handed_by: Option<Duration> = None;
    let mut woke = clock().now;
    loop {
        if std::mem::take(&mut refresh_programmed) {
            node.programmed(
                wiring
                    .programmed
                    .as_mut()
                    .map(|w| w.borrow_and_update().clone()),
            );
        }
        let now = clock().now;
        if now >= retry {
            retry = now + RETRY;
            node.open_sockets();
        }
        drain(&mut node, &wiring.opaque_in);
        node.decide();
        for (address, interface) in node.leftovers() {
            match linger::remove(&monitor.handle(), address, interface).await {
                Ok(true) => {
                    tracing::info!(%address, "removed an address from its interface, because another node announces it")
                }
                // It was removed before, or it has expired; the kernel's news of that has not been read yet.
                Ok(false) => {}
                Err(e) => {
                    tracing::warn!(%address, "cannot remove an address from its interface: {e}")
                }
            }
        }
        let now = clock().now;
        if handed_by.is_some_and(|by| now >= by || node.announced.is_empty()) {
            break;
        }
        let mut wake = node.next_wakeup().min(retry);
        wake = handed_by.map_or(wake, |by| wake.min(by));
        if !node.is_waiting() && (node.changed || !node.touched.is_empty()) {
            if now >= published + PUBLISH {
                published = now;
                publish(&mut node, &wiring);
            } else {
                wake = wake.min(published + PUBLISH);
            }
        }
        node.late(woke);
        let now = clock().now;
        // In random order: a flood on one socket must not block the others.
        tokio::select! {
            () = stopped(&mut wiring.stop), if handed_by.is_none() => {
                if !node.hand_over() {
                    break;
                }
                handed_by = Some(now + node.config.timers.grace * 2);
            }
            Some(heard) = arp.recv() => {
                node.arp(heard);
                for _ in 0..BURST {
                    let Ok(heard) = arp.try_recv() else { break };
                    node.arp(heard);
                }
            }
            () = readable(node.transport.as_ref()) => {}
            Some(ip) = pinged(node.ping.as_ref()) => node.pinged(ip),
            change = monitor.next() => match change {
                Some(change) => node.link(change),
                None => return Err(RunError::Links(io::ErrorKind::UnexpectedEof.into())),
            },
            batch = wiring.batches.recv() => match batch {
                Some(batch) => node.batch(batch),
                None => break,
            },
            Ok(()) = wiring.members.changed() => node.known(&wiring.members.borrow_and_update()),
            alive = programmed(&mut wiring.programmed), if proxy_reports => {
                refresh_programmed = true;
                // Without a proxy nothing more gets programmed, but the programmed state stays in the kernel.
                proxy_reports = alive;
            }
            Some((to, payload)) = wiring.opaque_out.recv() => {
                node.opaque(to, payload);
                for _ in 0..BURST {
                    let Ok((to, payload)) = wiring.opaque_out.try_recv() else { break };
                    node.opaque(to, payload);
                }
            }
            () = tokio::time::sleep(wake.saturating_sub(now)) => {}
        }
        node.late(wake.max(now));
        woke = clock().now;
    }
    stop(&mut node, &monitor).await;
    publish(&mut node, &wiring);
    Ok(())
}

/// The addresses first: whoever learns that this node settled finds out who announces what.
fn publish(node: &mut Node, wiring: &Wiring) {
    wiring.addresses.send(node.addresses());
    wiring.snapshot.send_replace(node.snapshot());
}

/// Takes what the members sent, all of it, before anything is decided.
fn drain(node: &mut Node, opaque: &mpsc::Sender<(crate::message::NodeName, Vec<u8>)>) {
    for _ in 0..BURST {
        let Some(heard) = node.transport.as_mut().and_then(|t| t.receive()) else {
            return;
        };
        if let Some(payload) = node.heard(heard) {
            // A full queue loses the payload, like the network may: the agreement repeats it.
            let _ = opaque.try_send(payload);
        }
    }
}

/// Leaves the addresses to the kernel, then says goodbye. In this order no node learns of the stop before the kernel answers.
async fn stop(node: &mut Node, monitor: &Monitor) {
    if node.config.leave_addresses {
        let hold = node.config.timers.hold;
        for (address, interface) in node.places() {
            if let Err(e) = linger::leave(&monitor.handle(), address, interface, hold).await {
                tracing::warn!(%address, "cannot leave an address to the kernel while the agent is away: {e}");
            }
        }
    }
    node.event(Event::Stop);
}

async fn stopped(stop: &mut tokio::sync::watch::Receiver<bool>) {
    // An error means that the sender is gone, which also means stop.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn readable(transport: Option<&Transport>) {
    match transport {
        Some(t) if t.ready().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}

async fn pinged(ping: Option<&KernelPing>) -> Option<std::net::IpAddr> {
    match ping {
        Some(ping) => ping.answered().await.ok(),
        None => std::future::pending().await,
    }
}

type Programmed =
    Option<tokio::sync::watch::Receiver<Option<std::collections::BTreeSet<std::net::IpAddr>>>>;

/// Waits for a change. Returns false when the proxy is gone.
async fn programmed(watch: &mut Programmed) -> bool {
    match watch {
        Some(watch) => watch.changed().await.is_ok(),
        None => std::future::pending().await,
    }
}
