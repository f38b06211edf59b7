//! What a node answers to those who ask over HTTP whether it is well: cloud and hardware load balancers about one Service
//! (`spec.healthCheckNodePort`), the kubelet and administrators about the node (`/healthz`, `/livez`). kube-proxy gives the same
//! answers in the same places.
//!
//! [`board`] decides who is asked where; [`http`] makes the answers. This joins the two.

mod board;
mod http;

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use ferrolb_api::ObjectKey;
use ferrolb_api::change::Change;
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::problem::{Cause, Part, Problem, Subject};
use k8s_openapi::jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tracing::warn;

use self::board::Board;
pub(crate) use self::board::Health;
use self::http::{Answer, NodeHealth};
use crate::http::Port;

/// How long after an attempt to open a port the next one follows.
const AGAIN: Duration = Duration::from_secs(5);

/// A port that is served.
#[derive(Debug)]
struct Served {
    answer: watch::Sender<Answer>,
    _port: Port,
}

/// The HTTP status of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: u16,
}

/// How many questions about this node were answered, as kube-proxy counts them; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Questions {
    healthz: Family<Code, Counter>,
    livez: Family<Code, Counter>,
}

impl Questions {
    fn answered(&self, path: &str, code: u16) {
        let family = match path {
            "/healthz" => &self.healthz,
            "/livez" => &self.livez,
            _ => return,
        };
        family.get_or_create(&Code { code }).inc();
    }

    /// Makes the metrics known.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let kube = registry.sub_registry_with_prefix("kubeproxy");
        for (name, help, family) in [
            (
                "proxy_healthz",
                "Answers at /healthz, by HTTP status",
                &self.healthz,
            ),
            (
                "proxy_livez",
                "Answers at /livez, by HTTP status",
                &self.livez,
            ),
        ] {
            kube.register(name, help, family.clone());
        }
    }
}

/// The ports that are served. It needs a tokio runtime.
#[derive(Debug, Default)]
pub(crate) struct Doctor {
    board: Board,
    served: BTreeMap<u16, Served>,
    /// Why a port could not be opened.
    failed: BTreeMap<u16, String>,
    /// The node's own port, and what it answers.
    node: Option<(SocketAddr, Result<Served, String>)>,
    /// The Node object of this node is being deleted, or is gone.
    leaves: bool,
    questions: Questions,
    /// When to try again what could not be opened.
    next: Option<Instant>,
}

impl Doctor {
    /// Answers for the node at this address. It is not well until [`Doctor::node`] says so.
    pub(crate) fn at(address: Option<SocketAddr>) -> Self {
        let questions = Questions::default();
        let node = address.map(|address| {
            let served = open(address, starting(), &questions);
            if let Err(why) = &served {
                warn!("{}", taken(address, why));
            }
            (address, served)
        });
        Self {
            node,
            questions,
            ..Self::default()
        }
    }

    /// The questions about this node.
    pub(crate) fn questions(&self) -> &Questions {
        &self.questions
    }

    /// Takes in whether this node is well, each time the node's loop runs.
    pub(crate) fn node(&self, well: bool, now: Instant) {
        if let Some((_, Ok(served))) = &self.node {
            // Nobody waits for it: it is read when somebody asks.
            served.answer.send_if_modified(|answer| {
                *answer = Answer::Node(NodeHealth {
                    well,
                    eligible: !self.leaves,
                    seen: (now, Timestamp::now()),
                });
                false
            });
        }
    }

    /// Follows the Node object of this node. Without one, load balancers may use it.
    pub(crate) fn follow(&mut self, change: &Change, me: &str) {
        match change {
            Change::Upsert(Object::Node(node)) if node.name == me => self.leaves = node.leaving,
            Change::Remove(Kind::Node, key) if key.name == me => self.leaves = true,
            _ => {}
        }
    }

    /// Takes in what is asked about a Service, and how it is. `None`: nothing is asked.
    pub(crate) fn service(&mut self, key: &ObjectKey, health: Option<Health>) {
        for port in self.board.update(key, health) {
            self.renew(port);
        }
    }

    /// Opens or closes a port, or changes its answer.
    fn renew(&mut self, port: u16) {
        let Some((service, health)) = self.board.answer(port) else {
            self.served.remove(&port);
            self.failed.remove(&port);
            return;
        };
        let answer = Answer::service(service, health);
        if let Some(served) = self.served.get(&port) {
            served.answer.send_replace(answer);
            return;
        }
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        match open(address, answer, &self.questions) {
            Ok(served) => {
                self.failed.remove(&port);
                self.served.insert(port, served);
            }
            Err(why) => {
                if self.failed.insert(port, why.clone()).as_ref() != Some(&why) {
                    warn!("Service {service}: {}", unopened(port, &why));
                }
            }
        }
    }

    /// Tries again what could not be opened, now and then.
    pub(crate) fn again(&mut self, now: Instant) {
        if self.next.is_some_and(|next| now < next) {
            return;
        }
        self.next = Some(now + AGAIN);
        let failed: Vec<u16> = self.failed.keys().copied().collect();
        failed.into_iter().for_each(|port| self.renew(port));
        if let Some((address, node)) = &mut self.node
            && node.is_err()
        {
            *node = open(*address, starting(), &self.questions);
        }
    }

    /// What is wrong with the ports.
    pub(crate) fn problems(&self) -> impl Iterator<Item = Problem> {
        let failed = self.failed.iter().filter_map(|(port, why)| {
            let (service, _) = self.board.answer(*port)?;
            Some(of_service(service, unopened(*port, why)))
        });
        let second = self.board.second().map(|(service, port, first)| {
            let text = format!(
                "Service {first} is asked about at port {port} already: give this one another port"
            );
            of_service(service, text)
        });
        let node = self.node.iter().filter_map(|(address, served)| {
            let text = taken(*address, served.as_ref().err()?);
            let problem = Problem::new(Subject::part(Part::Proxy), Cause::Reported { text });
            Some(problem.field("--healthz-bind-address"))
        });
        failed.chain(second).chain(node)
    }
}

fn of_service(service: &ObjectKey, text: String) -> Problem {
    let subject = Subject::object_of(Kind::Service, service.clone());
    Problem::new(subject, Cause::Reported { text }).field("spec.healthCheckNodePort")
}

fn unopened(port: u16, why: &str) -> String {
    format!(
        "port {port} cannot be opened on this node ({why}), so nobody learns there whether it has endpoints: end what has the port"
    )
}

fn taken(address: SocketAddr, why: &str) -> String {
    format!(
        "this node cannot answer on {address} ({why}), so it does not become ready: if kube-proxy still runs, stop it, or name another address"
    )
}

/// What a node answers that has just started.
fn starting() -> Answer {
    Answer::Node(NodeHealth {
        well: false,
        eligible: true,
        seen: (Instant::now(), Timestamp::now()),
    })
}

/// Opens a port with an answer.
fn open(address: SocketAddr, answer: Answer, questions: &Questions) -> Result<Served, String> {
    let of_node = matches!(answer, Answer::Node(_));
    let questions = questions.clone();
    let (answer, told) = watch::channel(answer);
    let port = crate::http::open(address, move |method, path| {
        let now = (Instant::now(), Timestamp::now());
        let reply = told.borrow().response(method, path, now);
        if of_node {
            questions.answered(path, reply.status().as_u16());
        }
        reply
    })?;
    Ok(Served {
        answer,
        _port: port,
    })
}

#[cfg(test)]
mod tests;
