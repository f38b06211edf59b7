//! At no point within a batch does a packet reach a host socket, an endpoint that is in neither the old nor the new state, or an
//! endpoint whose replies would bypass the node. It may be refused.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ferrolb_api::change::Change;
use ferrolb_api::object::Kind;
use ferrolb_api::view::{Protocol, Service, TrafficPolicy};

use crate::diff::diff;
use crate::kernel::Op;
use crate::kernel::memory::{Memory, Outcome, Source};
use crate::lower::Touched;
use crate::testing::{World, balanced, ip, served, service};

const VIP: &str = "198.51.100.8";

/// Every outcome that a new connection from each source may have.
fn outcomes(kernel: &Memory, world: &World) -> BTreeSet<(&'static str, Outcome)> {
    let mut seen = BTreeSet::new();
    for source in ["client", "A", "a1", "a2"] {
        // A copy, because the check must not create flows.
        let mut copy = World::clone(world);
        copy.kernel = kernel.clone();
        for _ in 0..4 {
            let source_ip: IpAddr = ip(source);
            let to = SocketAddr::new(ip(VIP), 80);
            seen.insert((source, copy.send(source_ip, to, Protocol::Tcp)));
        }
    }
    seen
}

/// Applies a batch one operation at a time (a transaction of elements at once) and checks in between.
fn watch(world: &mut World, changes: Vec<Change>) {
    let touched: Touched = world.decide(changes);
    let ops = diff(&world.held, &world.desired, &touched);
    let before = outcomes(&world.kernel, world);
    let mut kernel = world.kernel.clone();
    assert!(kernel.apply(&ops).is_empty());
    let after = outcomes(&kernel, world);
    let allowed: BTreeSet<_> = before.union(&after).collect();
    let to = |(_, outcome): &&(&str, Outcome)| match outcome {
        Outcome::Delivered(to, _) => Some(*to),
        _ => None,
    };
    let endpoints: BTreeSet<SocketAddr> = allowed.iter().filter_map(to).collect();
    let element = |op: &Op| matches!(op, Op::AddElement(..) | Op::DelElement(..));
    let mut kernel = world.kernel.clone();
    for step in ops.chunk_by(|a, b| element(a) && element(b)) {
        assert!(kernel.apply(step).is_empty());
        for seen in outcomes(&kernel, world) {
            let harmless = match seen.1 {
                Outcome::Reset | Outcome::RefusedByIpvs | Outcome::Dropped => true,
                Outcome::Delivered(to, Source::Masqueraded) => endpoints.contains(&to),
                Outcome::Delivered(to, Source::Kept) => {
                    let far = ip("b1") == to.ip() || ip("b2") == to.ip();
                    let answers = ip(seen.0) != to.ip() && !(seen.0 == "client" && far);
                    endpoints.contains(&to) && answers
                }
                _ => false,
            };
            assert!(
                harmless || allowed.contains(&seen),
                "{seen:?} after {step:?} of {ops:#?}"
            );
        }
    }
    world.put(&touched);
}

fn subject(policy: TrafficPolicy) -> Service {
    let mut s = balanced(service("web"), VIP);
    s.external_policy = policy;
    s
}

#[test]
fn changing_between_policies_and_endpoints_never_misleads_a_packet() {
    let states: [(TrafficPolicy, &[&str]); 8] = [
        (TrafficPolicy::Cluster, &["a1", "b1"]),
        (TrafficPolicy::Cluster, &["b1", "b2"]),
        (TrafficPolicy::Cluster, &["a1"]),
        (TrafficPolicy::Cluster, &[]),
        (TrafficPolicy::Local, &["a1", "b1"]),
        (TrafficPolicy::Local, &["b1", "b2"]),
        (TrafficPolicy::Local, &["a2"]),
        (TrafficPolicy::Local, &[]),
    ];
    for (from, old) in states {
        for (to, new) in states {
            let mut world = World::on("A");
            watch(&mut world, served(&subject(from), old));
            watch(&mut world, served(&subject(to), new));
            watch(
                &mut world,
                vec![Change::Remove(Kind::Service, subject(to).key)],
            );
        }
    }
}

#[test]
fn an_address_that_moves_to_another_service_is_served_by_one_of_them() {
    let mut world = World::on("A");
    let old = subject(TrafficPolicy::Local);
    watch(&mut world, served(&old, &["a1", "b1"]));
    let mut new = subject(TrafficPolicy::Cluster);
    new.key = ferrolb_api::ObjectKey::new("default", "new");
    let mut changes = served(&new, &["a2", "b2"]);
    changes.push(Change::Remove(Kind::Service, old.key));
    watch(&mut world, changes);
}
