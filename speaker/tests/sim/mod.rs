//! A seeded network of machines with a virtual clock: loss, delay, reordering, crashes, restarts, pauses and partitions.
//!
//! It does not model encryption, frames on the LAN, a receive queue that overflows, or busy processors. A message is handled as
//! soon as it arrives, and a decision follows after [`TURN`].

pub(crate) mod net;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ferrolb_speaker::machine::{Action, Clock, Event, Machine, Moved};
use ferrolb_speaker::message::{Message, NodeName, STATE_BUDGET};
use ferrolb_speaker::timers::Timers;

use net::{Net, Rng};

/// From the last message to the decision.
const TURN: Duration = Duration::from_micros(50);

/// Unix time at the start, in milliseconds.
const EPOCH: u64 = 1_800_000_000_000;

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Agent {
    Running,
    Paused,
    /// No process runs. The kernel of a node that is up refuses.
    Absent,
}

/// Where packets wait for a paused node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Queue {
    /// In its socket: the kernel runs (`SIGSTOP`, a busy processor). The packets are there when it wakes.
    Socket,
    /// In its host: the whole machine stands still (an overcommitted hypervisor). The packets trickle in when it wakes.
    Host,
    /// Nowhere (suspend): they are lost.
    None,
}

pub(crate) struct Node {
    pub(crate) name: NodeName,
    pub(crate) up: bool,
    pub(crate) agent: Agent,
    /// What happens to packets that reach it while it is paused.
    pub(crate) queue: Queue,
    pub(crate) machine: Option<Machine>,
    pub(crate) eligible: BTreeSet<IpAddr>,
    /// The addresses for which this node's agent answers or, in a hold, its kernel.
    answers: BTreeSet<IpAddr>,
    /// Those for which only the kernel answers, since a goodbye.
    held: BTreeSet<IpAddr>,
    /// Incremented by crashes, so that events for an earlier life are dropped.
    life: u64,
    inbox: Vec<Event>,
    wake: Duration,
    clock_offset: i64,
    pub(crate) announced: u64,
}

enum What {
    Event {
        to: usize,
        life: Option<u64>,
        event: Event,
    },
    Wake(usize),
    HoldOver(usize),
    Start {
        node: usize,
    },
    Eligible {
        node: usize,
        life: u64,
    },
}

struct Item {
    at: Duration,
    seq: u64,
    what: What,
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}
impl Eq for Item {}
impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Item {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

/// Since when an address has been in a state that should not last.
#[derive(Default)]
struct Watch {
    last: Option<usize>,
    gap: Option<Duration>,
    dup: Option<Duration>,
}

pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) config: Timers,
    pub(crate) nodes: Vec<Node>,
    pub(crate) addrs: BTreeSet<IpAddr>,
    pub(crate) rng: Rng,
    pub(crate) net: Net,
    queue: BinaryHeap<Reverse<Item>>,
    /// Check at every step that a node reports each address whose announcer it sees change.
    pub(crate) reports: bool,
    seq: u64,
    /// The nodes that each node knows.
    known: Vec<BTreeSet<NodeName>>,
    /// How often each node's address changed, and which of its addresses each other node sends to.
    moved: Vec<u32>,
    sends_to: Vec<Vec<u32>>,
    group: Vec<u8>,
    cut: BTreeSet<(usize, usize)>,
    index: BTreeMap<NodeName, usize>,
    watch: BTreeMap<IpAddr, Watch>,
    /// How long each address went unanswered, since the last `mark`.
    pub(crate) gaps: Vec<Duration>,
    /// The longest time two nodes answered for one address, since the last `mark`.
    pub(crate) dup: Duration,
    /// Announcements that moved to another node, since the last `mark`.
    pub(crate) moves: usize,
    /// ARP answers that a node sent at the moment it woke, for an address that another node answers for.
    pub(crate) wrong_answers: usize,
    pub(crate) sent: u64,
}

pub(crate) fn addresses(k: usize) -> BTreeSet<IpAddr> {
    let addr = |i: usize| IpAddr::V4(Ipv4Addr::from(0x0a00_0100 + u32::try_from(i).unwrap_or(0)));
    (0..k).map(addr).collect()
}

impl World {
    /// `n` nodes and `k` addresses. Nothing runs yet.
    pub(crate) fn new(n: usize, k: usize, net: Net, seed: u64) -> Self {
        let addrs = addresses(k);
        let names: Vec<NodeName> = (0..n)
            .map(|i| NodeName::from(format!("node-{i:02}")))
            .collect();
        let node = |name: &NodeName| Node {
            name: name.clone(),
            up: true,
            agent: Agent::Absent,
            queue: Queue::Socket,
            machine: None,
            eligible: addrs.clone(),
            answers: BTreeSet::new(),
            held: BTreeSet::new(),
            life: 0,
            inbox: Vec::new(),
            wake: Duration::MAX,
            clock_offset: 0,
            announced: 0,
        };
        Self {
            now: Duration::ZERO,
            config: Timers::default(),
            known: vec![names.iter().cloned().collect(); n],
            moved: vec![0; n],
            sends_to: vec![vec![0; n]; n],
            nodes: names.iter().map(node).collect(),
            watch: addrs.iter().map(|a| (*a, Watch::default())).collect(),
            addrs,
            rng: Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed),
            net,
            queue: BinaryHeap::new(),
            reports: false,
            seq: 0,
            group: vec![0; n],
            cut: BTreeSet::new(),
            index: names.into_iter().enumerate().map(|(i, n)| (n, i)).collect(),
            gaps: Vec::new(),
            dup: Duration::ZERO,
            moves: 0,
            wrong_answers: 0,
            sent: 0,
        }
    }

    /// Starts all nodes within `within`, then runs until they agree.
    pub(crate) fn booted(n: usize, k: usize, net: Net, seed: u64, within: Duration) -> Self {
        let mut world = Self::new(n, k, net, seed);
        for i in 0..n {
            let after = world.rng.up_to(within);
            world.start_after(i, after);
        }
        world.converge(within + ms(6000), "boot");
        let more = world.rng.up_to(ms(1000)) + ms(1500);
        world.run(more);
        world.mark();
        world
    }

    pub(crate) fn mark(&mut self) {
        self.gaps.clear();
        self.dup = Duration::ZERO;
        for watch in self.watch.values_mut() {
            watch.dup = watch.dup.map(|_| self.now);
        }
        self.moves = 0;
        for node in &mut self.nodes {
            node.announced = 0;
        }
    }

    fn push(&mut self, after: Duration, what: What) {
        self.seq += 1;
        self.queue.push(Reverse(Item {
            at: self.now + after,
            seq: self.seq,
            what,
        }));
    }

    pub(crate) fn start_after(&mut self, node: usize, after: Duration) {
        self.push(after, What::Start { node });
    }

    /// Starts the agent. It learns its eligibility a little later, because its proxy first adopts what is programmed.
    pub(crate) fn start(&mut self, i: usize) {
        let known = self.known[i].clone();
        let seed = self.rng.next();
        let clock = self.clock(i);
        let node = &mut self.nodes[i];
        node.up = true;
        node.life += 1;
        node.agent = Agent::Running;
        node.inbox.clear();
        node.machine = Some(Machine::new(
            self.config.clone(),
            node.name.clone(),
            &known,
            seed,
            clock,
        ));
        let life = node.life;
        let addrs = self.addrs.clone();
        self.addresses(i, &addrs);
        let after = self.rng.up_to(ms(100));
        self.push(after, What::Eligible { node: i, life });
    }

    fn clock(&self, i: usize) -> Clock {
        let offset = self.nodes[i].clock_offset;
        let wall = (EPOCH + u64::try_from(self.now.as_millis()).unwrap_or(0))
            .saturating_add_signed(offset);
        Clock {
            now: self.now,
            wall,
        }
    }

    pub(crate) fn jump_clock(&mut self, i: usize, by: i64) {
        self.nodes[i].clock_offset += by;
    }

    /// The node disappears without a message.
    pub(crate) fn crash(&mut self, i: usize) {
        self.nodes[i].up = false;
        self.end(i);
    }

    /// The agent is killed, the node stays up.
    pub(crate) fn kill_agent(&mut self, i: usize) {
        self.end(i);
    }

    fn end(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        node.agent = Agent::Absent;
        node.life += 1;
        node.machine = None;
        node.held.clear();
        let answers = std::mem::take(&mut node.answers);
        for addr in answers {
            self.recount(addr);
        }
    }

    /// The agent says goodbye and ends. The kernel answers for its addresses until the hold is over.
    pub(crate) fn stop_agent(&mut self, i: usize) {
        self.event(i, Event::Stop);
        let node = &mut self.nodes[i];
        node.agent = Agent::Absent;
        node.life += 1;
        node.machine = None;
        node.held = node.answers.clone();
        self.push(self.config.hold, What::HoldOver(i));
    }

    pub(crate) fn pause(&mut self, i: usize) {
        self.nodes[i].agent = Agent::Paused;
        let answers = self.nodes[i].answers.clone();
        for addr in answers {
            self.recount(addr);
        }
    }

    /// Wakes a stopped process. It first sees ARP requests for every address, then what its socket held.
    pub(crate) fn resume(&mut self, i: usize) {
        let others: BTreeSet<IpAddr> = self
            .addrs
            .iter()
            .filter(|a| self.announcers(a).iter().any(|o| *o != i))
            .copied()
            .collect();
        if let Some(machine) = &self.nodes[i].machine {
            self.wrong_answers += others
                .iter()
                .filter(|a| machine.may_answer(a, self.now))
                .count();
        }
        self.nodes[i].agent = Agent::Running;
        let mut inbox = std::mem::take(&mut self.nodes[i].inbox);
        if self.nodes[i].queue == Queue::Host {
            let mut after = Duration::ZERO;
            for event in std::mem::take(&mut inbox) {
                after += self.rng.up_to(Duration::from_micros(100));
                let life = Some(self.nodes[i].life);
                self.push(after, What::Event { to: i, life, event });
            }
        }
        if self.rng.chance(50) {
            inbox.insert(0, Event::Tick);
        }
        inbox.push(Event::Tick);
        for event in inbox {
            self.event(i, event);
        }
        let answers = self.nodes[i].answers.clone();
        for addr in answers {
            self.recount(addr);
        }
    }

    /// From now on node `i` knows these nodes. It may be running or not.
    pub(crate) fn knows(&mut self, i: usize, nodes: impl IntoIterator<Item = usize>) {
        let set: BTreeSet<NodeName> = nodes
            .into_iter()
            .map(|n| self.nodes[n].name.clone())
            .collect();
        self.known[i].clone_from(&set);
        self.event(i, Event::Known(set));
    }

    /// A node gets another address, which the others do not know yet.
    pub(crate) fn move_address(&mut self, i: usize) {
        self.moved[i] += 1;
    }

    /// A node learns the new address of another node.
    pub(crate) fn learn_address(&mut self, i: usize, of: usize) {
        self.sends_to[i][of] = self.moved[of];
        let known = self.known[i].clone();
        self.event(i, Event::Known(known));
    }

    /// Delivers a forged message to a node.
    pub(crate) fn forge(&mut self, to: usize, from: usize, message: Message) {
        let from = self.nodes[from].name.clone();
        self.event(to, Event::Received { from, message });
    }

    /// Only nodes of the same group hear each other.
    pub(crate) fn partition(&mut self, groups: &[u8]) {
        self.group = groups.to_vec();
    }

    /// Nothing passes from one to the other any more.
    pub(crate) fn cut_link(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.group = vec![0; self.nodes.len()];
    }

    /// These addresses exist, as a node learns it.
    pub(crate) fn addresses(&mut self, i: usize, addrs: &BTreeSet<IpAddr>) {
        let moved = Moved::between(&BTreeSet::new(), addrs);
        self.event(i, Event::Addresses(moved));
    }

    pub(crate) fn set_eligible(&mut self, i: usize, set: BTreeSet<IpAddr>) {
        self.nodes[i].eligible = set.clone();
        self.event(i, Event::Eligible(set));
    }

    /// Passes an event to a node's machine and carries out its actions.
    pub(crate) fn event(&mut self, i: usize, event: Event) {
        match self.nodes[i].agent {
            Agent::Absent => return,
            Agent::Paused => {
                if event != Event::Tick && self.nodes[i].queue != Queue::None {
                    self.nodes[i].inbox.push(event);
                }
                return;
            }
            Agent::Running => {}
        }
        let clock = self.clock(i);
        let mut out = Vec::new();
        let Some(machine) = &mut self.nodes[i].machine else {
            return;
        };
        let before = self.reports.then(|| announcers(machine, &self.addrs));
        machine.step(event, clock, &mut out);
        if let Some(before) = before {
            let after = announcers(machine, &self.addrs);
            let mut touched = machine.take_touched();
            touched.extend(out.iter().filter_map(|action| match action {
                Action::Announce(addr) | Action::Withdraw(addr) => Some(*addr),
                _ => None,
            }));
            for ((addr, before), (_, after)) in before.iter().zip(&after) {
                let told = before == after || touched.contains(addr);
                assert!(told, "{addr}: {before:?} became {after:?} silently");
            }
        }
        let wake = machine.next_wakeup().max(self.now + TURN);
        if wake != self.nodes[i].wake && wake != Duration::MAX {
            self.nodes[i].wake = wake;
            self.push(wake - self.now, What::Wake(i));
        }
        for action in out {
            match action {
                Action::Send { to, message } => {
                    if let Message::State(s) = &message {
                        assert!(s.size() <= STATE_BUDGET, "a State of {} bytes", s.size());
                    }
                    for name in to {
                        self.send(i, &name, message.clone());
                    }
                }
                Action::KernelPing(name) => self.kernel_ping(i, &name),
                Action::Announce(addr) => {
                    self.nodes[i].announced += 1;
                    self.nodes[i].answers.insert(addr);
                    self.nodes[i].held.remove(&addr);
                    let watch = self.watch.entry(addr).or_default();
                    if watch.last.is_some_and(|l| l != i) {
                        self.moves += 1;
                    }
                    watch.last = Some(i);
                    self.recount(addr);
                }
                Action::Withdraw(addr) => {
                    self.nodes[i].answers.remove(&addr);
                    self.recount(addr);
                }
                Action::Changed => {}
            }
        }
        self.clean(i);
    }

    /// The kernel of a node stops answering for these addresses.
    fn release(&mut self, i: usize, addrs: &BTreeSet<IpAddr>) {
        for addr in addrs {
            self.nodes[i].answers.remove(addr);
            self.recount(*addr);
        }
    }

    /// An agent that has returned removes addresses from the interface that it no longer owns.
    fn clean(&mut self, i: usize) {
        let node = &self.nodes[i];
        let Some(machine) = node
            .machine
            .as_ref()
            .filter(|m| m.is_settled() && !node.held.is_empty())
        else {
            return;
        };
        let foreign = |a: &&IpAddr| machine.owner(a).is_none_or(|c| c.node != node.name);
        let gone: BTreeSet<IpAddr> = node.held.iter().filter(foreign).copied().collect();
        self.nodes[i].held.retain(|a| !gone.contains(a));
        self.release(i, &gone);
    }

    fn path(&mut self, from: usize, to: usize) -> Option<Duration> {
        self.sent += 1;
        let joined = self.group[from] == self.group[to]
            && !self.cut.contains(&(from, to))
            && self.sends_to[from][to] == self.moved[to];
        (joined && self.nodes[to].up)
            .then(|| self.net.delay(&mut self.rng))
            .flatten()
    }

    fn send(&mut self, from: usize, to: &NodeName, message: Message) {
        let to = self.index[to];
        assert_ne!(from, to, "a message to itself");
        let Some(delay) = self.path(from, to) else {
            return;
        };
        let event = Event::Received {
            from: self.nodes[from].name.clone(),
            message,
        };
        if self.nodes[to].agent == Agent::Absent {
            if let Some(back) = self.path(to, from) {
                let event = Event::Refused(self.nodes[to].name.clone());
                let life = Some(self.nodes[from].life);
                self.push(
                    delay + back,
                    What::Event {
                        to: from,
                        life,
                        event,
                    },
                );
            }
            return;
        }
        self.push(
            delay,
            What::Event {
                to,
                life: None,
                event,
            },
        );
    }

    fn kernel_ping(&mut self, from: usize, to: &NodeName) {
        let to = self.index[to];
        let (Some(there), Some(back)) = (self.path(from, to), self.path(to, from)) else {
            return;
        };
        let event = Event::KernelAnswered(self.nodes[to].name.clone());
        let life = Some(self.nodes[from].life);
        self.push(
            there + back,
            What::Event {
                to: from,
                life,
                event,
            },
        );
    }

    /// The nodes that answer for an address: running agents, and kernels in a hold.
    pub(crate) fn announcers(&self, addr: &IpAddr) -> Vec<usize> {
        let answers = |n: &Node| n.up && n.agent != Agent::Paused && n.answers.contains(addr);
        (0..self.nodes.len())
            .filter(|i| answers(&self.nodes[*i]))
            .collect()
    }

    fn recount(&mut self, addr: IpAddr) {
        let count = self.announcers(&addr).len();
        let now = self.now;
        let watch = self.watch.entry(addr).or_default();
        if count == 0 {
            watch.gap.get_or_insert(now);
        } else if let Some(since) = watch.gap.take() {
            self.gaps.push(now - since);
        }
        if count > 1 {
            watch.dup.get_or_insert(now);
        } else if let Some(since) = watch.dup.take() {
            self.dup = self.dup.max(now - since);
        }
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self
            .queue
            .peek()
            .is_some_and(|Reverse(item)| item.at <= until)
        {
            let Some(Reverse(item)) = self.queue.pop() else {
                break;
            };
            self.now = item.at;
            match item.what {
                What::Event { to, life, event } => {
                    if life.is_none_or(|l| l == self.nodes[to].life) && self.nodes[to].up {
                        self.event(to, event);
                    }
                }
                What::Wake(i) if self.nodes[i].wake == item.at => self.event(i, Event::Tick),
                What::Wake(_) => {}
                What::Start { node } => self.start(node),
                What::Eligible { node, life } => {
                    if self.nodes[node].life == life {
                        let set = self.nodes[node].eligible.clone();
                        self.event(node, Event::Eligible(set));
                    }
                }
                What::HoldOver(node) => {
                    let held = std::mem::take(&mut self.nodes[node].held);
                    self.release(node, &held);
                }
            }
        }
        self.now = until;
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Machine)> {
        let machine = |(i, n): (usize, &'_ Node)| (n.up && n.agent == Agent::Running).then_some(i);
        self.nodes
            .iter()
            .enumerate()
            .filter_map(machine)
            .filter_map(|i| self.nodes[i].machine.as_ref().map(|m| (i, m)))
    }

    /// What the nodes disagree on, if anything. They agree if every address that some node can serve has exactly one announcer,
    /// and every running node in that announcer's group names it.
    pub(crate) fn disagreement(&self) -> Option<String> {
        let groups: BTreeSet<u8> = self.running().map(|(i, _)| self.group[i]).collect();
        for (i, machine) in self.running() {
            if !machine.is_settled() {
                return Some(format!("{} is not settled", self.nodes[i].name));
            }
        }
        for addr in &self.addrs {
            for group in &groups {
                let here: Vec<(usize, &Machine)> = self
                    .running()
                    .filter(|(i, _)| self.group[*i] == *group)
                    .collect();
                if !here
                    .iter()
                    .any(|(i, _)| self.nodes[*i].eligible.contains(addr))
                {
                    continue;
                }
                let mut answering = self.announcers(addr);
                answering.retain(|i| self.group[*i] == *group);
                let [owner] = answering.as_slice() else {
                    return Some(format!("{addr} is announced by {answering:?}"));
                };
                for (i, machine) in here {
                    let named = machine.owner(addr).map(|c| &c.node);
                    if named != Some(&self.nodes[*owner].name) {
                        return Some(format!(
                            "{} takes {named:?} for the owner of {addr}, not {owner}",
                            self.nodes[i].name
                        ));
                    }
                }
            }
        }
        None
    }

    /// Runs until the nodes agree, and returns how long it took. Panics if they don't within `limit`.
    pub(crate) fn converge(&mut self, limit: Duration, what: &str) -> Duration {
        let begin = self.now;
        loop {
            self.run(ms(20));
            match self.disagreement() {
                None => return self.now - begin,
                Some(why) => assert!(self.now - begin < limit, "{what}: after {limit:?} {why}"),
            }
        }
    }

    /// The nodes that would answer an ARP request for this address now.
    pub(crate) fn answering(&self, addr: &IpAddr) -> Vec<usize> {
        let answers = |(i, m): (usize, &Machine)| m.may_answer(addr, self.now).then_some(i);
        self.running().filter_map(answers).collect()
    }

    /// Addresses per running node.
    pub(crate) fn loads(&self) -> Vec<usize> {
        self.running()
            .map(|(i, _)| self.nodes[i].answers.len())
            .collect()
    }

    /// The difference between the fullest and the emptiest running node.
    pub(crate) fn spread(&self) -> usize {
        let loads = self.loads();
        loads.iter().max().copied().unwrap_or(0) - loads.iter().min().copied().unwrap_or(0)
    }

    pub(crate) fn owned(&self, i: usize) -> usize {
        self.nodes[i].answers.len()
    }
}

/// Who announces each address in the view of a node, and since which claim.
fn announcers<'a>(
    machine: &Machine,
    addrs: impl IntoIterator<Item = &'a IpAddr>,
) -> Vec<(IpAddr, Option<(NodeName, u64)>)> {
    let announcer = |addr| machine.announcer(addr).map(|c| (c.node.clone(), c.epoch));
    addrs.into_iter().map(|a| (*a, announcer(a))).collect()
}
