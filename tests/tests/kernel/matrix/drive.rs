//! Drives probes: the cells of each source one after another, the sources beside each other, and what waits for silence all at once.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::thread::JoinHandle;

use super::probe::{Seen, Transport, patience, probe, silence};
use super::world::{Place, World};

/// One cell with all that a probe of it needs.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    /// Case and kind of address, for messages.
    pub(crate) what: String,
    /// Who asks.
    pub(crate) source: Place,
    /// Over what.
    pub(crate) transport: Transport,
    /// Whom.
    pub(crate) to: SocketAddr,
    /// What the table says.
    pub(crate) expected: &'static str,
    seen: BTreeSet<Seen>,
}

impl Cell {
    /// Resolves a cell of the table; `handler` is the node that takes the request.
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
            transport,
            to,
            expected,
            seen,
        }
    }

    fn is_silent(&self) -> bool {
        self.seen.contains(&Seen::Silence)
    }

    /// What differs. Servers take turns, and others ask meanwhile: each one that must answer does within a few rounds, and where one
    /// answers a second request shows that no other does.
    fn differs(&self) -> Option<String> {
        let (rounds, timeout) = if self.is_silent() {
            (1, silence())
        } else {
            (self.seen.len() * 8, patience())
        };
        let mut seen = BTreeSet::new();
        for round in 1..=rounds {
            seen.insert(probe(self.transport, self.to, timeout));
            let answers = matches!(self.seen.first(), Some(Seen::Answer(..)));
            let enough = round > usize::from(answers) && seen.is_superset(&self.seen);
            if enough || !seen.is_subset(&self.seen) {
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

/// Probes all cells; gives what differs, one line each.
pub(crate) fn differences(world: &World, cells: Vec<Cell>) -> Vec<String> {
    assert!(!cells.is_empty(), "there is nothing to probe");
    let (silent, loud): (Vec<Cell>, Vec<Cell>) = cells.into_iter().partition(Cell::is_silent);
    let mut lines = Vec::new();
    let lists = world.places.iter().map(|place| {
        let own = loud.iter().filter(|cell| cell.source.name == place.name);
        own.cloned().collect::<Vec<Cell>>()
    });
    let threads: Vec<_> = lists.filter_map(start).collect();
    lines.extend(threads.into_iter().flat_map(end));
    let threads: Vec<_> = silent
        .into_iter()
        .filter_map(|cell| start(vec![cell]))
        .collect();
    lines.extend(threads.into_iter().flat_map(end));
    lines
}

fn start(cells: Vec<Cell>) -> Option<JoinHandle<Vec<String>>> {
    let netns = cells.first()?.source.netns.clone();
    Some(netns.thread(move || cells.iter().filter_map(Cell::differs).collect()))
}

fn end(thread: JoinHandle<Vec<String>>) -> Vec<String> {
    thread.join().expect("a probe does not panic")
}
