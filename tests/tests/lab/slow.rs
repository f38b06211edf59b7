//! Agents that are stopped for half of every second: requests for their addresses are answered while the owners run.

use std::time::{Duration, Instant};

use ferrolb_tests::arp::{Heard, Questions};
use ferrolb_tests::client;
use ferrolb_tests::cluster::Cluster;
use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::node::PodLinks;
use ferrolb_tests::rows::{ADDRESSES, WEB};
use ferrolb_tests::stall::{Stalls, Stops};
use ferrolb_tests::wait;

const STALL: Duration = Duration::from_millis(500);
const PERIOD: Duration = Duration::from_secs(1);
const PACE: Duration = Duration::from_millis(20);

/// A question counts as asked while its owner runs if the owner keeps running for this long after it. An answer may take just as
/// long.
fn patience() -> Duration {
    Duration::from_millis(100) * wait::slowness().min(3)
}

macro_rules! needs {
    ($test:expr) => {
        need!(
            $test,
            Need::Root,
            Need::Ferrolb,
            Need::CoreDns,
            Need::Tool("nginx"),
            Need::Tool("arping")
        )
    };
}

fn pids(cluster: &mut Cluster) -> Vec<u32> {
    let pid = |node: &mut ferrolb_tests::node::Node| node.agent().expect("it runs").pid();
    cluster.nodes.iter_mut().map(pid).collect()
}

/// How many questions were asked while the node that answered last was running, and how many of them were answered.
fn score(heard: &Heard, macs: &[String], stops: &[Stops]) -> (usize, usize) {
    let (mut asked, mut answered) = (0, 0);
    for at in &heard.asked {
        let until = *at + patience();
        let Some((_, owner)) = heard.answers.iter().rev().find(|(when, _)| when < at) else {
            continue;
        };
        let number = macs.iter().position(|mac| mac == owner);
        let number = number.unwrap_or_else(|| panic!("{owner} is no node's: {macs:?}"));
        let stopped = |(from, to): &(Instant, Instant)| *from < until && at < to;
        if stops[number].iter().any(stopped) {
            continue;
        }
        asked += 1;
        let within = |(when, _): &(Instant, String)| when >= at && *when <= until;
        answered += usize::from(heard.answers.iter().any(within));
    }
    (asked, answered)
}

/// The longest time from the first answer of a new announcer to a later answer of its predecessor.
fn longest_overlap(heard: &Heard) -> Duration {
    let mut longest = Duration::ZERO;
    for (i, (since, newer)) in heard.answers.iter().enumerate().skip(1) {
        let (_, older) = &heard.answers[i - 1];
        if older == newer {
            continue;
        }
        // An answer of the old announcer is an overlap until the new one has been alone for a second.
        let soon = heard.answers[i..]
            .iter()
            .take_while(|(at, _)| *at < *since + PERIOD);
        let last = soon.filter(|(_, mac)| mac == older).last();
        longest = longest.max(last.map_or(Duration::ZERO, |(at, _)| *at - *since));
    }
    longest
}

fn check(mut cluster: Cluster, apart: Duration, what: &str) {
    let macs: Vec<String> = cluster
        .nodes
        .iter()
        .map(|node| client::mac(node.netns(), "eth0"))
        .collect();
    let stalls = Stalls::start(&pids(&mut cluster), STALL, PERIOD, apart);
    let questions = ADDRESSES.map(|address| Questions::start(&cluster.client, address, PACE));
    std::thread::sleep(Duration::from_secs(30) * wait::slowness().min(3));
    let heard = questions.map(Questions::finish);
    let stops = stalls.finish();
    for (address, heard) in ADDRESSES.iter().zip(&heard) {
        let (asked, answered) = score(heard, &macs, &stops);
        let overlap = longest_overlap(heard);
        println!(
            "{what}: {address}: {answered} of {asked} questions answered while the owner ran, {} ms overlap",
            overlap.as_millis()
        );
        assert!(asked > 100, "{address}: only {asked} questions count");
        assert!(
            answered * 10 >= asked * 9,
            "{address}: {answered} of {asked}"
        );
        assert!(
            overlap < Duration::from_millis(300) * wait::slowness(),
            "{address}: two announcers for {overlap:?}"
        );
    }
    cluster.settle(&ADDRESSES).unwrap();
    ferrolb_tests::rows::one_mac(&cluster, WEB).unwrap();
}

fn settled() -> Cluster {
    let mut cluster = Cluster::new("none", PodLinks::Routed);
    cluster.start();
    cluster.settle(&ADDRESSES).unwrap();
    cluster
}

#[test]
fn agents_that_are_stopped_together_for_half_of_every_second_answer_while_they_run() {
    needs!("agents_that_are_stopped_together_for_half_of_every_second_answer_while_they_run");
    check(settled(), Duration::ZERO, "in phase");
}

#[test]
fn agents_that_are_stopped_by_turns_for_half_of_every_second_answer_while_they_run() {
    needs!("agents_that_are_stopped_by_turns_for_half_of_every_second_answer_while_they_run");
    check(settled(), PERIOD / 3, "by turns");
}

#[test]
fn agents_that_are_stopped_for_half_of_every_second_from_their_start_come_to_answer() {
    needs!("agents_that_are_stopped_for_half_of_every_second_from_their_start_come_to_answer");
    let mut cluster = Cluster::new("none", PodLinks::Routed);
    let setup = cluster.setup.clone();
    for node in &mut cluster.nodes {
        node.start_agent(&setup);
    }
    check(cluster, PERIOD / 3, "from the start");
}
