//! Everything that the loop owns, and how each kind of event changes it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ferrolb_api::change::Batch;
use ferrolb_api::reason::Reason;

use super::complaint::Complaints;
use super::config::Config;
use crate::apply::conflict::Conflicts;
use crate::apply::neighbour::Neighbours;
use crate::apply::probe::{Probes, Verdict};
use crate::apply::real::Sockets;
use crate::apply::schedule::Schedule;
use crate::desired::{Answer, Surroundings, permitted, refresh};
use crate::diff::Announced;
use crate::kernel_ping::KernelPing;
use crate::link::choose::{candidates, is_candidate};
use crate::link::{LinkChange, Links};
use crate::machine::{Action, Clock, Event, Machine};
use crate::message::NodeName;
use crate::problem::Problem;
use crate::snapshot::Counters;
use crate::state::{Dirty, State};
use crate::wire::key::random;
use crate::wire::transport::Transport;

/// How long a node that starts asks the LAN for addresses before it takes part with those that it knows of.
const ASKING: Duration = Duration::from_secs(2);

/// The node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) config: Config,
    pub(super) me: NodeName,
    pub(super) machine: Machine,
    pub(super) state: State,
    pub(super) links: Links,
    /// Lasting addresses of the interfaces that lead to the LAN, with the name of the interface and the
    /// length of the prefix.
    pub(super) carried: BTreeMap<IpAddr, (String, u8)>,
    pub(super) members: BTreeMap<NodeName, Option<IpAddr>>,
    /// What this node may announce.
    pub(super) desired: BTreeMap<IpAddr, Answer>,
    /// What it announces, and where.
    pub(super) announced: Announced,
    pub(super) conflicts: Conflicts,
    pub(super) neighbours: Neighbours,
    pub(super) probes: Probes,
    pub(super) complaints: Complaints,
    /// The last complaint about dropped datagrams, and its time.
    pub(super) deaf_to: Option<(Problem, Duration)>,
    pub(super) counters: Counters,
    pub(super) problems: Vec<Problem>,
    pub(super) transport: Option<Transport>,
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
    programmed: Option<Option<BTreeSet<IpAddr>>>,
    /// When the machine gets what this node may announce, although the LAN is still being asked for new addresses.
    give_by: Option<Duration>,
    /// The machine has what this node may announce; from then on it gets what changes.
    permitted_given: bool,
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
            state: State::new(config.class.clone()),
            config,
            me,
            machine,
            links,
            carried: BTreeMap::new(),
            members: BTreeMap::new(),
            desired: BTreeMap::new(),
            announced: Announced::new(),
            conflicts: Conflicts::default(),
            neighbours: Neighbours::default(),
            probes: Probes::default(),
            complaints: Complaints::default(),
            deaf_to: None,
            counters: Counters::default(),
            problems: Vec::new(),
            transport: None,
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
            permitted_given: false,
            actions: Vec::new(),
        };
        node.surroundings();
        Ok(node)
    }

    /// Handles changed objects.
    pub(super) fn batch(&mut self, batch: Batch) {
        for change in batch.changes {
            self.state.apply(change, &mut self.dirty);
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
            LinkChange::Link(_) | LinkChange::LinkGone(_) | LinkChange::All(_) => true,
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

    /// Reads from the interfaces what belongs to this machine and its subnets.
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
        let mut moved = BTreeSet::new();
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
                    moved.insert(address);
                }
                Action::Withdraw(address) => {
                    tracing::info!(%address, "withdraws");
                    moved.insert(address);
                }
                Action::Changed => self.changed = true,
            }
        }
        self.actions = actions;
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
        let dirty = std::mem::take(&mut self.dirty);
        let concerned: Vec<IpAddr> = match &dirty {
            Dirty::Some(addresses) => addresses.iter().copied().collect(),
            Dirty::All => self.state.addresses().collect(),
        };
        for address in &concerned {
            // What a member announces was asked for by that member.
            if self.probes.verdict(*address) == Verdict::Unknown
                && self.machine.owner(address).is_some()
            {
                self.probes.settle(*address);
            }
        }
        self.touched.extend(concerned);
        let (none, open) = (BTreeSet::new(), self.sockets.interfaces());
        let around = Surroundings {
            me: self.me.as_str(),
            programmed: self
                .programmed
                .as_ref()
                .map(|p| p.as_ref().unwrap_or(&none)),
            links: &self.links,
            patterns: &self.config.exclude,
            probes: &self.probes,
            open: &open,
        };
        let changed = refresh(&mut self.desired, &self.state, around, dirty);
        let unchecked = |a: &&IpAddr| self.desired.get(*a) == Some(&Err(Reason::AddressUnchecked));
        let unchecked = changed.answers.iter().filter(unchecked);
        let ask = unchecked.filter_map(|a| Some((*a, permitted(&self.state, around, *a).ok()?)));
        let ask = ask.collect();
        self.ask(ask);
        self.changed = true;
        self.announce(&changed.answers);
        // The machine gets no eligibility before the proxy's first pass is over and the LAN was asked for every address: a restarted
        // node would seem to have lost the right to announce what it announced.
        let unprogrammed = self.programmed.as_ref().is_some_and(Option::is_none);
        let now = super::clock().now;
        let patient = now < *self.give_by.get_or_insert(now + ASKING);
        if unprogrammed || !self.permitted_given && patient && self.probes.is_pending() {
            self.permitted_given = false;
        } else if std::mem::replace(&mut self.permitted_given, true) {
            if !changed.permitted.is_empty() {
                self.event(Event::EligibleMoved(changed.permitted));
            }
        } else {
            let may = self.desired.iter().filter(|(_, e)| e.is_ok());
            let may = may.map(|(a, _)| *a).collect();
            self.event(Event::Eligible(may));
        }
    }

    /// Records how late the loop is, given the time at which it was due to wake.
    pub(super) fn woke(&mut self, wanted: Duration) {
        let late = super::clock().now.saturating_sub(wanted).as_micros();
        let late = u64::try_from(late).unwrap_or(u64::MAX);
        self.counters.latest = self.counters.latest.max(late);
    }

    /// When [`Node::decide`] has work to do.
    pub(super) fn next_wakeup(&self) -> Duration {
        let others = [
            self.schedule.next(),
            self.conflicts.next(),
            self.probes.next(),
        ];
        others
            .into_iter()
            .flatten()
            .fold(self.machine.next_wakeup(), Duration::min)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::frame::arp::Mac;
    use crate::link::{Link, LinkAddress};
    use crate::wire::key::Key;

    /// Not an interface of this machine, so nothing can be opened on it.
    const NONE: u32 = 1 << 30;

    fn interface(index: u32, name: &str) -> LinkChange {
        LinkChange::Link(Link {
            index,
            name: name.to_owned(),
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            up: true,
            loopback: false,
            arp: true,
            master: None,
        })
    }

    #[test]
    fn addresses_of_interfaces_that_are_not_announced_on_decide_nothing_again() {
        let (heard, _arp) = tokio::sync::mpsc::channel(1);
        let config = Config::new("a", Key::derive(b"a secret for a test"));
        let clock = Clock {
            now: Duration::from_secs(1),
            wall: 1,
        };
        let mut node = Node::new(config, Links::default(), Sockets::new(heard), clock).unwrap();
        node.link(interface(NONE, "eth0"));
        node.link(interface(NONE + 1, "kube-ipvs0"));
        for (index, dirty) in [(NONE + 1, Dirty::default()), (NONE, Dirty::All)] {
            let net = "172.17.255.1/32".parse().unwrap();
            let address = LinkAddress {
                net,
                expires: false,
            };
            for change in [
                LinkChange::Address(index, address),
                LinkChange::AddressGone(index, net),
            ] {
                node.dirty = Dirty::default();
                node.link(change.clone());
                assert_eq!(node.dirty, dirty, "{change:?}");
            }
        }
    }

    #[test]
    fn an_address_of_a_service_on_an_interface_of_this_node_is_reported() {
        let (heard, _arp) = tokio::sync::mpsc::channel(1);
        let config = Config::new("a", Key::derive(b"a secret for a test"));
        let clock = Clock {
            now: Duration::from_secs(1),
            wall: 1,
        };
        let mut node = Node::new(config, Links::default(), Sockets::new(heard), clock).unwrap();
        let service = ferrolb_api::view::Service {
            service_type: ferrolb_api::view::ServiceType::LoadBalancer,
            ingress: vec![ferrolb_api::view::IngressAddress {
                ip: IpAddr::from([172, 17, 255, 1]),
                vip: true,
            }],
            ..Default::default()
        };
        let object = ferrolb_api::object::Object::Service(service.into());
        node.batch(Batch {
            changes: vec![ferrolb_api::change::Change::Upsert(object)],
            ..Batch::default()
        });
        node.link(interface(NONE, "eth0"));
        node.link(interface(NONE + 1, "kube-ipvs0"));
        let carried = |node: &mut Node| {
            let all = node.snapshot().problems.into_iter();
            let mut all = all.filter(|p| matches!(p, Problem::Carried { .. }));
            all.next().map(|p| format!("{}: {p}", p.object()))
        };
        let net = "172.17.255.1/32".parse().unwrap();
        for (index, expires, reported) in [
            (NONE + 1, false, false),
            (NONE, true, false),
            (NONE, false, true),
        ] {
            let address = LinkAddress { net, expires };
            node.link(LinkChange::Address(index, address));
            assert_eq!(carried(&mut node).is_some(), reported, "{index} {expires}");
        }
        let said = carried(&mut node).unwrap();
        assert!(
            said.starts_with("172.17.255.1: interface eth0 of this node has this address")
                && said.ends_with("`ip address del 172.17.255.1/32 dev eth0`"),
            "{said}"
        );
        node.link(LinkChange::AddressGone(NONE, net));
        assert_eq!(carried(&mut node), None);
    }
}
