//! How many sockets are closed in a time, and how a closing that has to wait is told.
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How fast sockets are closed, as `50/s` or `30/m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// In a minute.
    per_minute: u32,
}

/// No pace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no pace: write a number from 1 to 1,000,000 and the time it takes, as \"50/s\" or \"30/m\"")]
pub struct PaceError(String);

impl Pace {
    /// What holds where nobody says otherwise: 50 a second.
    pub const DEFAULT: Self = Self { per_minute: 3000 };
    const MOST: u32 = 60_000_000;

    /// So many in a minute, at least one.
    pub fn per_minute(n: u32) -> Self {
        Self { per_minute: n.clamp(1, Self::MOST) }
    }

    /// How many in a minute.
    pub fn in_a_minute(self) -> u32 {
        self.per_minute
    }

    /// How many in a second.
    pub fn rate(self) -> f64 {
        f64::from(self.per_minute) / 60.0
    }

    /// The pace that has done with so many after this time; this one, if it has.
    pub fn at_least(self, sockets: u64, within: Duration) -> f64 {
        self.rate().max(sockets as f64 / within.as_secs_f64().max(0.001))
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl FromStr for Pace {
    type Err = PaceError;

    fn from_str(text: &str) -> Result<Self, PaceError> {
        let no = || PaceError(text.to_owned());
        let (number, unit) = text.split_once('/').ok_or_else(no)?;
        let number: u32 = number.trim().replace('_', "").parse().map_err(|_| no())?;
        if !(1..=1_000_000).contains(&number) {
            return Err(no());
        }
        match unit.trim() {
            "s" => Ok(Self { per_minute: number * 60 }),
            "m" => Ok(Self { per_minute: number }),
            _ => Err(no()),
        }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per_minute {
            n if n % 60 == 0 => write!(f, "{}/s", n / 60),
            n => write!(f, "{n}/m"),
        }
    }
}

/// When and how fast the sockets on a server are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// How long until it begins, as of when this was looked at: clocks differ between nodes, so no date travels.
    pub left: Duration,
    /// How fast, all instances together; `None`: as each is configured.
    pub pace: Option<Pace>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_read_as_it_is_written() {
        for text in ["50/s", "1/s", "30/m", "1000000/s"] {
            assert_eq!(text.parse::<Pace>().unwrap().to_string(), text);
        }
        assert_eq!("1_000/s".parse::<Pace>().unwrap().rate(), 1000.0);
        for text in ["", "50", "/s", "0/s", "50/h", "-1/s", "1000001/s", "x/s"] {
            assert!(text.parse::<Pace>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_bound_of_time_makes_it_faster_never_slower() {
        let pace: Pace = "50/s".parse().unwrap();
        assert_eq!(pace.at_least(10, Duration::from_secs(10)), 50.0);
        assert_eq!(pace.at_least(10_000, Duration::from_secs(10)), 1000.0);
        assert!(pace.at_least(10, Duration::ZERO) >= 10.0);
    }
}
