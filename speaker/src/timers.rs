//! The timers of the protocol, all scaled by one factor.
//!
//! The values are those of the simulated protocol. They depend on each other: a helper must answer before the declaration, and
//! the lateness check must be stricter than the declaration. So slow machines get one factor instead of one setting per timer.

use std::time::Duration;

/// Timers. [`Timers::default`] is the protocol as simulated; [`Timers::scaled`] stretches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Interval between heartbeats.
    pub heartbeat: Duration,
    /// Silence after which a member is pinged and other members are asked.
    pub suspect: Duration,
    /// Silence after which a member is declared dead, if others confirm.
    pub declare: Duration,
    /// The same, if none of the helpers answers.
    pub declare_unanswered: Duration,
    /// How long a helper listens after its own ping before it says "not heard".
    pub verdict: Duration,
    /// Interval between copies of an unacknowledged grant.
    pub grant_resend: Duration,
    /// Extra wait of each placer rank after the previous one.
    pub rank_delay: Duration,
    /// Interval between full transfers to the same peer.
    pub transfer_gap: Duration,
    /// A loop that did not run for this long was paused. It answers nothing until it has read what arrived meanwhile. If the
    /// pause exceeds this value times the multiplier that all members know, it counts as a restart.
    pub late: Duration,
    /// How long an ineligible owner answers after another node has named its successor.
    pub tail: Duration,
    /// How long an ineligible owner answers while it has no successor.
    pub grace: Duration,
    /// How long others hold the addresses of an agent that said goodbye.
    pub hold: Duration,
    /// The same for an agent whose port turned out to be closed without a goodbye.
    pub crash_hold: Duration,
    /// For this long after a member came back from the dead, notices of its death are ignored.
    pub rumour: Duration,
    /// A starting node settles after this time if it heard from all known nodes and none of them is settled.
    pub settle_all: Duration,
    /// The same if it heard from more than half of them.
    pub settle_majority: Duration,
    /// The same otherwise.
    pub settle_alone: Duration,
    /// Added to these three after a pause, so that nodes that were not paused speak first.
    pub settle_paused: Duration,
    /// An address that was never claimed is not placed for this long while a live member is unsettled.
    pub boot_wait: Duration,
    /// An address that was never claimed is not placed for this long while a settled member can't take it: it may be able to
    /// soon.
    pub gather: Duration,
    /// Claims for addresses that don't exist here are forgotten after this time.
    pub forget: Duration,
    /// Two stalls within this time lengthen this node's timers. The timers return to normal after this time without stalls.
    pub calm: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            heartbeat: ms(100),
            suspect: ms(250),
            declare: ms(500),
            declare_unanswered: ms(700),
            verdict: ms(200),
            grant_resend: ms(40),
            rank_delay: ms(150),
            transfer_gap: ms(150),
            late: ms(350),
            tail: ms(300),
            grace: ms(1000),
            hold: ms(10_000),
            crash_hold: ms(2000),
            rumour: ms(1000),
            settle_all: ms(300),
            settle_majority: ms(1000),
            settle_alone: ms(2000),
            settle_paused: ms(300),
            boot_wait: ms(500),
            gather: ms(300),
            forget: ms(60_000),
            calm: ms(60_000),
        }
    }
}

impl Timers {
    /// All timers times `factor` (1.0: as simulated). All nodes of a cluster need the same factor. A factor that is not a
    /// positive number counts as 1.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        let factor = if factor.is_finite() && factor > 0.0 {
            factor.clamp(0.01, 1000.0)
        } else {
            1.0
        };
        let by = |d: Duration| d.mul_f64(factor);
        Self {
            heartbeat: by(self.heartbeat),
            suspect: by(self.suspect),
            declare: by(self.declare),
            declare_unanswered: by(self.declare_unanswered),
            verdict: by(self.verdict),
            grant_resend: by(self.grant_resend),
            rank_delay: by(self.rank_delay),
            transfer_gap: by(self.transfer_gap),
            late: by(self.late),
            tail: by(self.tail),
            grace: by(self.grace),
            hold: by(self.hold),
            crash_hold: by(self.crash_hold),
            rumour: by(self.rumour),
            settle_all: by(self.settle_all),
            settle_majority: by(self.settle_majority),
            settle_alone: by(self.settle_alone),
            settle_paused: by(self.settle_paused),
            boot_wait: by(self.boot_wait),
            gather: by(self.gather),
            forget: by(self.forget),
            calm: by(self.calm),
        }
    }
}
