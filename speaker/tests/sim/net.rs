//! How the network treats packets.

use std::time::Duration;

/// SplitMix64.
#[derive(Clone)]
pub(crate) struct Rng(pub u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// True in `percent` of 100 cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(most.as_micros()).unwrap_or(1)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Net {
    /// 0.1 to 0.3 ms, no loss: for results that one lost heartbeat legitimately changes.
    Ideal,
    /// 0.1 to 0.3 ms, 0.1% loss.
    Quiet,
    /// 5% loss, 10% of packets late by up to 300 ms.
    Bad,
}

impl Net {
    /// How long a packet takes. `None` if it is lost.
    pub(crate) fn delay(self, rng: &mut Rng) -> Option<Duration> {
        let base = Duration::from_micros(100 + rng.below(200));
        match self {
            Self::Ideal => Some(base),
            Self::Quiet => (rng.below(1000) > 0).then_some(base),
            Self::Bad if rng.chance(5) => None,
            Self::Bad if rng.chance(10) => Some(base + rng.up_to(Duration::from_millis(300))),
            Self::Bad => Some(base),
        }
    }
}
