//! Hybrid logical clock (Kulkarni et al., 2014): stamps that follow causality whatever the wall clocks say.
//!
//! A stamp is 48 bits of milliseconds and 16 bits of counter, then the node. The clock never goes back: a new stamp
//! is later than every stamp made or seen here before, even if the wall clock was set back an hour.
use crate::id::NodeId;
use crate::time::{Timestamp, millis};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// When, by causality, and by which node. Unique: no node makes one twice. Twelve bytes, aligned to four, because an
/// entry holds one.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    high: u32,
    low: u32,
    /// Who made it; breaks ties.
    pub node: NodeId,
}

impl Stamp {
    /// From the 64-bit clock value and the node.
    pub fn new(clock: u64, node: NodeId) -> Self {
        Self { high: (clock >> 32) as u32, low: clock as u32, node }
    }

    /// The 64-bit clock value: milliseconds × 65536 + counter.
    pub fn clock(self) -> u64 {
        (u64::from(self.high) << 32) | u64::from(self.low)
    }

    /// The clock's idea of the wall time when it was made.
    pub fn time(self) -> Timestamp {
        Timestamp(self.clock() >> 16)
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}@{:08x}", self.clock() >> 16, self.clock() & 0xffff, self.node.0)
    }
}

/// A stamp lies further ahead than the bound allows; it was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stamp lies {ahead:?} ahead of this node's clock")]
pub struct TooFarAhead {
    /// By how much.
    pub ahead: Duration,
}

/// This node's clock. Shared by all workers and the replication; lock-free.
#[derive(Debug)]
pub struct Clock {
    last: AtomicU64,
    node: NodeId,
    max_ahead: Duration,
}

impl Clock {
    /// A clock for `node` that refuses stamps more than `max_ahead` ahead of the wall clock.
    pub fn new(node: NodeId, max_ahead: Duration) -> Self {
        Self { last: AtomicU64::new(0), node, max_ahead }
    }

    /// Whose clock this is.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// What the clock shows: the wall clock, or where stamps seen here are ahead of it, those.
    pub fn reading(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.max(self.last.load(Ordering::Relaxed) >> 16))
    }

    /// A new stamp, later than every other this clock made or saw.
    pub fn stamp(&self, now: Timestamp) -> Stamp {
        let wall = now.0 << 16;
        let next = |last: u64| (last + 1).max(wall);
        // The ordering is relaxed: the value itself carries the order, nothing else is published through it.
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |l| Some(next(l)));
        Stamp::new(next(last.unwrap_or_else(|l| l)), self.node)
    }

    /// Takes in a stamp made elsewhere.
    ///
    /// # Errors
    /// [`TooFarAhead`] past the bound, measured from the wall clock.
    pub fn observe(&self, stamp: Stamp, now: Timestamp) -> Result<(), TooFarAhead> {
        let ahead = stamp.time().since(now);
        if millis(ahead) > millis(self.max_ahead) {
            return Err(TooFarAhead { ahead });
        }
        self.last.fetch_max(stamp.clock(), Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clock(name: &str) -> Clock {
        Clock::new(NodeId::new(name, 1), Duration::from_secs(86_400))
    }

    proptest! {
        #[test]
        fn stamps_only_grow_whatever_the_wall_clock_does(walls in proptest::collection::vec(0u64..1 << 40, 1..100)) {
            let clock = clock("a");
            let stamps: Vec<_> = walls.iter().map(|w| clock.stamp(Timestamp(*w))).collect();
            prop_assert!(stamps.windows(2).all(|w| w[0] < w[1]));
        }

        #[test]
        fn a_stamp_made_after_seeing_another_is_later(skew in 0u64..3_600_000) {
            let (ahead, behind) = (clock("a"), clock("b"));
            let seen = ahead.stamp(Timestamp(1_000_000_000 + skew));
            behind.observe(seen, Timestamp(1_000_000_000)).expect("within the bound");
            prop_assert!(behind.stamp(Timestamp(1_000_000_000)) > seen);
        }
    }

    #[test]
    fn an_absurd_stamp_is_refused_and_changes_nothing() {
        let clock = clock("a");
        let absurd = Stamp::new(u64::MAX, NodeId::new("b", 1));
        assert!(clock.observe(absurd, Timestamp(1_000)).is_err());
        assert_eq!(clock.stamp(Timestamp(1_000)).time(), Timestamp(1_000));
    }
}
