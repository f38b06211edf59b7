//! Rule 7: when silence becomes suspicion, and suspicion a death.
//!
//! Pure arithmetic on one member's silence; who watches whom is decided by rendezvous in `table`, who asks and answers
//! by the machine. One lost path must not kill: a member is declared only when other nodes that pinged it agree.

use std::time::Duration;

use crate::machine::Config;
use crate::message::NodeName;

/// A member that has been silent, and who was asked about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suspicion {
    /// Who was asked to ping it and has not answered yet.
    pub(crate) pending: Vec<NodeName>,
    /// How many were asked.
    pub(crate) asked: usize,
    /// How many pinged it and heard nothing.
    pub(crate) silent: usize,
}

/// What to do about a silent member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing before this time.
    Wait(Duration),
    /// Ping it and ask others to.
    Suspect,
    /// It is dead.
    Declare,
}

/// Judges a member that was last heard at `since`.
pub(crate) fn judge(
    config: &Config,
    since: Duration,
    suspicion: Option<&Suspicion>,
    now: Duration,
) -> Verdict {
    let Some(s) = suspicion else {
        let at = since + config.suspect;
        return if now >= at {
            Verdict::Suspect
        } else {
            Verdict::Wait(at)
        };
    };
    let confirmed = s.silent >= s.asked.min(2);
    let at = since
        + if confirmed {
            config.declare
        } else {
            config.declare_unanswered
        };
    if now >= at {
        Verdict::Declare
    } else {
        Verdict::Wait(at)
    }
}

/// A promise to tell `asker` whether `member` was heard after `since`.
#[derive(Clone, Debug)]
pub(crate) struct Duty {
    pub(crate) asker: NodeName,
    pub(crate) member: NodeName,
    pub(crate) since: Duration,
}
