//! Drives the probes: each node gets one request at a time, both nodes are probed in parallel, and all probes that wait for
//! silence run at once.
//!
//! A node distributes connections to its servers in turn, and this turn is shared by all clients. If two sources sent requests in
//! step, each would see only every second server of the turn: of two servers, each source would see one. So nobody else sends
//! requests to a node while a cell is probed. Then a cell sees each of its servers exactly once in a round.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::thread::JoinHandle;

use super::probe::{Seen, Transport, patience, probe, silence};
use super::world::{Place, World};

/// One cell, with all that a probe of it needs.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    /// The case and the kind of address, for messages.
    pub(crate) what: String,
    /// Who sends the request.
    pub(crate) source: Place,
    /// The node that handles the request: 0 is A, 1 is B.
    handler: usize,
    /// The transport of the request.
    pub(crate) transport: Transport,
    /// The destination of the request.
    pub(crate) to: SocketAddr,
    /// What the table expects.
    pub(crate) expected: &'static str,
    seen: BTreeSet<Seen>,
}

impl Cell {
    /// Resolves a cell of the table.
    pub(crate) fn new(
        world: &World,
        what: String,
        source: &Place,
        handler: usize,
        (transport, to): (Transport, SocketAddr),
        expected: &'static str,
    ) -> Self {
        let seen = expected
            .split_whitespace()
            .map(|word| seen(world, word, source, handler, to.is_ipv6()))
            .collect();
        Self {
            what,
            source: source.clone(),
            handler,
            transport,
            to,
            expected,
            seen,
        }
    }

    fn is_silent(&self) -> bool {
        self.seen.contains(&Seen::Silence)
    }

    /// The differences from the table. Each server that must answer does so once per round. If there is only one, a second
    /// request shows that no other server answers.
    fn differs(&self) -> Option<String> {
        let (rounds, timeout) = match self.seen.first() {
            Some(Seen::Answer(..)) => (self.seen.len().max(2), patience()),
            Some(Seen::Silence) => (1, silence()),
            _ => (1, patience()),
        };
        let mut seen = BTreeSet::new();
        for _ in 0..rounds {
            seen.insert(probe(self.transport, self.to, timeout));
            if !seen.is_subset(&self.seen) {
                break;
            }
        }
        (seen != self.seen).then(|| {
            format!(
                "{}: {:?} {} from {}: expected {} {:?}, saw {seen:?}",
                self.what, self.transport, self.to, self.source.name, self.expected, self.seen
            )
        })
    }
}

fn seen(world: &World, word: &str, source: &Place, handler: usize, six: bool) -> Seen {
    match word {
        "R" => Seen::Refused,
        "D" => Seen::Silence,
        _ => {
            let (name, how) = word.split_at(word.len() - 1);
            let from: IpAddr = match how {
                "K" => source.address(six),
                "M" => world.masqueraded(handler, world.place(name), six),
                _ => panic!("{word} is not a cell"),
            };
            Seen::Answer(name.to_owned(), from)
        }
    }
}

/// Probes all cells. Returns the differences, one line each.
pub(crate) fn differences(cells: Vec<Cell>) -> Vec<String> {
    assert!(!cells.is_empty(), "there is nothing to probe");
    let (silent, loud): (Vec<Cell>, Vec<Cell>) = cells.into_iter().partition(Cell::is_silent);
    let (at_a, at_b): (Vec<Cell>, Vec<Cell>) = loud.into_iter().partition(|c| c.handler == 0);
    // `map` on an array is eager: both threads run before the first is awaited.
    let mut lines: Vec<String> = [at_a, at_b]
        .map(in_turn)
        .into_iter()
        .flat_map(end)
        .collect();
    let waiting: Vec<_> = silent.into_iter().map(alone).collect();
    lines.extend(waiting.into_iter().flat_map(end));
    lines
}

/// A thread that probes one cell after another, each in the namespace of its source.
fn in_turn(cells: Vec<Cell>) -> JoinHandle<Vec<String>> {
    let ask = |cell: Cell| {
        let netns = cell.source.netns.clone();
        netns.run(move || cell.differs())
    };
    std::thread::spawn(move || cells.into_iter().filter_map(ask).collect())
}

/// A thread for one cell.
fn alone(cell: Cell) -> JoinHandle<Vec<String>> {
    let netns = cell.source.netns.clone();
    netns.thread(move || cell.differs().into_iter().collect())
}

fn end(thread: JoinHandle<Vec<String>>) -> Vec<String> {
    thread.join().expect("a probe does not panic")
}
