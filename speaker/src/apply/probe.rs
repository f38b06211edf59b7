//! Asks the LAN whether a host has an address, before the first announcement of it (RFC 5227 section 2.1). Pure.
//!
//! The RFC waits for seconds, because the link of a host that just started may not forward yet. A node has been on its LAN for
//! long, and a user waits for the address, so two questions and a fifth of a second have to do. Only addresses that no member is
//! known to announce are asked for: a failover waits for nobody. An address that a host has is asked for again from time to time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::schedule::Place;
use crate::frame::arp::Mac;

/// Milliseconds from the first question to each question.
const QUESTIONS: [u64; 2] = [0, 100];
/// From the first question to the verdict.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long a host that has the address is left alone.
const AGAIN: Duration = Duration::from_secs(10);
/// The most questions in one step of the loop.
const MOST: usize = 256;

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No host has it.
    Free,
    /// The LAN has not been asked, or not long enough ago.
    Unknown,
    /// The host with this Ethernet address has it.
    Taken(Mac),
}

/// The addresses that were asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probes {
    free: BTreeSet<Ipv4Addr>,
    asked: BTreeMap<Ipv4Addr, Asked>,
    /// The same, by the time of the next step.
    order: BTreeSet<(Duration, Ipv4Addr)>,
}

#[derive(Clone, Debug)]
struct Asked {
    on: BTreeSet<u32>,
    begun: Duration,
    questions: usize,
    next: Duration,
    /// Who answered in this round.
    heard: Option<Mac>,
    /// Who answered in the previous round.
    taken: Option<Mac>,
}

/// What is due.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// Questions to send.
    pub ask: Vec<Place>,
    /// Addresses whose verdict is another one now.
    pub decided: BTreeSet<IpAddr>,
}

impl Probes {
    /// What is known of an address. IPv6 addresses are not asked for.
    pub(crate) fn verdict(&self, address: IpAddr) -> Verdict {
        let IpAddr::V4(v4) = address else {
            return Verdict::Free;
        };
        if self.free.contains(&v4) {
            return Verdict::Free;
        }
        let taken = self.asked.get(&v4).and_then(|a| a.taken);
        taken.map_or(Verdict::Unknown, Verdict::Taken)
    }

    /// Begins to ask on these interfaces, unless that has begun.
    pub(crate) fn begin(&mut self, address: IpAddr, on: BTreeSet<u32>, now: Duration) {
        let IpAddr::V4(v4) = address else { return };
        if self.free.contains(&v4) || self.asked.contains_key(&v4) {
            return;
        }
        let asked = Asked {
            on,
            begun: now,
            questions: 0,
            next: now,
            heard: None,
            taken: None,
        };
        self.put(v4, asked);
    }

    /// A frame says that a host, which is no member, has the address.
    pub(crate) fn heard(&mut self, address: Ipv4Addr, mac: Mac) {
        if let Some(asked) = self.asked.get_mut(&address) {
            asked.heard = Some(mac);
        }
    }

    /// The addresses that this station has, which turned out to be a member.
    pub(crate) fn excuse(&mut self, mac: Mac) -> BTreeSet<IpAddr> {
        let its = |a: &&Asked| a.taken == Some(mac) || a.heard == Some(mac);
        let its: Vec<Ipv4Addr> = self
            .asked
            .iter()
            .filter(|(_, a)| its(a))
            .map(|(v4, _)| *v4)
            .collect();
        its.iter().for_each(|v4| self.settle((*v4).into()));
        its.into_iter().map(IpAddr::V4).collect()
    }

    /// A member announces the address, so it is free for others of them.
    pub(crate) fn settle(&mut self, address: IpAddr) {
        self.forget(address);
        if let IpAddr::V4(v4) = address {
            self.free.insert(v4);
        }
    }

    /// Whether any address has no verdict yet.
    pub(crate) fn is_pending(&self) -> bool {
        self.asked.values().any(|asked| asked.taken.is_none())
    }

    /// Whether the address is being asked for.
    pub(crate) fn asks(&self, address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(v4) if self.asked.contains_key(&v4))
    }

    /// Forgets an address that no Service has any more.
    pub(crate) fn forget(&mut self, address: IpAddr) {
        let IpAddr::V4(v4) = address else { return };
        self.free.remove(&v4);
        if let Some(asked) = self.asked.remove(&v4) {
            self.order.remove(&(asked.next, v4));
        }
    }

    /// When the next step is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.order.first().map(|(at, _)| *at)
    }

    /// What is due now. If that is much, the rest follows at the next call.
    pub(crate) fn due(&mut self, now: Duration) -> Due {
        let mut due = Due::default();
        while due.ask.len() < MOST && self.next().is_some_and(|at| at <= now) {
            let Some((_, v4)) = self.order.pop_first() else {
                break;
            };
            let Some(mut asked) = self.asked.remove(&v4) else {
                continue;
            };
            if asked.questions < QUESTIONS.len() {
                // A loop that was paused asks late, and waits for the answer all the same.
                if asked.questions == 0 {
                    asked.begun = now;
                }
                due.ask.extend(asked.on.iter().map(|i| (v4, *i)));
                asked.questions += 1;
                let question = QUESTIONS.get(asked.questions);
                let wait = question.map_or(PATIENCE, |ms| Duration::from_millis(*ms));
                asked.next = (asked.begun + wait).max(now);
                self.put(v4, asked);
                continue;
            }
            if asked.heard != asked.taken || asked.heard.is_none() {
                due.decided.insert(v4.into());
            }
            if asked.heard.is_none() {
                self.free.insert(v4);
                continue;
            }
            asked.taken = asked.heard.take();
            asked.questions = 0;
            asked.begun = now + AGAIN;
            asked.next = asked.begun;
            self.put(v4, asked);
        }
        due
    }

    fn put(&mut self, v4: Ipv4Addr, asked: Asked) {
        self.order.insert((asked.next, v4));
        self.asked.insert(v4, asked);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
    const HOST: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn asking() -> Probes {
        let mut probes = Probes::default();
        probes.begin(A.into(), [2, 3].into(), ms(1000));
        probes
    }

    /// Runs until this time, and returns when questions were sent and verdicts changed.
    fn run(probes: &mut Probes, until: Duration) -> Vec<(Duration, Due)> {
        let mut steps = Vec::new();
        while let Some(at) = probes.next().filter(|at| *at <= until) {
            steps.push((at, probes.due(at)));
        }
        steps
    }

    #[test]
    fn an_address_that_nobody_answers_for_is_free_after_two_questions() {
        let mut probes = asking();
        assert_eq!(probes.verdict(A.into()), Verdict::Unknown);
        assert!(probes.is_pending());
        let steps = run(&mut probes, ms(60_000));
        let places = vec![(A, 2), (A, 3)];
        let ask = |at| {
            (
                ms(at),
                Due {
                    ask: places.clone(),
                    ..Due::default()
                },
            )
        };
        let decided = Due {
            decided: [A.into()].into(),
            ..Due::default()
        };
        assert_eq!(steps, [ask(1000), ask(1100), (ms(1200), decided)]);
        assert_eq!(probes.verdict(A.into()), Verdict::Free);
        assert!(!probes.is_pending());
        probes.begin(A.into(), [2].into(), ms(5000));
        assert_eq!(probes.next(), None, "it is not asked for again");
        probes.forget(A.into());
        assert_eq!(probes.verdict(A.into()), Verdict::Unknown);
    }

    #[test]
    fn a_host_keeps_its_address_until_it_is_gone() {
        let mut probes = asking();
        run(&mut probes, ms(1100));
        probes.heard(A, HOST);
        run(&mut probes, ms(1200));
        assert_eq!(probes.verdict(A.into()), Verdict::Taken(HOST));
        run(&mut probes, ms(11_250));
        assert_eq!(
            probes.verdict(A.into()),
            Verdict::Taken(HOST),
            "while it is asked again"
        );
        probes.heard(A, HOST);
        let steps = run(&mut probes, ms(11_500));
        assert!(
            steps.iter().all(|(_, due)| due.decided.is_empty()),
            "{steps:?}"
        );
        assert_eq!(probes.verdict(A.into()), Verdict::Taken(HOST));
        let steps = run(&mut probes, ms(60_000));
        assert_eq!(steps.last().unwrap().1.decided, [A.into()].into());
        assert_eq!(probes.verdict(A.into()), Verdict::Free);
    }

    #[test]
    fn a_member_is_no_host_and_who_announces_an_address_frees_it() {
        let mut probes = asking();
        run(&mut probes, ms(1000));
        probes.heard(A, HOST);
        assert_eq!(probes.excuse(HOST), [A.into()].into());
        assert_eq!(probes.verdict(A.into()), Verdict::Free);
        let mut probes = asking();
        probes.heard(A, HOST);
        run(&mut probes, ms(1200));
        probes.settle(A.into());
        assert_eq!(
            (probes.verdict(A.into()), probes.next()),
            (Verdict::Free, None)
        );
    }

    #[test]
    fn a_loop_that_was_paused_gives_the_host_time_to_answer() {
        let mut probes = asking();
        probes.due(ms(9000));
        assert_eq!(probes.next(), Some(ms(9100)));
    }

    #[test]
    fn many_addresses_are_asked_for_in_several_steps() {
        let mut probes = Probes::default();
        for n in 0..1000_u32 {
            probes.begin(Ipv4Addr::from(n).into(), [2].into(), ms(0));
        }
        assert_eq!(probes.due(ms(0)).ask.len(), MOST);
        run(&mut probes, ms(300));
        assert!((0..1000_u32).all(|n| probes.verdict(Ipv4Addr::from(n).into()) == Verdict::Free));
    }
}
