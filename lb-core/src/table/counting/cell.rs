//! The numbers of one counter in one slot. Pure arithmetic, which saturates: no number of a peer can overflow a sum.
use crate::counters::Kind;
use crate::time::Timestamp;

/// What the numbers mean depends on the counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    /// The count; of a rate that of the period that runs; of a tag what it was set to.
    pub(super) value: u64,
    /// Of a rate, the count of the period before.
    pub(super) before: u64,
    /// Of a rate, when its period began; of a tag, the clock value of when it was set.
    pub(super) at: u64,
}

impl Cell {
    /// Adds to a count or a rate.
    pub(super) fn add(&mut self, kind: Kind, n: u64, now: Timestamp) {
        if let Kind::Rate(period) = kind {
            *self = self.turned(period, now);
        }
        self.value = self.value.saturating_add(n);
    }

    /// A rate whose period is the one that runs now.
    fn turned(self, period: u64, now: Timestamp) -> Self {
        match now.0.saturating_sub(self.at) / period {
            0 => self,
            1 => Self { value: 0, before: self.value, at: self.at + period },
            _ => Self { value: 0, before: 0, at: now.0 },
        }
    }

    /// How many events a rate has within its period: those of the period that runs, and of the one before the share
    /// that is left of it.
    pub(super) fn rate(self, period: u64, now: Timestamp) -> u64 {
        let turned = self.turned(period, now);
        let left = period - now.0.saturating_sub(turned.at).min(period);
        let share = u128::from(turned.before) * u128::from(left) / u128::from(period);
        turned.value.saturating_add(u64::try_from(share).unwrap_or(u64::MAX))
    }

    /// For a peer: a date becomes an age.
    pub(super) fn told(self, kind: Kind, now: Timestamp) -> [u64; 3] {
        match kind {
            Kind::Current | Kind::Count => [self.value, 0, 0],
            Kind::Tag => [self.value, 0, self.at],
            Kind::Rate(period) => {
                let turned = self.turned(period, now);
                [turned.value, turned.before, now.0.saturating_sub(turned.at)]
            }
        }
    }

    /// From a peer.
    pub(super) fn heard(kind: Kind, [value, before, at]: [u64; 3], now: Timestamp) -> Self {
        match kind {
            Kind::Current | Kind::Count => Self { value, before: 0, at: 0 },
            Kind::Tag => Self { value, before: 0, at },
            Kind::Rate(_) => Self { value, before, at: now.0.saturating_sub(at) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PERIOD: u64 = 10_000;
    const RATE: Kind = Kind::Rate(PERIOD);

    #[test]
    fn a_steady_stream_of_events_is_its_rate_at_any_moment() {
        let mut cell = Cell::default();
        for ms in (1_000_000..1_060_000).step_by(10) {
            cell.add(RATE, 1, Timestamp(ms));
            if ms >= 1_020_000 {
                let rate = cell.rate(PERIOD, Timestamp(ms));
                assert!((995..=1005).contains(&rate), "{rate}");
            }
        }
        assert!((495..=505).contains(&cell.rate(PERIOD, Timestamp(1_065_000))));
        assert_eq!(cell.rate(PERIOD, Timestamp(1_080_000)), 0);
    }

    proptest! {
        #[test]
        fn no_numbers_and_no_times_overflow(value: u64, before: u64, at: u64, now: u64, n: u64, period in 1u64..) {
            let kind = Kind::Rate(period);
            let mut cell = Cell::heard(kind, [value, before, at], Timestamp(now));
            cell.rate(period, Timestamp(now));
            cell.told(kind, Timestamp(now));
            cell.add(kind, n, Timestamp(now));
            cell.rate(period, Timestamp(u64::MAX));
        }

        #[test]
        fn a_rate_reads_the_same_on_the_other_side(times in proptest::collection::vec(0u64..40_000, 0..50), wait in 0u64..30_000) {
            let mut times = times;
            times.sort_unstable();
            let mut cell = Cell::default();
            times.iter().for_each(|at| cell.add(RATE, 1, Timestamp(1_000_000 + at)));
            let told_at = 1_040_000;
            // The other side's clock is somewhere else.
            let there = Cell::heard(RATE, cell.told(RATE, Timestamp(told_at)), Timestamp(5_000_000));
            let here = cell.rate(PERIOD, Timestamp(told_at + wait));
            prop_assert_eq!(there.rate(PERIOD, Timestamp(5_000_000 + wait)), here);
        }
    }
}
