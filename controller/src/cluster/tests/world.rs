//! An in-memory API server: it stores Services, accepts writes like the real one, and sends every change to the watch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ferrolb_api::ObjectKey;
use ferrolb_api::change::{Batch, Change};
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::problem::Problem;
use ferrolb_api::refusal::Refusal;
use ferrolb_api::view::{IngressAddress, Service, ServiceType};
use ferrolb_source::Source;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::super::lease::Found;
use super::super::{Event, Write, Writer, run};
use crate::state::Settings;
use crate::testing::{Builder, key};

/// What is stored, and what has happened.
#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) services: BTreeMap<ObjectKey, Service>,
    /// Pools and similar objects, as changes.
    pub(super) others: Vec<Change>,
    /// What the watch has not delivered yet.
    pub(super) untold: Vec<Change>,
    /// Writes that were attempted.
    pub(super) tried: Vec<Write>,
    /// Writes that took effect.
    pub(super) writes: Vec<Write>,
    pub(super) events: Vec<Event>,
    uids: u32,
}

impl Server {
    /// `kubectl apply`: status, uid and the controller's annotations stay.
    pub(super) fn apply(&mut self, mut service: Service) {
        if let Some(old) = self.services.get(&service.key) {
            service.uid.clone_from(&old.uid);
            service.ingress.clone_from(&old.ingress);
            service.annotations.allocated_from = old.annotations.allocated_from.clone();
        } else {
            self.uids += 1;
            service.uid = format!("u{}", self.uids);
        }
        self.store(service);
    }

    /// Stores exactly what somebody else writes, including the status.
    pub(super) fn store_as_it_is(&mut self, service: Service) {
        self.store(service);
    }

    pub(super) fn delete(&mut self, key: &ObjectKey) {
        if self.services.remove(key).is_some() {
            self.untold.push(Change::Remove(Kind::Service, key.clone()));
        }
    }

    pub(super) fn other(&mut self, change: Change) {
        self.others.push(change.clone());
        self.untold.push(change);
    }

    fn store(&mut self, service: Service) {
        if self.services.get(&service.key) != Some(&service) {
            let change = Change::Upsert(Object::Service(Arc::new(service.clone())));
            self.untold.push(change);
            self.services.insert(service.key.clone(), service);
        }
    }

    /// The patch of the status.
    pub(super) fn write(&mut self, write: &Write) -> Result<(), Refusal> {
        let stale = || Refusal::NotFound {
            said: "not found".into(),
        };
        let mut service = self.services.get(&write.key).cloned().ok_or_else(stale)?;
        if service.uid != write.uid {
            return Err(stale());
        }
        if service.service_type != ServiceType::LoadBalancer && !write.addresses.is_empty() {
            return Err(Refusal::Rejected {
                said: "type is not LoadBalancer".into(),
            });
        }
        let shown = |ip: &_| IngressAddress { ip: *ip, vip: true };
        service.ingress = write.addresses.iter().map(shown).collect();
        service.ingress_is_mixed = false;
        service.annotations.allocated_from.clone_from(&write.pool);
        self.writes.push(write.clone());
        self.store(service);
        Ok(())
    }

    /// A complete list, like the first batch of a new watch.
    pub(super) fn list(&mut self) -> Batch {
        self.untold.clear();
        let mut changes = self.others.clone();
        let services = self.services.values();
        changes.extend(services.map(|s| Change::Upsert(Object::Service(Arc::new(s.clone())))));
        batch(changes)
    }

    pub(super) fn shows(&self, name: &str) -> String {
        let ingress = self.services[&key(name)].ingress.iter();
        let texts: Vec<String> = ingress.map(|i| i.ip.to_string()).collect();
        texts.join(",")
    }

    pub(super) fn noted(&self, name: &str) -> Option<String> {
        self.services[&key(name)].annotations.allocated_from.clone()
    }

    /// Reason and note of every event, with its Service.
    pub(super) fn told(&self) -> Vec<String> {
        let text = |e: &Event| format!("{} {}: {}", e.object, e.kind.reason(), e.note);
        self.events.iter().map(text).collect()
    }
}

pub(super) fn batch(changes: Vec<Change>) -> Batch {
    Batch {
        changes,
        ..Batch::default()
    }
}

struct Watch(mpsc::UnboundedReceiver<Batch>);

impl Source for Watch {
    async fn next(&mut self) -> Option<Batch> {
        self.0.recv().await
    }
}

/// How the server answers.
#[derive(Debug, Default)]
pub(super) struct Mood {
    /// Answers to the next writes; after those it works again.
    pub(super) refuse: VecDeque<Refusal>,
    /// Refuse every write of this Service.
    pub(super) never: Option<ObjectKey>,
    /// The watch delivers nothing.
    pub(super) silent: bool,
    /// How long an answer takes.
    pub(super) slow: Duration,
}

/// The server behind the two traits.
#[derive(Clone, Default)]
struct Fake {
    server: Arc<Mutex<Server>>,
    mood: Arc<Mutex<Mood>>,
    tell: Arc<Mutex<Option<mpsc::UnboundedSender<Batch>>>>,
}

impl Fake {
    fn watch(&self) {
        if self.mood.lock().unwrap().silent {
            return;
        }
        let untold = std::mem::take(&mut self.server.lock().unwrap().untold);
        if let (false, Some(tell)) = (untold.is_empty(), &*self.tell.lock().unwrap()) {
            let _ = tell.send(batch(untold));
        }
    }
}

impl Writer for Fake {
    async fn assign(&self, write: &Write) -> Result<(), Refusal> {
        let slow = self.mood.lock().unwrap().slow;
        tokio::time::sleep(slow).await;
        self.server.lock().unwrap().tried.push(write.clone());
        {
            let mut mood = self.mood.lock().unwrap();
            if mood.never.as_ref() == Some(&write.key) {
                return Err(Refusal::Rejected {
                    said: "never".into(),
                });
            }
            if let Some(error) = mood.refuse.pop_front() {
                return Err(error);
            }
        }
        self.server.lock().unwrap().write(write)?;
        self.watch();
        Ok(())
    }

    async fn event(&self, event: &Event) -> Result<(), Refusal> {
        self.server.lock().unwrap().events.push(event.clone());
        Ok(())
    }
}

/// A server and the controller that runs against it.
pub(super) struct World {
    fake: Fake,
    settings: Settings,
    /// What nodes found out about addresses.
    pub(super) found: watch::Sender<Found>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl World {
    /// A server with these pools and Services, without a controller.
    pub(super) fn new(others: Vec<Change>, services: Vec<Builder>) -> Self {
        let fake = Fake::default();
        {
            let mut server = fake.server.lock().unwrap();
            server.others = others;
            for service in services {
                server.apply(service.build());
            }
        }
        Self {
            fake,
            settings: Settings::default(),
            found: watch::Sender::default(),
            running: None,
        }
    }

    pub(super) fn class(mut self, name: &str) -> Self {
        self.settings.class = Some(name.into());
        self
    }

    pub(super) fn server(&self) -> MutexGuard<'_, Server> {
        self.fake.server.lock().unwrap()
    }

    pub(super) fn mood(&self) -> MutexGuard<'_, Mood> {
        self.fake.mood.lock().unwrap()
    }

    /// Starts a controller and lets it settle.
    pub(super) async fn start(mut self) -> Self {
        self.restart(vec![]).await;
        self
    }

    /// Stops the running controller, if any, and starts one whose first list has these problems.
    pub(super) async fn restart(&mut self, problems: Vec<Problem>) {
        self.stop().await;
        let (tell, watch) = mpsc::unbounded_channel();
        let first = Batch {
            problems: Some(problems),
            ..self.server().list()
        };
        tell.send(first).unwrap();
        *self.fake.tell.lock().unwrap() = Some(tell);
        let (stop, stopped) = oneshot::channel();
        let (fake, settings) = (self.fake.clone(), self.settings.clone());
        let found = self.found.subscribe();
        let task = tokio::spawn(async move {
            run(Watch(watch), &fake, settings, found, async {
                let _ = stopped.await;
            })
            .await;
        });
        self.running = Some((stop, task));
        self.rest().await;
    }

    pub(super) async fn stop(&mut self) {
        if let Some((stop, task)) = self.running.take() {
            let _ = stop.send(());
            task.await.unwrap();
        }
    }

    /// Lets everything happen that needs no waiting.
    pub(super) async fn rest(&self) {
        self.pass(Duration::from_millis(500)).await;
    }

    /// Lets time pass.
    pub(super) async fn pass(&self, time: Duration) {
        self.fake.watch();
        tokio::time::sleep(time).await;
    }

    pub(super) async fn apply(&self, service: Builder) {
        self.server().apply(service.build());
        self.rest().await;
    }

    pub(super) async fn delete(&self, name: &str) {
        self.server().delete(&key(name));
        self.rest().await;
    }

    pub(super) async fn other(&self, change: Change) {
        self.server().other(change);
        self.rest().await;
    }

    /// Writes since the last call.
    pub(super) fn writes(&self) -> Vec<Write> {
        std::mem::take(&mut self.server().writes)
    }

    /// Events since the last call.
    pub(super) fn told(&self) -> Vec<String> {
        let mut server = self.server();
        let told = server.told();
        server.events.clear();
        told
    }
}
