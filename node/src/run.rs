//! The loop of a node. It carries changes, messages and questions between the parts, and decides nothing.

use std::time::{Duration, Instant};

use ferrolb_api::change::{Batch, Change};
use ferrolb_api::object::Object;
use ferrolb_api::problem::{Cause, Part, Problem, Subject};
use ferrolb_proxy::snapshot::ServiceStatus as Proxied;
use ferrolb_source::Source;
use ferrolb_speaker::message::NodeName;
use ferrolb_speaker::snapshot::{Snapshot as SpeakerSnapshot, Status};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::agreement::machine::View;
use crate::answers::Answers;
use crate::authority::{Authority, Effects};
use crate::config::ProxyMode;
use crate::error::Error;
use crate::health::{Doctor, Health};
use crate::identity::Identity;
use crate::metrics::Exporter;
use crate::parts::{Parts, ProxyPart, Tasks};
use crate::publish::{Desk, Looker};
use crate::report::book::Book;
use crate::report::view::NodeStatus;
use crate::report::{Knowledge, report};
use crate::socket::Question;

/// How often the agreement is notified that time has passed.
const TICK: Duration = Duration::from_millis(100);

/// How long a node that stops waits for its parts. A kernel or a disk that does not answer must not keep it from stopping.
const STOPPING: Duration = Duration::from_secs(10);

/// A node and its parts.
pub(crate) struct Node<Src, A> {
    pub(crate) source: Src,
    pub(crate) authority: A,
    pub(crate) parts: Parts,
    pub(crate) questions: mpsc::Receiver<Question>,
    pub(crate) answers: Answers,
    pub(crate) book: Book,
    /// Answers questions about health.
    pub(crate) doctor: Doctor,
    /// Shows metrics.
    pub(crate) exporter: Option<Exporter>,
    pub(crate) tasks: Tasks,
    pub(crate) identity: Identity,
    /// A file with the members' shared key was given.
    pub(crate) has_key: bool,
    pub(crate) proxy: ProxyMode,
    /// Reports to the API server, if there is one.
    pub(crate) desk: Option<Desk>,
}

/// Runs until a signal arrives or a part fails. Then the speaker says goodbye; the datapath stays as it is.
pub(crate) async fn run<Src: Source, A: Authority>(
    mut node: Node<Src, A>,
    first: Batch,
) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::failed)?;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);

    node.authority.members(&node.identity.membership.members());
    for change in &first.changes {
        node.doctor.follow(change, &node.identity.me);
    }
    node.book.source(&first.changes);
    let effects = node.authority.source(first, Instant::now());
    node.first(effects).await?;
    let ended = loop {
        let effects = tokio::select! {
            name = stopped(&mut terminate, &mut interrupt) => {
                info!(signal = name, "stopping; what is programmed stays");
                break Ok(());
            }
            Some(ended) = node.tasks.join_next() => break ended.map_err(Error::failed).flatten(),
            Some(question) = node.questions.recv() => {
                node.answers.ask(question);
                node.answer();
                continue;
            }
            () = node.answers.given() => {
                node.answer();
                continue;
            }
            batch = node.source.next() => match batch {
                Some(batch) => {
                    node.touch();
                    node.follow(&batch.changes);
                    node.book.source(&batch.changes);
                    node.authority.source(batch, Instant::now())
                }
                None => break Ok(()),
            },
            Ok(()) = node.parts.speaker.snapshot.changed() => {
                node.touch();
                let snapshot = node.parts.speaker.snapshot.borrow_and_update().clone();
                node.authority.view(view(&snapshot), Instant::now())
            }
            () = node.parts.speaker.addresses.changed() => {
                node.touch();
                let news = node.parts.speaker.addresses.take();
                let effects = node.authority.addresses(&news, Instant::now());
                node.book.addresses(news);
                effects
            }
            () = proxied(node.parts.proxy.as_ref()) => {
                node.touch();
                if let Some(proxy) = &node.parts.proxy {
                    let news = proxy.services.take();
                    for (key, status) in &news {
                        node.doctor.service(key, status.as_deref().and_then(asked));
                    }
                    node.book.proxied(news);
                }
                continue;
            }
            Some((from, bytes)) = node.parts.speaker.from_members.recv() => {
                node.authority.received(from.as_str().into(), bytes, Instant::now())
            }
            end = node.authority.disk() => node.authority.wrote(end, Instant::now()),
            _ = tick.tick() => {
                node.examine(Instant::now());
                node.look(Instant::now());
                node.authority.tick(Instant::now())
            }
        };
        node.carry(effects).await?;
    };
    // A part that ended by itself must not be waited for again.
    match ended {
        Ok(()) => node.stop().await,
        failed => failed,
    }
}

impl<Src: Source, A: Authority> Node<Src, A> {
    /// The first batch goes to the speaker even if it is empty: it says that the list is complete.
    async fn first(&mut self, effects: Effects) -> Result<(), Error> {
        if effects.speaker.is_empty() {
            self.tell_speaker(Vec::new()).await?;
        }
        self.carry(effects).await
    }

    async fn carry(&mut self, effects: Effects) -> Result<(), Error> {
        for (to, bytes) in effects.send {
            // If the queue is full, the message is lost, as it could be on the network. The agreement repeats what was not
            // received.
            let _ = self
                .parts
                .speaker
                .to_members
                .try_send((NodeName::from(&*to), bytes));
        }
        if !effects.speaker.is_empty() {
            self.tell_speaker(effects.speaker).await?;
        }
        if let Some(changes) = effects.proxy
            && let Some(proxy) = &self.parts.proxy
        {
            // If the proxy is gone, this is noticed where its end is awaited.
            let _ = proxy.batches.send(of(changes)).await;
        }
        Ok(())
    }

    async fn tell_speaker(&self, changes: Vec<Change>) -> Result<(), Error> {
        let _ = self.parts.speaker.batches.send(of(changes)).await;
        Ok(())
    }

    /// Passes on who the members are, if that changed.
    fn follow(&mut self, changes: &[Change]) {
        let membership = &mut self.identity.membership;
        for change in changes {
            self.doctor.follow(change, &self.identity.me);
            membership.apply(change);
            if let (Change::Upsert(Object::ProxyConfig(config)), Some(exporter)) =
                (change, &self.exporter)
            {
                exporter.configured(config);
            }
        }
        let members = membership.members();
        let authority = &mut self.authority;
        self.parts.speaker.members.send_if_modified(|known| {
            let changed = *known != members;
            if changed {
                authority.members(&members);
                let names: Vec<&str> = members.keys().map(String::as_str).collect();
                info!(members = names.join(" "), "the list of members changed");
                *known = members;
            }
            changed
        });
    }

    /// A node that was alone needed no key. It cannot communicate with members that joined later without one.
    fn lacks_key(&self) -> Option<Problem> {
        let members = self.parts.speaker.members.borrow().len();
        (!self.has_key && members > 1).then(|| {
            let text = format!(
                "there are {members} members now and this node was started without a key, so it cannot talk to the others and announces \
                 addresses beside them: give every node the same --key-file and restart this one"
            );
            Problem::new(Subject::part(Part::Speaker), Cause::Reported { text }).field("--key-file")
        })
    }

    /// Answers requests for the status, if an answer is due.
    fn answer(&mut self) {
        if self.answers.is_due() {
            let status = self.status();
            self.answers.give(status);
        }
    }

    fn touch(&mut self) {
        if let Some(desk) = &mut self.desk {
            desk.touch();
        }
    }

    /// Brings the book up to date.
    fn renew(&mut self) {
        self.book.touch(self.authority.touched());
        let changed = self.book.renew(|key| self.authority.standing(key));
        if let Some(desk) = &mut self.desk {
            desk.note(changed);
        }
    }

    /// Tells those who ask whether this node is ready.
    fn examine(&mut self, now: Instant) {
        let proxy = self.parts.proxy.as_ref();
        let passed = proxy.is_none_or(|proxy| proxy.snapshot.borrow().passed);
        let settled = self.parts.speaker.snapshot.borrow().settled;
        self.doctor.node(passed && settled, now);
        self.doctor.again(now);
        if let Some(exporter) = &mut self.exporter {
            exporter.again(now);
        }
    }

    /// Reports to the API server, if a report is due.
    fn look(&mut self, now: Instant) {
        if !self.desk.as_ref().is_some_and(|desk| desk.is_due(now)) {
            return;
        }
        self.renew();
        let speaker = self.parts.speaker.snapshot.borrow().clone();
        let looker = Looker {
            me: &self.identity.me,
            settled: speaker.settled,
            elected: speaker.placer.as_deref() == Some(&self.identity.me),
        };
        let owner = self.authority.node_uid();
        if let Some(desk) = &mut self.desk {
            desk.look(looker, self.book.entries(), owner, now);
        }
    }

    fn status(&mut self) -> NodeStatus {
        self.renew();
        let mut problems = self.authority.problems();
        problems.extend(self.lacks_key());
        let key_file = self.parts.key_file.as_ref();
        problems.extend(key_file.and_then(|problem| problem.borrow().clone()));
        problems.extend(self.doctor.problems());
        problems.extend(self.exporter.as_ref().and_then(Exporter::problem));
        let proxy = self.parts.proxy.as_ref();
        let proxy_errors = proxy.map(|p| p.snapshot.borrow().errors.clone());
        // The speaker has to wait while its snapshot is borrowed, so nothing is computed meanwhile.
        let speaker = self.parts.speaker.snapshot.borrow().clone();
        report(Knowledge {
            me: &self.identity.me,
            proxy_mode: self.proxy.name(),
            book: &self.book,
            problems,
            proxy_errors: &proxy_errors.unwrap_or_default(),
            speaker: &speaker,
        })
    }

    /// Stops the parts and waits for them. What never ends by itself ends with the runtime.
    async fn stop(mut self) -> Result<(), Error> {
        self.parts.speaker.stop.send_replace(true);
        let parts = 1 + self.parts.proxy.iter().len();
        if let Some(proxy) = self.parts.proxy.take() {
            let _ = proxy.stop.send(());
        }
        let ended = async {
            for _ in 0..parts {
                match self.tasks.join_next().await {
                    Some(ended) => ended.map_err(Error::failed)??,
                    None => break,
                }
            }
            Ok(())
        };
        tokio::time::timeout(STOPPING, ended).await.unwrap_or_else(|_| {
            warn!("the parts of the node have not ended in {STOPPING:?}; it ends without them, and the kernel keeps what is programmed");
            Ok(())
        })
    }
}

/// Only the changes: the parts do not receive problems.
fn of(changes: Vec<Change>) -> Batch {
    Batch {
        changes,
        ..Batch::default()
    }
}

/// What is asked about the health of a Service, and how it is.
fn asked(status: &Proxied) -> Option<Health> {
    let ports = status.ports.iter();
    Some(Health {
        port: status.health_check_node_port?,
        local: ports.map(|port| port.local_endpoints).max().unwrap_or(0),
        programmed: status.programmed,
    })
}

/// Waits until the proxy has news about Services.
async fn proxied(proxy: Option<&ProxyPart>) {
    match proxy {
        Some(proxy) => proxy.services.changed().await,
        None => std::future::pending().await,
    }
}

async fn stopped(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// The members, as the agreement sees them.
fn view(snapshot: &SpeakerSnapshot) -> View {
    let live = snapshot
        .members
        .iter()
        .filter(|m| matches!(m.status, Status::Alive | Status::Held));
    View {
        placer: snapshot
            .placer
            .as_deref()
            .filter(|_| snapshot.settled)
            .map(Into::into),
        known: snapshot.members.len(),
        live: live.map(|m| m.name.as_str().into()).collect(),
    }
}
