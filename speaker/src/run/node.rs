//! Everything that the loop owns, and what each kind of event does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ferrolb_api::reason::Reason;
use ferrolb_api::source::Batch;

use super::config::Config;
use crate::apply::conflict::Conflicts;
use crate::apply::real::{HeardArp, Sockets};
use crate::apply::schedule::Schedule;
use crate::apply::{announce, answer};
use crate::desired::{Eligible, Surroundings, eligible};
use crate::diff::{Announced, diff};
use crate::frame::arp::Arp;
use crate::kernel_ping::KernelPing;
use crate::link::{LinkChange, Links};
use crate::machine::{Action, Clock, Event, Machine};
use crate::message::{Message, NodeName};
use crate::snapshot::Counters;
use crate::state::{Dirty, State};
use crate::wire::key::random;
use crate::wire::session::Sessions;
use crate::wire::transport::{Heard, Transport};

/// The node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) config: Config,
    pub(super) me: NodeName,
    pub(super) machine: Machine,
    pub(super) state: State,
    pub(super) links: Links,
    pub(super) members: BTreeMap<NodeName, Option<IpAddr>>,
    /// What this node may announce.
    pub(super) desired: BTreeMap<IpAddr, Result<Eligible, Reason>>,
    /// What it announces, and where.
    pub(super) announced: Announced,
    pub(super) conflicts: Conflicts,
    pub(super) counters: Counters,
    pub(super) problems: Vec<String>,
    pub(super) transport: Option<Transport>,
    pub(super) ping: Option<KernelPing>,
    pub(super) changed: bool,
    bound: Option<SocketAddr>,
    sockets: Sockets,
    schedule: Schedule,
    dirty: Dirty,
    programmed: Option<Option<BTreeSet<IpAddr>>>,
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
        Ok(Self {
            config,
            me,
            machine,
            state: State::default(),
            links,
            members: BTreeMap::new(),
            desired: BTreeMap::new(),
            announced: Announced::new(),
            conflicts: Conflicts::default(),
            counters: Counters::default(),
            problems: Vec::new(),
            transport: None,
            ping: None,
            changed: true,
            bound: None,
            sockets,
            schedule: Schedule::default(),
            dirty: Dirty::All,
            programmed: None,
            actions: Vec::new(),
        })
    }

    /// Objects changed.
    pub(super) fn batch(&mut self, batch: Batch) {
        let generation = self.state.generation();
        for change in batch.changes {
            self.state.apply(change, &mut self.dirty);
        }
        let members = self.known();
        if members != self.members {
            self.event(Event::Known(members.keys().cloned().collect()));
            self.members = members;
            self.open_transport();
        }
        if self.state.generation() != generation {
            self.event(Event::Addresses(self.state.addresses().collect()));
        }
    }

    /// The members: the static list, else the Node objects, and always this node.
    fn known(&self) -> BTreeMap<NodeName, Option<IpAddr>> {
        let mut members: BTreeMap<NodeName, Option<IpAddr>> = if self.config.members.is_empty() {
            let address =
                |ips: &[IpAddr]| ips.iter().find(|ip| ip.is_ipv4()).or(ips.first()).copied();
            self.state
                .nodes()
                .values()
                .map(|n| (n.name.as_str().into(), address(&n.internal_ips)))
                .collect()
        } else {
            self.config
                .members
                .iter()
                .map(|(name, ip)| (name.as_str().into(), Some(*ip)))
                .collect()
        };
        members.entry(self.me.clone()).or_default();
        members
    }

    /// The proxy reports; `None` outside: there is none.
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

    /// An interface changed.
    pub(super) fn link(&mut self, change: LinkChange) {
        if self.links.apply(change) {
            self.dirty = Dirty::All;
            self.open_sockets();
        }
    }

    /// Opens what is not open; what can't be opened is a problem that `status` shows.
    pub(super) fn open_sockets(&mut self) {
        let before = self.sockets.interfaces();
        let mut problems = self.sockets.sync(&self.links, &self.config.exclude);
        if self.sockets.interfaces() != before {
            self.dirty = Dirty::All;
        }
        self.open_transport();
        if let Some(at) = self.bound
            && self.ping.is_none()
            && self.members.len() > 1
        {
            match random()
                .map_err(Into::into)
                .and_then(|cookie| KernelPing::open(at.ip(), cookie))
            {
                Ok(ping) => self.ping = Some(ping),
                Err(e) => problems.push(e.to_string()),
            }
        }
        if self.transport.is_none() && self.members.len() > 1 {
            problems.push(match self.members.get(&self.me).copied().flatten() {
                None => format!("node {}: no address is known to listen for members on: give its Node an InternalIP", self.me),
                Some(ip) => format!("node {}: cannot listen for members on UDP {ip} port {}", self.me, self.config.port),
            });
        }
        if problems != self.problems {
            problems
                .iter()
                .filter(|p| !self.problems.contains(p))
                .for_each(|p| tracing::error!("{p}"));
            self.problems = problems;
            self.changed = true;
        }
    }

    /// Binds the member socket, anew where this node's address changed, and tells it who the members are.
    fn open_transport(&mut self) {
        let at = self
            .members
            .get(&self.me)
            .copied()
            .flatten()
            .map(|ip| SocketAddr::new(ip, self.config.port));
        if at != self.bound || self.transport.is_none() {
            self.transport = None;
            self.ping = None;
            self.bound = at;
            if let Some(at) = at
                && self.members.len() > 1
                && let Ok(seed) = random()
            {
                let sessions = Sessions::new(self.me.clone(), &self.config.key, seed);
                match Transport::bind(at, sessions) {
                    Ok(transport) => self.transport = Some(transport),
                    Err(e) => tracing::debug!("{e}"),
                }
            }
        }
        if let Some(transport) = &mut self.transport {
            transport.set_members(&self.members, self.config.port);
        }
    }

    /// What the members' socket brought; a payload is for the caller.
    pub(super) fn heard(&mut self, heard: Heard) -> Option<(NodeName, Vec<u8>)> {
        match heard {
            Heard::Message(from, message) => {
                self.counters.received += 1;
                if let Message::Opaque(payload) = message {
                    return Some((from, payload));
                }
                self.event(Event::Received { from, message });
            }
            Heard::Refused(name) => self.event(Event::Refused(name)),
            Heard::Dropped(from, why) => {
                self.counters.dropped += 1;
                tracing::debug!(%from, "a datagram was dropped: {why}");
            }
        }
        None
    }

    /// A payload for another member.
    pub(super) fn opaque(&mut self, to: NodeName, payload: Vec<u8>) {
        if let Some(transport) = &mut self.transport {
            transport.send(&to, &Message::Opaque(payload));
        }
    }

    /// A node's kernel answered.
    pub(super) fn pinged(&mut self, ip: IpAddr) {
        let of = |(name, at): (&NodeName, &Option<IpAddr>)| (*at == Some(ip)).then(|| name.clone());
        if let Some(name) = self.members.iter().find_map(of) {
            self.event(Event::KernelAnswered(name));
        }
    }

    /// An ARP frame: a question is answered if the machine lets us, a foreign claim to our address is noted.
    pub(super) fn arp(&mut self, heard: HeardArp) {
        let (interface, arp) = match heard {
            HeardArp::Frame(interface, arp) => (interface, arp),
            HeardArp::Closed(interface) => {
                self.sockets.closed(interface);
                self.dirty = Dirty::All;
                return;
            }
        };
        let now = super::clock().now;
        let ours = |a: Ipv4Addr| {
            self.announced
                .get(&IpAddr::V4(a))
                .is_some_and(|i| i.contains(&interface))
        };
        if ours(arp.sender) && !self.links.owns(arp.sender_mac) {
            self.conflicts
                .foreign((arp.sender, interface), arp.sender_mac, now);
        }
        if ours(arp.target) {
            self.answer(interface, &arp, now);
        }
    }

    fn answer(&mut self, interface: u32, arp: &Arp, now: Duration) {
        if !self.machine.may_answer(&IpAddr::V4(arp.target), now) {
            self.counters.withheld += 1;
            return;
        }
        match answer(&mut self.sockets, interface, arp) {
            Ok(true) => self.counters.answered += 1,
            Ok(false) => {}
            Err(e) => self.failed(interface, &e),
        }
    }

    fn failed(&mut self, interface: u32, e: &io::Error) {
        self.counters.failed += 1;
        tracing::debug!(interface, "an ARP frame was not sent: {e}");
    }

    /// Gives the machine an event and does what it wants.
    pub(super) fn event(&mut self, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        self.machine.step(event, super::clock(), &mut actions);
        let mut moved = false;
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
                    tracing::info!(%address, "announces");
                    moved = true;
                }
                Action::Withdraw(address) => {
                    tracing::info!(%address, "withdraws");
                    moved = true;
                }
                Action::Changed => self.changed = true,
            }
        }
        self.actions = actions;
        if moved {
            self.announce();
        }
    }

    /// Decides again on what changed, and lets the machine decide where it is time.
    pub(super) fn decide(&mut self) {
        self.eligibility();
        let now = super::clock().now;
        if self.machine.next_wakeup() <= now {
            self.event(Event::Tick);
        }
        self.say(now);
    }

    fn eligibility(&mut self) {
        if self.dirty.is_empty() {
            return;
        }
        let all = BTreeSet::new();
        let programmed = self.programmed.as_ref().map(|p| p.as_ref().unwrap_or(&all));
        let around = Surroundings {
            me: self.me.as_str(),
            programmed,
            links: &self.links,
            patterns: &self.config.exclude,
        };
        match std::mem::take(&mut self.dirty) {
            Dirty::All => self.desired = crate::desired::desired(&self.state, around),
            Dirty::Some(addresses) => {
                for address in addresses {
                    if self.state.has(address) {
                        self.desired
                            .insert(address, eligible(&self.state, around, address));
                    } else {
                        self.desired.remove(&address);
                    }
                }
            }
        }
        // An interface without a socket (no right to open one, or it just broke) announces nothing.
        let open = self.sockets.interfaces();
        for answer in self.desired.values_mut() {
            if let Ok(e) = answer {
                e.interfaces.retain(|i| open.contains(i));
                if e.interfaces.is_empty() {
                    *answer = Err(Reason::NoInterface);
                }
            }
        }
        self.changed = true;
        self.announce();
        // The machine is told nothing before the proxy's first pass is over.
        if self.programmed.as_ref().is_none_or(Option::is_some) {
            let may = self
                .desired
                .iter()
                .filter(|(_, e)| e.is_ok())
                .map(|(a, _)| *a)
                .collect();
            self.event(Event::Eligible(may));
        }
    }

    /// Brings what is announced, and where, in line with the machine and the interfaces.
    fn announce(&mut self) {
        let now = super::clock().now;
        let place = |address: &IpAddr| match self.desired.get(address) {
            Some(Ok(e)) => e.interfaces.clone(),
            // Not eligible any more, but answering until the successor speaks: where it answered before.
            _ => self.announced.get(address).cloned().unwrap_or_default(),
        };
        let then: Announced = self
            .machine
            .announced()
            .map(|a| (*a, place(a)))
            .filter(|(_, i)| !i.is_empty())
            .collect();
        let change = diff(&self.announced, &then);
        for place in places(&change.stop) {
            self.schedule.stop(place);
        }
        for place in places(&change.start) {
            self.schedule.start(place, now);
        }
        self.announced = then;
    }

    /// Sends the gratuitous ARP that is due.
    fn say(&mut self, now: Duration) {
        let announced = &self.announced;
        let ours = |(a, i): (Ipv4Addr, u32)| {
            announced
                .get(&IpAddr::V4(a))
                .is_some_and(|on| on.contains(&i))
        };
        let mut due = self.schedule.due(now);
        for defence in self.conflicts.due(now, ours) {
            if defence.report {
                tracing::warn!(address = %defence.place.0, mac = %defence.mac, "another host claims an address that this node announces");
            }
            self.changed = true;
            due.push(defence.place);
        }
        for (address, interface) in due {
            // A loop that was paused speaks for nothing before it has synchronised again.
            if !self.machine.may_answer(&IpAddr::V4(address), now) {
                continue;
            }
            match announce(&mut self.sockets, interface, address) {
                Ok(()) => self.counters.gratuitous += 2,
                Err(e) => self.failed(interface, &e),
            }
        }
    }

    /// When [`Node::decide`] has something to do.
    pub(super) fn next_wakeup(&self) -> Duration {
        let others = [self.schedule.next(), self.conflicts.next()];
        others
            .into_iter()
            .flatten()
            .fold(self.machine.next_wakeup(), Duration::min)
    }

    /// What is announced, by address and interface.
    pub(super) fn places(&self) -> Vec<(Ipv4Addr, u32)> {
        places(&self.announced)
    }

    /// Whether the interfaces hold addresses that were left to the kernel and that another node announces now.
    pub(super) fn has_leftovers(&self) -> bool {
        self.config.leave_addresses && !self.leftovers().is_empty()
    }

    /// Those addresses, with their interfaces.
    pub(super) fn leftovers(&self) -> Vec<(Ipv4Addr, u32)> {
        let elsewhere = |a: &IpAddr| self.machine.owner(a).is_some_and(|c| c.node != self.me);
        let mut all = Vec::new();
        if self.machine.is_settled() {
            for address in self.state.addresses().filter(elsewhere) {
                if let IpAddr::V4(v4) = address {
                    all.extend(
                        self.links
                            .leftovers(address)
                            .map(|interface| (v4, interface)),
                    );
                }
            }
        }
        all
    }
}

fn places(announced: &Announced) -> Vec<(Ipv4Addr, u32)> {
    let v4 = |a: &IpAddr| match a {
        IpAddr::V4(a) => Some(*a),
        IpAddr::V6(_) => None,
    };
    announced
        .iter()
        .filter_map(|(a, on)| Some((v4(a)?, on)))
        .flat_map(|(a, on)| on.iter().map(move |i| (a, *i)))
        .collect()
}
