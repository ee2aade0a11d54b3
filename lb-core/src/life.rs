//! From when until when a certificate holds.
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A certificate with less than this to live wants to be renewed; one for a short life, with less than a tenth of it.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// A certificate's life, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its first second.
    pub from: i64,
    /// Its last.
    pub until: i64,
}

impl Life {
    /// Whether it holds then.
    pub fn holds(self, now: SystemTime) -> bool {
        (self.from..=self.until).contains(&unix(now))
    }

    /// Whether its end is near, or past.
    pub fn ends_soon(self, now: SystemTime) -> bool {
        let soon = (self.until - self.from) / 10;
        self.until - unix(now) < soon.min(unix(UNIX_EPOCH + SOON))
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = |at| OffsetDateTime::from_unix_timestamp(at).ok()?.format(&Rfc3339).ok();
        write!(f, "{} to {}", date(self.from).unwrap_or_default(), date(self.until).unwrap_or_default())
    }
}

fn unix(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    #[test]
    fn the_end_is_near_two_weeks_before_it_and_for_short_lives_a_tenth_before_it() {
        let at = |days: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(days * DAY / 10).unwrap());
        let soon = |days: i64, now: i64| Life { from: 0, until: days * DAY }.ends_soon(at(now));
        assert_eq!((soon(365, 3500), soon(365, 3520)), (false, true));
        assert_eq!((soon(10, 80), soon(10, 95), soon(10, 200)), (false, true, true));
    }

    #[test]
    fn it_is_told_by_its_dates() {
        assert_eq!(Life { from: 0, until: DAY }.to_string(), "1970-01-01T00:00:00Z to 1970-01-02T00:00:00Z");
    }

    #[test]
    fn a_certificate_holds_from_its_first_second_to_its_last() {
        let life = Life { from: DAY, until: 2 * DAY };
        let holds = |at: i64| life.holds(UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap()));
        assert_eq!([DAY - 1, DAY, 2 * DAY, 2 * DAY + 1].map(holds), [false, true, true, false]);
    }
}
