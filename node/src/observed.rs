//! A cluster's API as the authority: what it shows is what counts, and nothing is decided here.
//!
//! Why a Service has no address is for the controller to say; so that the status of a node can say it too, the same pure function
//! is asked, when somebody asks the node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::{Batch, Change};
use ferrolb_api::endpoints::EndpointIndex;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::problem::Problem;
use ferrolb_api::reason::Reason;
use ferrolb_api::view::Service;
use ferrolb_api::view::service::Balancer;
use ferrolb_controller::cluster::adopt;
use ferrolb_controller::state::{Settings, State};
use ferrolb_controller::{Outcome, desired};
use tracing::{info, warn};

use crate::agreement::machine::View;
use crate::agreement::table::Name;
use crate::authority::{Authority, Effects, Standing};

/// What the API shows.
pub struct Observed {
    state: State,
    endpoints: EndpointIndex,
    problems: Vec<Problem>,
    /// Name of this node; empty for one who only asks.
    me: String,
    /// The uid of its Node object. One that is gone is kept until there is another one: objects that it owns go with it.
    node_uid: Option<String>,
}

impl Observed {
    /// Nothing seen yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            state: State::new(settings),
            endpoints: EndpointIndex::default(),
            problems: Vec::new(),
            me: String::new(),
            node_uid: None,
        }
    }

    /// The same, seen on this node.
    pub fn on(mut self, me: &str) -> Self {
        me.clone_into(&mut self.me);
        self
    }

    /// What a controller would decide for those that have no address.
    fn outcomes(&self) -> BTreeMap<ObjectKey, Outcome> {
        let settings = self.state.settings();
        let lacks = |s: &Arc<Service>| {
            s.balancer(settings.class.as_deref()) == Balancer::Ours && s.ingress.is_empty()
        };
        if !self.state.services().values().any(lacks) {
            return BTreeMap::new();
        }
        let services = self.state.services().values().map(AsRef::as_ref);
        let existing = adopt(services, settings.class.as_deref());
        desired(&self.state, &existing).outcomes
    }

    fn standing(&self, service: &Arc<Service>, outcome: Option<&Outcome>) -> Standing {
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
            self.tell(problems);
        }
        let before = self.state.problems().to_vec();
        self.state.apply_all(&batch.changes);
        // Nothing is decided here, so nothing has to be decided again.
        self.state.take_dirty();
        for problem in self.state.problems().iter().filter(|p| !before.contains(p)) {
            warn!("{problem}");
        }
        for change in &batch.changes {
            match change {
                Change::Upsert(Object::EndpointSlice(slice)) => {
                    self.endpoints.upsert(Arc::clone(slice));
                }
                Change::Remove(Kind::EndpointSlice, key) => {
                    self.endpoints.remove(key);
                }
                Change::Upsert(Object::Node(node)) if node.name == self.me => {
                    let uid = Some(&node.uid).filter(|uid| !uid.is_empty());
                    self.node_uid = uid.cloned();
                }
                _ => {}
            }
        }
        Effects {
            speaker: batch.changes.clone(),
            proxy: Some(batch.changes),
            send: Vec::new(),
        }
    }

    fn view(&mut self, _view: View, _now: Instant) -> Effects {
        Effects::default()
    }

    fn received(&mut self, _from: Name, _bytes: Vec<u8>, _now: Instant) -> Effects {
        Effects::default()
    }

    fn tick(&mut self, _now: Instant) -> Effects {
        Effects::default()
    }

    fn uid(&self, service: &ObjectKey) -> String {
        let found = self.state.services().get(service);
        found.map(|s| s.uid.clone()).unwrap_or_default()
    }

    fn node_uid(&self) -> Option<&str> {
        self.node_uid.as_deref()
    }

    fn endpoints(&self) -> &EndpointIndex {
        &self.endpoints
    }

    fn standings(&self) -> BTreeMap<ObjectKey, Standing> {
        let outcomes = self.outcomes();
        let services = self.state.services().iter();
        let standing = |(key, service): (&ObjectKey, &Arc<Service>)| {
            (key.clone(), self.standing(service, outcomes.get(key)))
        };
        services.map(standing).collect()
    }

    fn problems(&self) -> Vec<Problem> {
        let of_pools = self.state.problems().iter();
        self.problems.iter().chain(of_pools).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
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

    fn shown(documents: &[&str]) -> (Effects, BTreeMap<ObjectKey, Standing>) {
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
        (effects, observed.standings())
    }

    fn of<'a>(standings: &'a BTreeMap<ObjectKey, Standing>, name: &str) -> &'a Standing {
        &standings[&ObjectKey::new("default", name)]
    }

    #[test]
    fn the_first_batch_goes_to_both_daemons_as_it_is_even_without_any_object() {
        let (effects, _) = shown(&[POOL, &service("web", "", GIVEN)]);
        assert_eq!(effects.speaker.len(), 2);
        assert_eq!(effects.proxy, Some(effects.speaker));
        assert_eq!(shown(&[]).0.proxy, Some(Vec::new()));
    }

    #[test]
    fn an_address_is_shown_with_the_pool_that_has_it() {
        let (_, standings) = shown(&[POOL, &service("web", "", GIVEN)]);
        let web = of(&standings, "web");
        assert_eq!(
            (web.reason, web.pool.as_deref()),
            (Reason::Allocated, Some("default"))
        );
    }

    #[test]
    fn a_service_without_address_says_why_or_that_nobody_gives_it_one() {
        let (_, standings) = shown(&[POOL, &service("web", "", "{}")]);
        let web = of(&standings, "web");
        assert_eq!(web.reason, Reason::NotSettled);
        assert!(web.message.contains("ferrolb controller"));
        let (_, standings) = shown(&[POOL, &service("web", "", GIVEN), &service("late", "", "{}")]);
        assert_eq!(of(&standings, "late").reason, Reason::PoolExhausted);
        assert!(!of(&standings, "late").message.is_empty());
    }

    #[test]
    fn a_service_of_another_class_is_another_load_balancers() {
        let other = service("web", "  loadBalancerClass: other/lb\n", "{}");
        let (_, standings) = shown(&[POOL, &other]);
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
            Change::Upsert(Object::Node(ferrolb_api::view::Node {
                name: name.into(),
                uid: uid.into(),
                ..Default::default()
            }))
        };
        assert_eq!(see(node("b", "9")), None);
        assert_eq!(see(node("a", "1")).as_deref(), Some("1"));
        let gone = Change::Remove(Kind::Node, ObjectKey::new("", "a"));
        assert_eq!(see(gone).as_deref(), Some("1"));
        assert_eq!(see(node("a", "2")).as_deref(), Some("2"));
    }
}
