//! The authority in a cluster: what the cluster's API shows counts, and nothing is decided here.
//!
//! It is the controller's job to report why a Service has no address. So that a node's status can explain it too, this module
//! runs the same allocator on what the API shows. For Services that show no address, the allocator guesses what the controller
//! will give them. What the API shows always takes precedence over a guess.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::{Batch, Change};
use ferrolb_api::delta::Delta;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::ownership::Owner;
use ferrolb_api::problem::Problem;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::Service;
use ferrolb_api::view::service::Balancer;
use ferrolb_controller::Outcome;
use ferrolb_controller::allocator::Allocator;
use ferrolb_controller::assignment::{Assignment, Assignments};
use ferrolb_controller::cluster::{lease, shown};
use ferrolb_controller::state::{Settings, State};
use ferrolb_speaker::snapshot::Address;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::agreement::machine::View;
use crate::agreement::table::Name;
use crate::authority::{Authority, Effects, Standing};
use crate::found::Found;

/// What the API shows.
pub struct Observed {
    state: State,
    /// What the API shows, and guesses for the Services that show nothing yet.
    allocator: Allocator,
    /// Services whose standing may have changed.
    touched: BTreeSet<ObjectKey>,
    problems: Vec<Problem>,
    /// The name of this node; empty for a client that only asks.
    me: String,
    /// The uid of this node's Node object. If that object is gone, the uid is kept until there is a new one: objects that the old
    /// one owns are deleted with it.
    node_uid: Option<String>,
    found: Found,
    /// Whether this node has settled and hears more than half of the members, itself included.
    hears_most: bool,
    /// Tells the controller what was found.
    tell: watch::Sender<lease::Found>,
}

impl Observed {
    /// Nothing has been seen yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            state: State::new(settings),
            allocator: Allocator::new(Assignments::new()),
            touched: BTreeSet::new(),
            problems: Vec::new(),
            me: String::new(),
            node_uid: None,
            found: Found::default(),
            hears_most: false,
            tell: watch::Sender::default(),
        }
    }

    /// The same, as seen on this node.
    pub fn on(mut self, me: &str) -> Self {
        me.clone_into(&mut self.me);
        self
    }

    /// The same, where the controller learns which addresses belong to somebody else.
    pub fn telling(mut self, tell: watch::Sender<lease::Found>) -> Self {
        self.tell = tell;
        self
    }

    /// Passes on which addresses belong to somebody else. A node that does not hear most of the members may take another one for a
    /// host, so what it finds meanwhile is not passed on.
    fn find(&mut self, now: Instant) {
        if !self.hears_most {
            return;
        }
        let told = self.tell.borrow();
        let found = |sure: (IpAddr, &Owner)| told.get(&sure.0) == Some(sure.1);
        if self.found.sure(now).count() == told.len() && self.found.sure(now).all(found) {
            return;
        }
        drop(told);
        let sure = self.found.sure(now);
        let new: lease::Found = sure.map(|(addr, owner)| (addr, owner.clone())).collect();
        let before = self.state.problems().to_vec();
        let old = self.tell.send_replace(new.clone());
        for addr in old.keys().filter(|addr| !new.contains_key(*addr)) {
            self.state.set_found(*addr, None);
        }
        for (addr, owner) in new {
            self.state.set_found(addr, Some(owner));
        }
        self.follow(&[]);
        self.warn_of_pools(&before);
    }

    /// Logs what is wrong with the pools now and was not before.
    fn warn_of_pools(&self, before: &[Problem]) {
        for problem in self.state.problems().iter().filter(|p| !before.contains(p)) {
            warn!("{problem}");
        }
    }

    /// Takes in what the API shows of Services. Decides again for affected Services that show no address.
    fn follow(&mut self, changes: &[Change]) {
        let services = |change: &Change| match change {
            Change::Upsert(Object::Service(service)) => Some(service.key.clone()),
            Change::Remove(Kind::Service, key) => Some(key.clone()),
            _ => None,
        };
        let keys: BTreeSet<ObjectKey> = changes.iter().filter_map(services).collect();
        let before: Vec<(ObjectKey, bool)> = keys
            .into_iter()
            .map(|key| {
                let gave = self.given(&key).is_some();
                (key, gave)
            })
            .collect();
        self.state.apply_all(changes);
        let mut dirty = self.state.take_dirty();
        for (key, gave) in before {
            let given = self.given(&key);
            // A guess stays until the API shows something.
            if given.is_some() || gave {
                for other in self.allocator.observe(&key, given) {
                    if self.given(&other).is_none() && self.state.services().contains_key(&other) {
                        self.allocator.observe(&other, None);
                        dirty.services.insert(other);
                    }
                }
            }
            self.touched.insert(key);
        }
        if dirty.all {
            // The pool of any address may have changed.
            self.touched.extend(self.state.services().keys().cloned());
        }
        self.touched
            .extend(self.allocator.decide(&self.state, &dirty));
    }

    /// What the API shows as given to a Service, if the controller is responsible for the Service.
    fn given(&self, key: &ObjectKey) -> Option<Assignment> {
        let service = self.state.services().get(key)?;
        shown(service, self.state.settings().class.as_deref())
    }

    fn explain(&self, service: &Arc<Service>, outcome: Option<&Outcome>) -> Standing {
        let pools = self.state.pools();
        let pool = service.vips().find_map(|ip| pools.containing(ip));
        let balancer = service.balancer(self.state.settings().class.as_deref());
        let (reason, message) = match outcome {
            _ if balancer == Balancer::None => (Reason::NotLoadBalancer, String::new()),
            _ if balancer == Balancer::Other => (Reason::OtherClass, String::new()),
            _ if !service.ingress.is_empty() => (Reason::Allocated, String::new()),
            Some(outcome) if outcome.is_problem() => (outcome.reason, outcome.message.clone()),
            _ => (
                Reason::NotSettled,
                "the controller has not given it an address yet: is `ferrolb controller` running?"
                    .to_owned(),
            ),
        };
        Standing {
            service: Arc::clone(service),
            pool: pool.map(|p| p.key.name.clone()),
            reason,
            message,
        }
    }

    fn tell(&mut self, problems: Vec<Problem>) {
        for problem in problems.iter().filter(|p| !self.problems.contains(p)) {
            warn!("{problem}");
        }
        for problem in self.problems.iter().filter(|p| !problems.contains(p)) {
            info!("resolved: {problem}");
        }
        self.problems = problems;
    }
}

impl Authority for Observed {
    fn source(&mut self, batch: Batch, _now: Instant) -> Effects {
        if let Some(problems) = batch.problems {
            self.state.set_unreadable(&problems);
            self.tell(problems);
        }
        let before = self.state.problems().to_vec();
        self.follow(&batch.changes);
        self.warn_of_pools(&before);
        for change in &batch.changes {
            if let Change::Upsert(Object::Node(node)) = change
                && node.name == self.me
            {
                let uid = Some(&node.uid).filter(|uid| !uid.is_empty());
                self.node_uid = uid.cloned();
            }
        }
        Effects {
            speaker: batch.changes.clone(),
            proxy: Some(batch.changes),
            send: Vec::new(),
        }
    }

    fn view(&mut self, view: View, _now: Instant) -> Effects {
        let others = view.live.iter().filter(|name| ***name != *self.me).count();
        self.hears_most = view.placer.is_some() && 2 * (others + 1) > view.known;
        Effects::default()
    }

    fn received(&mut self, _from: Name, _bytes: Vec<u8>, _now: Instant) -> Effects {
        Effects::default()
    }

    fn addresses(&mut self, changes: &Delta<IpAddr, Arc<Address>>, now: Instant) -> Effects {
        self.found.hear(changes, now);
        Effects::default()
    }

    fn tick(&mut self, now: Instant) -> Effects {
        self.found.forget(now);
        self.find(now);
        Effects::default()
    }

    fn node_uid(&self) -> Option<&str> {
        self.node_uid.as_deref()
    }

    fn standing(&self, service: &ObjectKey) -> Option<Standing> {
        let outcome = self.allocator.outcomes().get(service);
        let service = self.state.services().get(service)?;
        Some(self.explain(service, outcome))
    }

    fn touched(&mut self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut self.touched)
    }

    fn problems(&self) -> Vec<Problem> {
        let of_pools = self.state.problems().iter();
        self.problems.iter().chain(of_pools).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::BTreeMap;

    use ferrolb_api::ownership::neighbour::LinkAddress;

    use super::*;

    const POOL: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: default, namespace: metallb-system}
spec: {addresses: [172.17.255.1-172.17.255.1]}
";

    fn service(name: &str, more: &str, status: &str) -> String {
        let inside = format!("10.96.0.{}", name.len());
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  type: LoadBalancer\n  \
             clusterIP: {inside}\n{more}  ports: [{{port: 80}}]\nstatus:\n  loadBalancer: {status}\n"
        )
    }

    const GIVEN: &str = "{ingress: [{ip: 172.17.255.1, ipMode: VIP}]}";

    fn see(documents: &[&str]) -> (Effects, BTreeMap<ObjectKey, Standing>) {
        let text = documents.join("---\n");
        let read = ferrolb_source::files::document::read("test.yaml", "default", &text);
        assert!(read.problems.is_empty(), "{:?}", read.problems);
        let objects = read.objects.into_iter();
        let batch = Batch {
            changes: objects.map(|o| Change::Upsert(o.object)).collect(),
            ..Batch::default()
        };
        let mut observed = Observed::new(Settings::default());
        let effects = observed.source(batch, Instant::now());
        (effects, standings(&mut observed))
    }

    /// Every Service whose standing may have changed.
    fn standings(observed: &mut Observed) -> BTreeMap<ObjectKey, Standing> {
        let touched = observed.touched().into_iter();
        touched
            .filter_map(|key| Some((key.clone(), observed.standing(&key)?)))
            .collect()
    }

    fn of<'a>(standings: &'a BTreeMap<ObjectKey, Standing>, name: &str) -> &'a Standing {
        &standings[&ObjectKey::new("default", name)]
    }

    #[test]
    fn the_first_batch_goes_to_both_daemons_as_it_is_even_without_any_object() {
        let (effects, _) = see(&[POOL, &service("web", "", GIVEN)]);
        assert_eq!(effects.speaker.len(), 2);
        assert_eq!(effects.proxy, Some(effects.speaker));
        assert_eq!(see(&[]).0.proxy, Some(Vec::new()));
    }

    #[test]
    fn an_address_is_shown_with_the_pool_that_has_it() {
        let (_, standings) = see(&[POOL, &service("web", "", GIVEN)]);
        let web = of(&standings, "web");
        assert_eq!(
            (web.reason, web.pool.as_deref()),
            (Reason::Allocated, Some("default"))
        );
    }

    #[test]
    fn a_service_without_address_says_why_or_that_nobody_gives_it_one() {
        let (_, standings) = see(&[POOL, &service("web", "", "{}")]);
        let web = of(&standings, "web");
        assert_eq!(web.reason, Reason::NotSettled);
        assert!(web.message.contains("ferrolb controller"));
        let (_, standings) = see(&[POOL, &service("web", "", GIVEN), &service("late", "", "{}")]);
        assert_eq!(of(&standings, "late").reason, Reason::PoolExhausted);
        assert!(!of(&standings, "late").message.is_empty());
    }

    fn source(observed: &mut Observed, documents: &[String]) {
        let text = documents.join("---\n");
        let read = ferrolb_source::files::document::read("test.yaml", "default", &text);
        let changes = read.objects.into_iter();
        let batch = Batch {
            changes: changes.map(|o| Change::Upsert(o.object)).collect(),
            ..Batch::default()
        };
        observed.source(batch, Instant::now());
    }

    fn reason(observed: &Observed, name: &str) -> Reason {
        let standing = observed.standing(&ObjectKey::new("default", name));
        standing.unwrap().reason
    }

    #[test]
    fn what_the_api_shows_wins_over_a_guess() {
        let mut observed = Observed::new(Settings::default());
        source(&mut observed, &[POOL.into(), service("first", "", "{}")]);
        // The controller is expected to give it the only address.
        assert_eq!(reason(&observed, "first"), Reason::NotSettled);
        source(&mut observed, &[service("another", "", GIVEN)]);
        let touched = observed.touched();
        assert!(touched.contains(&ObjectKey::new("default", "first")));
        assert_eq!(reason(&observed, "another"), Reason::Allocated);
        assert_eq!(reason(&observed, "first"), Reason::PoolExhausted);
    }

    #[test]
    fn the_controller_learns_what_the_speaker_found_and_the_guess_agrees() {
        let tell = watch::Sender::default();
        let told = tell.subscribe();
        let mut observed = Observed::new(Settings::default()).on("a").telling(tell);
        source(&mut observed, &[POOL.into(), service("web", "", GIVEN)]);
        observed.touched();
        let addr = IpAddr::from([172, 17, 255, 1]);
        let host = Owner::Host(LinkAddress(vec![2, 0, 0, 0, 0, 9]));
        let now = Instant::now();
        let view = |live: &[&str]| View {
            placer: Some("a".into()),
            known: 3,
            live: live.iter().map(|name| Name::from(*name)).collect(),
        };
        let later = now + std::time::Duration::from_secs(5);
        observed.addresses(&Delta::from([(addr, Some(address(addr, &host)))]), now);
        observed.tick(now);
        observed.view(view(&["a"]), now);
        observed.tick(later);
        assert!(told.borrow().is_empty(), "it hears nobody");
        observed.view(view(&["a", "b"]), now);
        observed.tick(later);
        assert_eq!(*told.borrow(), lease::Found::from([(addr, host)]));
        assert!(observed.problems()[0].to_string().contains("the host 02:"));
        source(&mut observed, &[service("late", "", "{}")]);
        assert_eq!(reason(&observed, "late"), Reason::PoolExhausted);
        // Nobody asks for the address any more, and after a while it may be given again.
        observed.addresses(&Delta::from([(addr, None)]), now);
        observed.tick(now + std::time::Duration::from_secs(3600));
        assert_eq!(*told.borrow(), lease::Found::new());
        assert_eq!(observed.problems(), []);
    }

    fn address(addr: IpAddr, owner: &Owner) -> Arc<Address> {
        Arc::new(Address {
            address: addr,
            owner: None,
            interfaces: Vec::new(),
            reason: Reason::AddressOwned,
            owned: Some(owner.clone()),
            advertised: Default::default(),
            conflict: None,
        })
    }

    #[test]
    fn an_address_that_is_free_again_is_expected_for_one_that_waits() {
        let mut observed = Observed::new(Settings::default());
        let both = [
            POOL.into(),
            service("web", "", GIVEN),
            service("late", "", "{}"),
        ];
        source(&mut observed, &both);
        assert_eq!(reason(&observed, "late"), Reason::PoolExhausted);
        observed.touched();
        // It is now a Service without a load balancer.
        let plain = service("web", "", "{}").replace("LoadBalancer", "ClusterIP");
        source(&mut observed, &[plain]);
        let late = ObjectKey::new("default", "late");
        assert!(observed.touched().contains(&late));
        assert_eq!(reason(&observed, "late"), Reason::NotSettled);
        source(&mut observed, &[service("web", "", GIVEN)]);
        assert_eq!(reason(&observed, "late"), Reason::PoolExhausted);
        let gone = Change::Remove(Kind::Service, ObjectKey::new("default", "web"));
        let batch = Batch {
            changes: vec![gone],
            ..Batch::default()
        };
        observed.source(batch, Instant::now());
        assert_eq!(reason(&observed, "late"), Reason::NotSettled);
    }

    #[test]
    fn a_change_of_one_service_touches_no_other_however_many_wait() {
        let mut observed = Observed::new(Settings::default());
        let mut all = vec![POOL.into(), service("web", "", GIVEN)];
        all.extend((0..50).map(|n| service(&format!("waits-{n}"), "", "{}")));
        source(&mut observed, &all);
        observed.touched();
        let more = service("web", "  externalTrafficPolicy: Local\n", GIVEN);
        source(&mut observed, &[more]);
        let web = ObjectKey::new("default", "web");
        assert_eq!(observed.touched(), BTreeSet::from([web]));
        assert!(observed.touched().is_empty());
    }

    #[test]
    fn a_service_of_another_class_is_another_load_balancers() {
        let other = service("web", "  loadBalancerClass: other/lb\n", "{}");
        let (_, standings) = see(&[POOL, &other]);
        assert_eq!(of(&standings, "web").reason, Reason::OtherClass);
    }

    #[test]
    fn the_uid_of_a_node_follows_its_node_object_and_no_other() {
        let mut observed = Observed::new(Settings::default()).on("a");
        let mut see = |change: Change| {
            let changes = vec![change];
            let batch = Batch {
                changes,
                ..Batch::default()
            };
            observed.source(batch, Instant::now());
            observed.node_uid().map(str::to_owned)
        };
        let node = |name: &str, uid: &str| {
            Change::Upsert(Object::Node(
                ferrolb_api::view::Node {
                    name: name.into(),
                    uid: uid.into(),
                    ..Default::default()
                }
                .into(),
            ))
        };
        assert_eq!(see(node("b", "9")), None);
        assert_eq!(see(node("a", "1")).as_deref(), Some("1"));
        let gone = Change::Remove(Kind::Node, ObjectKey::new("", "a"));
        assert_eq!(see(gone).as_deref(), Some("1"));
        assert_eq!(see(node("a", "2")).as_deref(), Some("2"));
    }
}
