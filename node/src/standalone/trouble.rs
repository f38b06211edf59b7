//! What keeps the members from agreeing: a disk that cannot be written to, and members that send impossible messages. Each
//! trouble is logged when it begins and when it ends, and is in the status in between.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ferrolb_api::ObjectKey;
use ferrolb_api::object::Kind;
use ferrolb_api::problem::{Cause, Part, Problem, Subject};
use tracing::{error, info, warn};

use crate::agreement::table::Name;
use crate::store::StoreError;

/// How long the status names a member after its last impossible message.
const NAMED: Duration = Duration::from_secs(600);

/// This node's troubles with its disk and with other members.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    unsaved: Option<Problem>,
    leapt: BTreeMap<Name, (Problem, Instant)>,
    yielding: Vec<Name>,
}

impl Trouble {
    /// A write failed or does not finish.
    pub(super) fn failed(&mut self, why: &StoreError) {
        let (folder, cause, remedy) = why.parts();
        let subject = Subject::Part {
            part: Part::Agreement,
            of: format!("State folder {}", folder.display()),
        };
        let text = format!(
            "assignments cannot be saved ({cause}): this node takes part in no new assignment and leaves it to another one to \
                 allocate; addresses that were agreed before stay in force. {remedy}; this node tries again every second"
        );
        let problem = Problem::new(subject, Cause::Reported { text });
        if self.unsaved.as_ref() != Some(&problem) {
            error!("{problem}");
            self.unsaved = Some(problem);
        }
    }

    /// A write succeeded.
    pub(super) fn worked(&mut self) {
        if let Some(problem) = self.unsaved.take() {
            info!("{}: assignments can be saved again", problem.subject);
        }
    }

    /// A member named an impossible round.
    pub(super) fn leapt(&mut self, from: Name, round: u64, now: Instant) {
        let known = self.leapt.get(&from).map(|(problem, _)| problem.clone());
        let problem = known.unwrap_or_else(|| {
            let text = format!(
                    "it says that it promised round {round}, which no member can have reached honestly: the message is refused, and this \
                     node does not follow it until it says something credible. Stop it, find out who else has the key, and start it again \
                     without its file assignments.json"
            );
            let problem = Problem::new(node(&from), Cause::Reported { text });
            warn!("{problem}");
            problem
        });
        self.leapt.insert(from, (problem, now));
    }

    /// Takes in which members report that they cannot write. Forgets old troubles.
    pub(super) fn refresh<'a>(&mut self, yielding: impl Iterator<Item = &'a Name>, now: Instant) {
        self.leapt
            .retain(|_, (_, at)| now.saturating_duration_since(*at) < NAMED);
        let yielding: Vec<&Name> = yielding.collect();
        if self.yielding.iter().eq(yielding.iter().copied()) {
            return;
        }
        for name in yielding.iter().filter(|n| !self.yielding.contains(n)) {
            warn!("{}", cannot_write(name));
        }
        for name in self.yielding.iter().filter(|n| !yielding.contains(n)) {
            info!("Node {name}: it no longer says that it cannot save assignments");
        }
        self.yielding = yielding.into_iter().cloned().collect();
    }

    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> {
        let leapt = self.leapt.values().map(|(problem, _)| problem.clone());
        let yielding = self.yielding.iter().map(cannot_write);
        self.unsaved.iter().cloned().chain(leapt).chain(yielding)
    }
}

fn cannot_write(name: &Name) -> Problem {
    let text = "it cannot save assignments, so another node allocates addresses; `ferrolb status` on that node names the cause and what \
                to do";
    let text = text.to_owned();
    Problem::new(node(name), Cause::Reported { text })
}

fn node(name: &Name) -> Subject {
    Subject::object_of(Kind::Node, ObjectKey::new("", name.to_string()))
}
