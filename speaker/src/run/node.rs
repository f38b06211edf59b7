//! Everything that the loop owns, and how each kind of event changes it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ferrolb_api::change::{Batch, Change};

use super::complaint::Complaints;
use super::config::Config;
use super::digest::{Digest, Few};
use crate::apply::conflict::Conflicts;
use crate::apply::neighbour::Neighbours;
use crate::apply::probe::Probes;
use crate::apply::real::Sockets;
use crate::apply::schedule::Schedule;
use crate::desired::Answer;
use crate::desired::leaving::Leaving;
use crate::diff::Announced;
use crate::frame::arp::Mac;
use crate::kernel_ping::KernelPing;
use crate::link::choose::{candidates, is_candidate};
use crate::link::{LinkChange, Links};
use crate::machine::{Action, Clock, Event, Machine};
use crate::message::NodeName;
use crate::problem::{Problem, Unheard};
use crate::snapshot::Counters;
use crate::state::{Dirty, State};
use crate::wire::key::random;
use crate::wire::transport::Transport;

/// The most changed objects that are taken in during one step of the loop: a heartbeat must not wait for a first list.
const MOST: usize = 1024;

/// The node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) config: Config,
    pub(super) me: NodeName,
    pub(super) machine: Machine,
    /// Changes that have not been taken in yet. Nothing is decided from a part of a list.
    waiting: VecDeque<Change>,
    pub(super) state: State,
    pub(super) links: Links,
    /// Lasting addresses of the interfaces that lead to the LAN, with the name of the interface and the
    /// length of the prefix.
    pub(super) carried: BTreeMap<IpAddr, (String, u8)>,
    pub(super) members: BTreeMap<NodeName, Option<IpAddr>>,
    /// What this node may announce.
    pub(super) desired: BTreeMap<IpAddr, Answer>,
    /// Addresses that are outside of all pools now and still announced.
    pub(super) leaving: Leaving,
    /// What it announces, and where.
    pub(super) announced: Announced,
    pub(super) conflicts: Conflicts,
    /// Addresses that another station claims too and of which the log does not tell yet, by station.
    pub(super) contested: Digest<Mac>,
    /// Addresses that a host turned out to have and of which the log does not tell yet, by host.
    pub(super) taken: Digest<Mac>,
    pub(super) neighbours: Neighbours,
    pub(super) probes: Probes,
    pub(super) complaints: Complaints,
    /// The last complaint about dropped datagrams, and its time.
    pub(super) deaf_to: Option<(Problem, Duration)>,
    pub(super) counters: Counters,
    pub(super) problems: Vec<Problem>,
    pub(super) transport: Option<Transport>,
    /// Why the transport could not be opened.
    pub(super) unheard: Option<Unheard>,
    pub(super) ping: Option<KernelPing>,
    pub(super) changed: bool,
    /// The multiplier that was last logged.
    multiplier: u8,
    pub(super) bound: Option<SocketAddr>,
    pub(super) sockets: Sockets,
    pub(super) schedule: Schedule,
    pub(super) dirty: Dirty,
    /// Addresses that a status may show differently now.
    pub(super) touched: BTreeSet<IpAddr>,
    pub(super) programmed: Option<Option<BTreeSet<IpAddr>>>,
    /// When the machine gets what this node may announce, although the LAN is still being asked for new addresses.
    pub(super) give_by: Option<Duration>,
    /// This node stops, and gives up what it announces before that.
    pub(super) hands_over: bool,
    /// The machine has what this node may announce; from then on it gets what changes.
    pub(super) permitted_given: bool,
    actions: Vec<Action>,
}

impl Node {
    /// A node that knows nothing yet.
    pub(super) fn new(
        config: Config,
        links: Links,
        sockets: Sockets,
        clock: Clock,
    ) -> io::Result<Self> {
        let me = NodeName::from(config.node.as_str());
        let seed = u64::from_be_bytes(random::<8>()?);
        let machine = Machine::new(
            config.timers.clone(),
            me.clone(),
            &BTreeSet::from([me.clone()]),
            seed,
            clock,
        );
        let mut node = Self {
            waiting: VecDeque::new(),
            state: State::new(config.class.clone()),
            config,
            me,
            machine,
            links,
            carried: BTreeMap::new(),
            members: BTreeMap::new(),
            desired: BTreeMap::new(),
            leaving: Leaving::default(),
            announced: Announced::new(),
            conflicts: Conflicts::default(),
            contested: Digest::default(),
            taken: Digest::default(),
            neighbours: Neighbours::default(),
            probes: Probes::default(),
            complaints: Complaints::default(),
            deaf_to: None,
            counters: Counters::default(),
            problems: Vec::new(),
            transport: None,
            unheard: None,
            ping: None,
            changed: true,
            multiplier: 1,
            bound: None,
            sockets,
            schedule: Schedule::default(),
            dirty: Dirty::All,
            touched: BTreeSet::new(),
            programmed: None,
            give_by: None,
            hands_over: false,
            permitted_given: false,
            actions: Vec::new(),
        };
        node.surroundings();
        Ok(node)
    }

    /// Receives changed objects, which the next steps take in.
    pub(super) fn batch(&mut self, batch: Batch) {
        self.waiting.extend(batch.changes);
    }

    /// Whether changed objects have not been taken in yet.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes in changed objects, at most so many at once.
    fn take_in(&mut self) {
        let some = self.waiting.len().min(MOST);
        for change in self.waiting.drain(..some) {
            self.state.apply(change, &mut self.dirty);
        }
        if self.is_waiting() {
            return;
        }
        let moved = self.state.take_moved();
        if !moved.is_empty() {
            self.touched.extend(&moved.removed);
            moved.removed.iter().for_each(|a| self.probes.forget(*a));
            self.event(Event::Addresses(moved));
        }
    }

    /// The list of members or their addresses changed. This node is always a member.
    pub(super) fn known(&mut self, members: &BTreeMap<String, Option<IpAddr>>) {
        let named = members.iter();
        let mut members: BTreeMap<NodeName, Option<IpAddr>> = named
            .map(|(name, ip)| (name.as_str().into(), *ip))
            .collect();
        members.entry(self.me.clone()).or_default();
        if members != self.members {
            self.event(Event::Known(members.keys().cloned().collect()));
            self.neighbours.set_members(&members);
            let listening = members
                .iter()
                .filter_map(|(n, ip)| Some(((*ip)?, n.to_string())));
            self.state.set_members(listening.collect(), &mut self.dirty);
            self.members = members;
            self.open_transport();
        }
    }

    /// The proxy's report. The outer `None`: there is no proxy of ours.
    pub(super) fn programmed(&mut self, programmed: Option<Option<BTreeSet<IpAddr>>>) {
        let of = |p: &Option<Option<BTreeSet<IpAddr>>>| p.clone().flatten().unwrap_or_default();
        let (old, new) = (of(&self.programmed), of(&programmed));
        self.dirty.add(old.symmetric_difference(&new).copied());
        if self.programmed.is_some() != programmed.is_some()
            || self.programmed.as_ref().is_some_and(Option::is_none)
                != programmed.as_ref().is_some_and(Option::is_none)
        {
            self.dirty = Dirty::All;
        }
        self.programmed = programmed;
    }

    /// An interface changed. Addresses on interfaces that are not used for announcements don't matter here, and the proxy's dummy
    /// has one for every Service.
    pub(super) fn link(&mut self, change: LinkChange) {
        let matters = match &change {
            LinkChange::Link(_)
            | LinkChange::LinkGone(_)
            | LinkChange::Gateway(_)
            | LinkChange::All(_) => true,
            LinkChange::Address(index, _) | LinkChange::AddressGone(index, _) => self
                .links
                .get(*index)
                .is_some_and(|l| is_candidate(l, &self.config.exclude)),
        };
        if self.links.apply(change) && matters {
            self.dirty = Dirty::All;
            self.surroundings();
            self.open_sockets();
        }
    }

    /// Reads from the interfaces and routes what belongs to this machine, its subnets and its gateways.
    fn surroundings(&mut self) {
        let (mut carried, mut subnets) = (BTreeMap::new(), BTreeSet::new());
        for link in candidates(&self.links, &self.config.exclude) {
            for address in self.links.addresses(link.index) {
                subnets.insert(address.net.trunc());
                if !address.expires {
                    let place = (link.name.clone(), address.net.prefix_len());
                    carried.insert(address.net.addr(), place);
                }
            }
        }
        self.carried = carried;
        self.state.set_subnets(subnets, &mut self.dirty);
        self.state
            .set_gateways(self.links.gateways(), &mut self.dirty);
    }

    /// Passes an event to the machine and carries out its actions.
    pub(super) fn event(&mut self, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        let settled = self.machine.is_settled();
        self.machine.step(event, super::clock(), &mut actions);
        if self.machine.is_settled() != settled {
            self.touched.extend(self.state.addresses());
        }
        let touched = self.machine.take_touched();
        for address in &touched {
            if self.probes.asks(*address) && self.machine.owner(address).is_some() {
                self.probes.settle(*address);
                self.dirty.add([*address]);
            }
        }
        self.touched.extend(touched);
        let (mut begun, mut ended) = (BTreeSet::new(), BTreeSet::new());
        for action in actions.drain(..) {
            match action {
                Action::Send { to, message } => {
                    if let Some(transport) = &mut self.transport {
                        to.iter().for_each(|to| transport.send(to, &message));
                    }
                }
                Action::KernelPing(name) => {
                    if let (Some(ping), Some(Some(ip))) = (&self.ping, self.members.get(&name))
                        && let Err(e) = ping.ping(*ip)
                    {
                        tracing::debug!(member = %name, "an echo request was not sent: {e}");
                    }
                }
                Action::Announce(address) => {
                    ended.remove(&address);
                    begun.insert(address);
                }
                Action::Withdraw(address) => {
                    begun.remove(&address);
                    ended.insert(address);
                }
                Action::Changed => self.changed = true,
            }
        }
        self.actions = actions;
        for (all, what) in [(&begun, "announces"), (&ended, "withdraws")] {
            if !all.is_empty() {
                tracing::info!(addresses = %Few(all), "{what}");
            }
        }
        let moved: BTreeSet<IpAddr> = begun.union(&ended).copied().collect();
        self.touched.extend(&moved);
        self.announce(&moved);
        self.say_how_slow();
    }

    /// Logs one line when this node starts to be late often, when that gets worse or better, and when it is over.
    fn say_how_slow(&mut self) {
        if std::mem::replace(&mut self.multiplier, self.machine.multiplier())
            == self.machine.multiplier()
        {
            return;
        }
        match self.slow() {
            Some(problem) => tracing::warn!("{}: {problem}", problem.object()),
            None => tracing::info!(
                "this node has been on time for a minute, so the others use their usual timers for it again"
            ),
        }
    }

    /// The problem that this node is late often, if it is.
    pub(super) fn slow(&self) -> Option<Problem> {
        let multiplier = self.machine.multiplier();
        let failover = self.config.timers.declare_unanswered * u32::from(multiplier);
        (multiplier > 1).then(|| Problem::Slow {
            node: self.me.to_string(),
            multiplier,
            failover_ms: u64::try_from(failover.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Recomputes what changed, and lets the machine decide if that is due.
    pub(super) fn decide(&mut self) {
        self.probe();
        self.take_in();
        if !self.is_waiting() {
            self.renew_eligibility();
        }
        let now = super::clock().now;
        if self.machine.next_wakeup() <= now {
            self.event(Event::Tick);
        }
        self.say(now);
    }

    /// Records how long the loop kept others waiting until now: since it should have woken, or since its step began.
    pub(super) fn late(&mut self, since: Duration) {
        let late = super::clock().now.saturating_sub(since).as_micros();
        let late = u64::try_from(late).unwrap_or(u64::MAX);
        self.counters.latest = self.counters.latest.max(late);
    }

    /// When [`Node::decide`] has work to do.
    pub(super) fn next_wakeup(&self) -> Duration {
        if self.is_waiting() || !(self.dirty.is_empty() || self.hands_over) {
            return Duration::ZERO;
        }
        let others = [
            self.schedule.next(),
            self.conflicts.next(),
            self.probes.next(),
            self.leaving.next(),
        ];
        others
            .into_iter()
            .flatten()
            .fold(self.machine.next_wakeup(), Duration::min)
    }
}

#[cfg(test)]
mod tests;
