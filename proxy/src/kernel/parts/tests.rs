//! Compares the record of what the kernel holds with a fake kernel, behind sockets that lose answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ferrolb_api::Family;
use ferrolb_api::proxy_config::ProxyConfig;
use ferrolb_api::view::Protocol;
use proptest::prelude::*;
use tokio::time::Instant;

use super::super::ipvs::fake::FakeIpvs;
use super::super::links::fake::FakeRoutes;
use super::super::netlink::Channel;
use super::super::netlink::faulty::{Fault, Faults, FaultySocket, Mute, Peer};
use super::super::nft::fake::FakeTables;
use super::super::rule::{Key, Value, Verdict};
use super::super::table::{class, set, table};
use super::super::{Element, Forwarding, Kernel, Mended, RealServer, VirtualServer};
use super::*;
use crate::apply::apply;

/// A kernel behind faulty sockets, with access to what it really holds.
struct World {
    ipvs: Arc<Mutex<FakeIpvs>>,
    nft: Arc<Mutex<FakeTables>>,
    links: Arc<Mutex<FakeRoutes>>,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Debug)]
struct Tested(Parts<FaultySocket>);

impl Kernel for Tested {
    fn tune(&mut self, _config: &ProxyConfig) {}

    async fn mend(&mut self) -> Result<Vec<Mended>, KernelError> {
        Ok(Vec::new())
    }

    async fn prepare(&mut self) -> Result<(), KernelError> {
        self.0.nft.prepare().await?;
        self.0.links.prepare().await
    }

    async fn read(&mut self) -> Result<Observed, KernelError> {
        self.0.read().await
    }

    async fn damage(
        &mut self,
        sentinel: Option<&VirtualServerId>,
    ) -> Result<Option<Damage>, KernelError> {
        self.0.damage(sentinel).await
    }

    async fn apply(&mut self, ops: &[Op]) -> Vec<(usize, KernelError)> {
        self.0.apply(ops).await
    }

    async fn cleanup(&mut self) -> Vec<KernelError> {
        Vec::new()
    }
}

/// A channel to one part of the kernel; `name` is for messages.
fn channel(peer: Arc<Mutex<dyn Peer>>, faults: &Arc<Mutex<Faults>>) -> Channel<FaultySocket> {
    Channel::new(FaultySocket::new(peer, faults.clone()), "test")
}

impl World {
    /// A prepared kernel without any faults so far.
    async fn new() -> (Self, Tested) {
        let world = Self {
            ipvs: Arc::default(),
            nft: Arc::default(),
            links: Arc::default(),
            faults: Arc::default(),
        };
        let parts = Parts {
            ipvs: IpVs::over(channel(world.ipvs.clone(), &world.faults))
                .await
                .unwrap(),
            nft: Nft::over(channel(world.nft.clone(), &world.faults), table()),
            links: Links::over(
                channel(world.links.clone(), &world.faults),
                Some("192.0.2.1".parse().unwrap()),
                Some("2001:db8::1".parse().unwrap()),
                Vec::new(),
            ),
        };
        let mut kernel = Tested(parts);
        kernel.prepare().await.unwrap();
        (world, kernel)
    }

    fn script(&self, faults: impl IntoIterator<Item = (usize, Fault)>) {
        let mut all = self.faults.lock().unwrap();
        let now = all.count;
        all.script = faults.into_iter().map(|(at, f)| (now + at, f)).collect();
    }

    fn truth(&self) -> Observed {
        let table = table();
        let chains: Vec<_> = table.chains.iter().map(|c| c.name).collect();
        let nft = self.nft.lock().unwrap();
        let sets = table.sets.iter();
        Observed {
            addresses: self.links.lock().unwrap().served(),
            servers: self.ipvs.lock().unwrap().servers.clone(),
            traffic: BTreeMap::new(),
            elements: sets.map(|s| (s.name, nft.elements(s, &chains))).collect(),
            rules_loaded: true,
        }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn element(key: Vec<Key>, value: Option<Value>) -> Element {
    Element { key, value }
}

/// The state that a choice of small numbers stands for.
fn target(addresses: u8, servers: [(u8, u8); 3], elements: [u8; 4]) -> Observed {
    let mut out = Observed {
        rules_loaded: true,
        ..Observed::default()
    };
    let names = ["10.96.0.1", "10.96.0.2", "10.96.0.3", "fd00::1"];
    let some = names.iter().enumerate();
    out.addresses = some
        .filter(|(i, _)| addresses & (1 << i) != 0)
        .map(|(_, a)| ip(a))
        .collect();
    let address = |addr: &str| VirtualServerId::Address {
        addr: ip(addr),
        port: 80,
        protocol: Protocol::Tcp,
    };
    let mark = VirtualServerId::Fwmark {
        mark: 9,
        family: Family::V6,
    };
    let ids = [address("10.96.0.1"), address("fd00::1"), mark];
    for (id, (kind, reals)) in ids.into_iter().zip(servers) {
        let Some(scheduler) = [None, Some("rr"), Some("wrr")][usize::from(kind % 3)] else {
            continue;
        };
        let server = VirtualServer {
            id,
            scheduler: scheduler.to_owned(),
            sched_flags: 0,
            persistence: (kind >= 3).then_some(100),
        };
        let v4 = id == ids[0];
        let reals = (0..3u8).filter_map(|i| {
            let weight = (reals >> (2 * i)) & 3;
            let host = if v4 { "10.244.0.1" } else { "fd00:1::1" };
            let addr = SocketAddr::new(ip(host), 8000 + u16::from(i));
            let real = RealServer {
                addr,
                weight: u32::from(weight).checked_sub(1)?,
                forwarding: Forwarding::Masq,
            };
            Some((addr, real))
        });
        out.servers.insert(id, (server, reals.collect()));
    }
    out.elements = table()
        .sets
        .iter()
        .map(|s| (s.name, BTreeSet::new()))
        .collect();
    let mut add = |set: &'static str, e: Element| {
        out.elements.get_mut(set).unwrap().insert(e);
    };
    let key = |addr: &str| {
        vec![
            Key::Addr(ip(addr)),
            Key::Proto(Protocol::Tcp),
            Key::Port(80),
        ]
    };
    for (bit, addr) in ["10.96.0.1", "10.96.0.2"].into_iter().enumerate() {
        if elements[0] & (1 << bit) != 0 {
            add(
                set::vip(Family::V4),
                element(vec![Key::Addr(ip(addr))], None),
            );
        }
        let verdict = [
            None,
            Some(Verdict::Accept),
            Some(Verdict::Goto(class::REJECT)),
        ][usize::from((elements[1] >> (2 * bit)) % 3)];
        if let Some(verdict) = verdict {
            let value = Some(Value::Verdict(verdict));
            add(set::svc(Family::V4), element(key(addr), value));
        }
    }
    if !elements[2].is_multiple_of(3) {
        let value = Some(Value::Mark(u32::from(elements[2])));
        add(set::mark(Family::V6), element(key("fd00::1"), value));
    }
    for bit in 0..2u8 {
        if elements[3] & (1 << bit) != 0 {
            let net = format!("10.{bit}.0.0/16").parse().unwrap();
            add(
                set::svccidr(Family::V4),
                element(vec![Key::net(&net)], None),
            );
        }
    }
    out
}

/// Operations from one state to another, in an order in which they can be done.
fn difference(have: &Observed, want: &Observed) -> Vec<Op> {
    let mut ops = Vec::new();
    for (id, (server, reals)) in &want.servers {
        let old = have.servers.get(id);
        if old.map(|(s, _)| s) != Some(server) {
            ops.push(Op::SetVirtualServer(server.clone()));
        }
        let none = BTreeMap::new();
        let old = old.map_or(&none, |(_, r)| r);
        for real in reals.values().filter(|r| old.get(&r.addr) != Some(r)) {
            ops.push(Op::SetRealServer(*id, *real));
        }
        for addr in old.keys().filter(|a| !reals.contains_key(a)) {
            ops.push(Op::DelRealServer(*id, *addr));
        }
    }
    ops.extend(
        want.addresses
            .difference(&have.addresses)
            .map(|a| Op::AddAddress(*a)),
    );
    for (set, want) in &want.elements {
        let none = BTreeSet::new();
        let have = have.elements.get(set).unwrap_or(&none);
        ops.extend(
            have.difference(want)
                .map(|e| Op::DelElement(set, e.clone())),
        );
        ops.extend(
            want.difference(have)
                .map(|e| Op::AddElement(set, e.clone())),
        );
    }
    let gone = have
        .servers
        .keys()
        .filter(|id| !want.servers.contains_key(id));
    ops.extend(gone.map(|id| Op::DelVirtualServer(*id)));
    ops.extend(
        have.addresses
            .difference(&want.addresses)
            .map(|a| Op::DelAddress(*a)),
    );
    ops
}

/// Checks that the record claims nothing that the kernel does not hold.
fn claims_no_more(record: &Observed, truth: &Observed) -> Result<(), TestCaseError> {
    prop_assert!(record.addresses.is_subset(&truth.addresses), "addresses");
    for (id, (server, reals)) in &record.servers {
        let Some((true_server, true_reals)) = truth.servers.get(id) else {
            return Err(TestCaseError::fail(format!("{id:?} is not there")));
        };
        prop_assert_eq!(server, true_server);
        for (addr, real) in reals {
            prop_assert_eq!(Some(real), true_reals.get(addr));
        }
    }
    for (set, elements) in &record.elements {
        prop_assert!(elements.is_subset(&truth.elements[set]), "{}", set);
    }
    Ok(())
}

async fn read(kernel: &mut Tested, world: &World) -> Result<Observed, TestCaseError> {
    for _ in 0..20 {
        if let Ok(held) = kernel.read().await {
            prop_assert_eq!(&held, &world.truth());
            return Ok(held);
        }
    }
    Err(TestCaseError::fail("the kernel cannot be read"))
}

/// A kernel and the record of what it holds.
struct Story {
    world: World,
    kernel: Tested,
    held: Observed,
}

impl Story {
    async fn new() -> Self {
        let (world, mut kernel) = World::new().await;
        let held = kernel.read().await.unwrap();
        Self {
            world,
            kernel,
            held,
        }
    }

    /// Moves to a target while answers are lost, and reads the kernel at the end.
    async fn go(
        &mut self,
        target: &Observed,
        faults: impl IntoIterator<Item = (usize, Fault)>,
    ) -> Result<(), TestCaseError> {
        self.world.script(faults);
        for round in 0.. {
            let ops = difference(&self.held, target);
            if ops.is_empty() {
                break;
            }
            let applied = apply(&mut self.kernel, &mut self.held, &ops).await;
            claims_no_more(&self.held, &self.world.truth())?;
            if applied.unknown {
                self.held = read(&mut self.kernel, &self.world).await?;
            } else if applied.errors.is_empty() {
                prop_assert_eq!(&self.held, target);
            }
            prop_assert!(round < 20, "no end: {:?}", applied);
        }
        prop_assert_eq!(&self.world.truth(), target);
        self.held = read(&mut self.kernel, &self.world).await?;
        prop_assert_eq!(&self.held, target);
        Ok(())
    }
}

fn faults() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Unheard),
        Just(Fault::Lost),
        Just(Fault::Overrun),
        Just(Fault::Twice),
        Just(Fault::Late),
        Just(Fault::Swapped),
        (0usize..40).prop_map(Fault::Cut),
    ]
}

fn targets() -> impl Strategy<Value = Observed> {
    let server = (0u8..6, 0u8..64);
    let servers = [server.clone(), server.clone(), server];
    (0u8..16, servers, [0u8..4, 0u8..16, 0u8..6, 0u8..4])
        .prop_map(|(addresses, servers, elements)| target(addresses, servers, elements))
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn whatever_answers_are_lost_the_record_claims_what_the_kernel_holds_and_both_reach_the_target(
        steps in prop::collection::vec((targets(), prop::collection::vec((0usize..150, faults()), 0..12)), 1..6),
    ) {
        run(async {
            let mut story = Story::new().await;
            for (target, faults) in steps {
                story.go(&target, faults).await?;
            }
            Ok::<_, TestCaseError>(())
        })?;
    }
}

#[test]
fn one_fault_at_any_position_is_survived() {
    let everything = target(
        15,
        [(1, 0b11_10_01), (4, 0b01_10_11), (2, 0b10_10_10)],
        [3, 9, 5, 3],
    );
    let changed = target(5, [(2, 0b01_11_10), (0, 0), (1, 0b10_00_10)], [1, 6, 4, 2]);
    let all = [
        Fault::Unheard,
        Fault::Lost,
        Fault::Overrun,
        Fault::Swapped,
        Fault::Cut(0),
        Fault::Cut(18),
    ];
    run(async {
        let mut story = Story::new().await;
        for fault in all {
            for at in 0..100 {
                for target in [&everything, &changed] {
                    let result = story.go(target, [(at, fault)]).await;
                    assert!(result.is_ok(), "{fault:?} at {at}: {result:?}");
                }
            }
        }
    });
}

#[test]
fn the_table_is_prepared_once_whatever_answers_are_lost() {
    let rules: usize = table().chains.iter().map(|c| c.rules.len()).sum();
    run(async {
        for fault in [Fault::Unheard, Fault::Lost, Fault::Overrun, Fault::Cut(9)] {
            for at in 0..6 {
                let (world, mut kernel) = World::new().await;
                *world.nft.lock().unwrap() = FakeTables::default();
                world.script([(at, fault)]);
                kernel.prepare().await.unwrap();
                assert_eq!(
                    world.nft.lock().unwrap().rules(),
                    rules,
                    "{fault:?} at {at}"
                );
                assert!(kernel.read().await.unwrap().rules_loaded);
            }
        }
    });
}

#[test]
fn a_lost_answer_to_a_change_costs_one_retry_and_nothing_is_unknown() {
    run(async {
        let (world, mut kernel) = World::new().await;
        let mut held = Observed::default();
        let want = target(0, [(1, 0b01_01_01), (0, 0), (0, 0)], [0; 4]);
        // The answer to the second real server.
        world.script([(2, Fault::Lost)]);
        let start = Instant::now();
        let ops = difference(&held, &target(0, [(1, 0b01_01_01), (0, 0), (0, 0)], [0; 4]));
        let applied = apply(&mut kernel, &mut held, &ops).await;
        assert_eq!(applied, Default::default());
        assert_eq!(held.servers, want.servers);
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
    });
}

#[test]
fn what_is_behind_an_operation_without_an_answer_is_not_sent_and_not_taken_for_done() {
    run(async {
        let (world, mut kernel) = World::new().await;
        let real = |port| {
            Op::SetRealServer(
                VirtualServerId::Fwmark {
                    mark: 9,
                    family: Family::V4,
                },
                RealServer {
                    addr: SocketAddr::new(ip("10.244.0.1"), port),
                    weight: 1,
                    forwarding: Forwarding::Masq,
                },
            )
        };
        let server = VirtualServer {
            id: VirtualServerId::Fwmark {
                mark: 9,
                family: Family::V4,
            },
            scheduler: "rr".to_owned(),
            sched_flags: 0,
            persistence: None,
        };
        let mut ops = vec![Op::SetVirtualServer(server)];
        ops.extend((1..=200).map(real));
        ops.push(Op::AddAddress(ip("10.96.0.1")));
        // The complete second datagram, twice.
        world.script([(64, Fault::Unheard), (65, Fault::Unheard)]);
        let failed = kernel.apply(&ops).await;
        let (unanswered, unsent): (Vec<_>, Vec<_>) =
            failed.iter().partition(|(_, e)| e.is_unanswered());
        let indices =
            |list: &[&(usize, KernelError)]| list.iter().map(|(i, _)| *i).collect::<Vec<_>>();
        assert_eq!(indices(&unanswered), (64..128).collect::<Vec<_>>());
        assert_eq!(indices(&unsent), (128..ops.len()).collect::<Vec<_>>());
        assert!(
            unsent
                .iter()
                .all(|(_, e)| matches!(e, KernelError::Unsent { .. }))
        );
        let (_, reals) = world.truth().servers.into_values().next().unwrap();
        assert_eq!(reals.len(), 63);
        assert!(world.truth().addresses.is_empty());
    });
}

#[test]
fn a_kernel_that_never_answers_is_given_up_within_a_few_seconds() {
    run(async {
        let (world, mut kernel) = World::new().await;
        kernel.0.ipvs = {
            let ready = IpVs::over(channel(world.ipvs.clone(), &world.faults))
                .await
                .unwrap();
            ready.with_socket(FaultySocket::new(
                Arc::new(Mutex::new(Mute)),
                world.faults.clone(),
            ))
        };
        let want = target(15, [(1, 0b01_01_01), (1, 1), (1, 1)], [3, 9, 5, 3]);
        let start = Instant::now();
        let ops = difference(&Observed::default(), &want);
        let failed = kernel.apply(&ops).await;
        assert_eq!(failed.len(), ops.len());
        assert!(kernel.read().await.is_err());
        let id = want.servers.keys().next().copied().unwrap();
        assert!(kernel.damage(Some(&id)).await.is_err());
        assert!(
            start.elapsed() <= Duration::from_secs(6),
            "{:?}",
            start.elapsed()
        );
    });
}

#[test]
fn a_glance_finds_nothing_amiss_where_all_is_there_and_what_is_gone() {
    run(async {
        let mut story = Story::new().await;
        let want = target(15, [(1, 0b01_01_01), (1, 1), (1, 1)], [3, 9, 5, 3]);
        story.go(&want, []).await.unwrap();
        for id in want.servers.keys() {
            assert_eq!(story.kernel.damage(Some(id)).await.unwrap(), None, "{id:?}");
        }
        let id = want.servers.keys().next().unwrap();
        story.world.links.lock().unwrap().routes.clear();
        let seen = story.kernel.damage(Some(id)).await.unwrap();
        assert_eq!(seen, Some(Damage::Server));
    });
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_that_the_kernel_lacks_is_one_error_that_names_it() {
    let (world, mut kernel) = World::new().await;
    world.ipvs.lock().unwrap().lacks = vec!["sed"];
    let server = |n: u16, scheduler: &str| VirtualServer {
        id: VirtualServerId::Address {
            addr: ip("10.96.0.1"),
            port: n,
            protocol: Protocol::Tcp,
        },
        scheduler: scheduler.to_owned(),
        sched_flags: 0,
        persistence: None,
    };
    let real = RealServer {
        addr: "10.244.0.7:80".parse().unwrap(),
        weight: 1,
        forwarding: Forwarding::Masq,
    };
    let mut ops = Vec::new();
    for server in [server(1, "sed"), server(2, "sed"), server(3, "rr")] {
        let id = server.id;
        ops.extend([Op::SetVirtualServer(server), Op::SetRealServer(id, real)]);
    }
    let mut held = kernel.read().await.unwrap();
    let applied = apply(&mut kernel, &mut held, &ops).await;
    assert_eq!(applied.errors, Vec::<String>::new());
    let text = "the kernel has no IPVS scheduler sed: load it with `modprobe ip_vs_sed`, or name another one in ipvs.scheduler of the \
                KubeProxyConfiguration; Services are not served until then";
    assert_eq!(applied.lacking, [("sed", text.to_owned())].into());
    assert_eq!(held.servers.len(), 1);
    assert_eq!(held.servers, world.truth().servers);
}
