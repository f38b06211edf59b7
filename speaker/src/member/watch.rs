//! Rule 7: when silence becomes suspicion, and suspicion becomes death.
//!
//! Pure arithmetic on one member's silence. Rendezvous in `table` decides who watches whom; the machine asks and answers. One
//! lost path must not kill a member: it is declared dead only if other nodes that pinged it agree.

use std::time::Duration;

use super::table::Member;
use crate::message::NodeName;
use crate::timers::Timers;

/// A member that has been silent, and the nodes that were asked about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suspicion {
    /// The nodes that were asked to ping it and have not answered yet.
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

/// Judges a member by its silence. All times are multiplied by its multiplier, or by the judge's own if that is larger: a slow
/// node is often the one that did not listen.
pub(crate) fn judge(config: &Timers, member: &Member, mine: u8, now: Duration) -> Verdict {
    let patience = member.patience().max(mine.into());
    let since = member.silent_from;
    let Some(s) = &member.suspicion else {
        let at = since + config.suspect * patience;
        return if now >= at {
            Verdict::Suspect
        } else {
            Verdict::Wait(at)
        };
    };
    let confirmed = s.silent >= s.asked.min(2);
    let silence = if confirmed {
        config.declare
    } else {
        config.declare_unanswered
    };
    let at = (since + silence * patience).max(member.spared);
    if now >= at {
        Verdict::Declare
    } else {
        Verdict::Wait(at)
    }
}

/// A promise to report to `asker` at `until` that `member` was not heard, unless it is heard before then.
#[derive(Clone, Debug)]
pub(crate) struct Duty {
    pub(crate) asker: NodeName,
    pub(crate) member: NodeName,
    pub(crate) until: Duration,
}
