//! Points in time and durations as the configuration writes them (`"30m"`).
//! It reads no clock: a [`Timestamp`] always comes from the caller.
use std::time::{Duration, Instant};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This point, later by `d` (saturating).
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(millis(d)))
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in whole milliseconds, saturating.
pub fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a duration: write a number and a unit, as \"500ms\", \"5s\", \"30m\", \"1h\", \"2d\" or \"1h30m\"")]
pub struct DurationError;

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads `"500ms"`, `"5s"`, `"30m"`, `"1h30m"`, `"2d"`: whole numbers, units from greater to smaller.
///
/// # Errors
/// Anything else, an overflow included.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text.trim();
    let mut total: u64 = 0;
    let mut last_unit = u64::MAX;
    if rest.is_empty() {
        return Err(DurationError);
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().map_err(|_| DurationError)?;
        rest = &rest[digits..];
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let unit = UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or(DurationError)?.1;
        if unit >= last_unit {
            return Err(DurationError);
        }
        last_unit = unit;
        total = number.checked_mul(unit).and_then(|ms| total.checked_add(ms)).ok_or(DurationError)?;
        rest = &rest[letters..];
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration the way [`parse_duration`] reads it: `90_500` ms is `"1m30s500ms"`.
pub fn format_duration(d: Duration) -> String {
    let mut ms = millis(d);
    if ms == 0 {
        return "0s".into();
    }
    let mut out = String::new();
    for (name, unit) in UNITS {
        if ms >= unit {
            out.push_str(&format!("{}{name}", ms / unit));
            ms %= unit;
        }
    }
    out
}

/// The wall clock as it was at one moment, carried on by the monotonic one.
///
/// Lives of entries are counted by this: a wall clock that is set, an hour forth or back, while the process runs then
/// neither ends an entry early nor keeps one too long. Two processes may disagree by as much as their wall clocks did
/// when they began, which costs nothing: a life travels as time left, and stamps are hybrid.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    started: Instant,
    wall: Timestamp,
}

impl Steady {
    /// `wall` is what the wall clock said at `started`.
    pub fn new(started: Instant, wall: Timestamp) -> Self {
        Self { started, wall }
    }

    /// The time at `instant`.
    pub fn at(&self, instant: Instant) -> Timestamp {
        self.wall.plus(instant.saturating_duration_since(self.started))
    }

    /// How long before `instant` this began.
    pub fn since(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.started)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(parse_duration("30m"), Ok(Duration::from_secs(1800)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "5", "s", "5 s", "-1s", "1.5s", "1m1h", "1s1s", "99999999999999999999s", "1y"] {
            assert_eq!(parse_duration(bad), Err(DurationError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn writing_then_reading_a_duration_gives_it_back(ms in 0u64..10_000_000_000) {
            let d = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(d)), Ok(d));
        }
    }
}
