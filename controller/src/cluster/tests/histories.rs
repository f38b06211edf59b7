//! Whatever happens and whichever writes fail, once everything settles the Services show the result of a full pass, and a
//! controller that starts then has nothing to do.

use std::time::{Duration, Instant};

use ferrolb_api::change::Change;
use ferrolb_api::reason::Reason;
use ferrolb_api::refusal::Refusal;
use ferrolb_api::view::service::DualStack;
use ferrolb_api::view::{Protocol, Service};
use proptest::prelude::*;

use super::super::core::Core;
use super::super::diff;
use super::super::event::{Event, EventKind};
use super::world::{Server, batch};
use crate::desired::desired;
use crate::state::Settings;
use crate::testing::*;

#[derive(Debug, Clone)]
enum Step {
    Apply(Box<Service>),
    Delete(u8),
    Pools(Box<Change>),
    /// The watch delivers what it has not delivered yet.
    Watch,
    /// A write begins.
    Begin,
    /// The oldest write ends, successfully or not.
    End(bool),
    Pass(u64),
}

fn name(i: u8) -> String {
    format!("a/s{i}")
}

fn one_service() -> impl Strategy<Value = Step> {
    (0u8..6, 0u8..9, 1u8..7, 0u8..3, any::<bool>()).prop_map(|(i, ask, last, share, udp)| {
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        let mut b = service(&name(i)).port(protocol, 80);
        b = b.cluster_ip(&match ask {
            0 => format!("10.96.0.{i},fd00::{i}"),
            _ => format!("10.96.0.{i}"),
        });
        b = match ask {
            0 => b.dual(DualStack::Prefer),
            1 | 2 => b.asks(&format!("10.0.0.{last}")),
            3 => b.pool("b"),
            4 => b.cluster_only(),
            5 => b.class("other"),
            6 => b.asks("1::9"),
            _ => b,
        };
        if share == 0 {
            b = b.shares("k");
        }
        Step::Apply(Box::new(b.build()))
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pools = prop_oneof![
        (1u8..3, 3u8..5).prop_map(|(a, b)| put_pool(pool("a", &format!("10.0.0.{a}-10.0.0.{b}")))),
        (4u8..6, 5u8..7)
            .prop_map(|(a, b)| put_pool(pool("b", &format!("10.0.0.{a}-10.0.0.{b},1::1-1::2")))),
        Just(drop_pool("a")),
        Just(drop_pool("b")),
    ];
    let step = prop_oneof![
        6 => one_service(),
        2 => (0u8..6).prop_map(Step::Delete),
        1 => pools.prop_map(|p| Step::Pools(Box::new(p))),
        6 => Just(Step::Watch),
        6 => Just(Step::Begin),
        6 => any::<bool>().prop_map(Step::End),
        2 => (1u64..90).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..60)
}

struct Run {
    server: Server,
    core: Core,
    flying: Vec<super::super::Write>,
    now: Instant,
}

impl Run {
    fn watch(&mut self) {
        let untold = std::mem::take(&mut self.server.untold);
        if !untold.is_empty() {
            self.core.batch(batch(untold), self.now);
        }
    }

    fn begin(&mut self) -> bool {
        let Some(write) = self.core.begin(self.now) else {
            return false;
        };
        let known = &self.core.state.services()[&write.key];
        let theirs = known.is_load_balancer() && known.load_balancer_class.is_some();
        assert!(!theirs, "{} is of another class", write.key);
        let twice = self.flying.iter().any(|w| w.key == write.key);
        assert!(!twice, "{} is written twice at a time", write.key);
        self.flying.push(write);
        true
    }

    fn end(&mut self, well: bool) -> bool {
        if self.flying.is_empty() {
            return false;
        }
        let write = self.flying.remove(0);
        let result = if well {
            self.server.write(&write)
        } else {
            Err(Refusal::Busy {
                said: "down".into(),
            })
        };
        self.core.done(&write.key, result, self.now, 7);
        true
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Apply(service) => self.server.apply(*service),
            Step::Delete(i) => self.server.delete(&key(&name(i))),
            Step::Pools(change) => self.server.other(*change),
            Step::Watch => self.watch(),
            Step::Begin => {
                self.begin();
            }
            Step::End(well) => {
                self.end(well);
            }
            Step::Pass(seconds) => self.now += Duration::from_secs(seconds),
        }
    }

    /// From now on everything works.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.watch();
            while self.begin() {}
            while self.end(true) {}
            self.now += Duration::from_secs(30);
        }
        assert!(self.core.queue.is_quiet());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn once_it_is_quiet_every_service_shows_what_a_full_pass_gives_it(steps in steps()) {
        let mut run = Run {
            server: Server::default(),
            core: Core::new(Settings::default()),
            flying: Vec::new(),
            now: Instant::now(),
        };
        run.server.other(put_pool(pool("a", "10.0.0.1-10.0.0.3")));
        let first = run.server.list();
        run.core.batch(first, run.now);
        for step in steps {
            run.step(step);
        }
        run.settle();
        let full = desired(&run.core.state, run.core.allocator.assignments());
        prop_assert_eq!(&full.assignments, run.core.allocator.assignments());
        for (key, service) in &run.server.services {
            prop_assert_eq!(diff(service, full.assignments.get(key), None), None);
            if service.load_balancer_class.is_none() && service.is_load_balancer() {
                let given = full.assignments.get(key).map(|a| a.addresses.clone());
                let shown: Vec<_> = service.vips().collect();
                prop_assert_eq!(shown, given.unwrap_or_default());
            }
        }
        // Once everything has settled nothing more happens, even if a controller starts.
        let before = run.server.services.clone();
        let outcomes = run.core.allocator.outcomes().clone();
        run.server.writes.clear();
        run.core = Core::new(Settings::default());
        let first = run.server.list();
        let events = run.core.batch(first, run.now);
        run.settle();
        // It reports again which Services wait for what and which pools are refused, and nothing else.
        let again = |e: &Event| matches!(e.kind, EventKind::Failed | EventKind::Pool);
        prop_assert!(events.iter().all(again), "{:?}", events);
        if run.core.state.problems().is_empty() {
            prop_assert_eq!(&run.server.writes, &vec![]);
        }
        // It cannot know which of two overlapping pools was there first. A waiting Service may now get something, but a Service
        // that has what it requests keeps it.
        for (key, service) in &before {
            if outcomes[key].reason == Reason::Allocated {
                prop_assert_eq!(run.server.services.get(key), Some(service));
            }
        }
    }
}
