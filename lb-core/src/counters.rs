//! What a stick table can count for each of its keys, as the configuration names it (`store = ["http_req_rate(10s)"]`),
//! and what there is to be counted. It must not know where the counts lie: `table::counting` keeps them.
use crate::time::{format_duration, millis, parse_duration};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// One counter of a table. A rate is of the events within its period, up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Counter {
    /// Connections open now.
    ConnCur,
    ConnCnt,
    ConnRate(Duration),
    HttpReqCnt,
    HttpReqRate(Duration),
    /// Requests that the client got wrong: answers 400 to 499.
    HttpErrCnt,
    HttpErrRate(Duration),
    /// Requests that the server got wrong: answers 500 to 599.
    HttpFailCnt,
    HttpFailRate(Duration),
    /// Bytes from clients.
    BytesInCnt,
    BytesInRate(Duration),
    /// Bytes to clients.
    BytesOutCnt,
    BytesOutRate(Duration),
    /// A counter for rules to add to.
    Gpc(u8),
    GpcRate(u8, Duration),
    /// A number for rules to set: the last one set anywhere holds.
    Gpt(u8),
}

/// Something to be counted. What a table does not store is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A connection came. [`crate::table::StickTable::open`] counts it, and that it is open.
    Connection,
    /// A request came.
    Request,
    /// It was the client's mistake.
    Error,
    /// It was the server's failure.
    Failure,
    /// Bytes came from the client.
    BytesIn(u64),
    /// Bytes went to the client.
    BytesOut(u64),
    /// Adds to `gpc(n)`.
    Gpc(u8, u64),
    /// Sets `gpt(n)`.
    Tag(u8, u64),
}

/// Why a text is no counter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CounterError {
    /// No counter has this name.
    #[error("there is no counter `{0}`: write one of {all}", all = Counter::EXAMPLES.join(", "))]
    Unknown(String),
    /// A counter of this name is written otherwise.
    #[error("`{wrote}` is not how this counter is written: write it as `{write}`")]
    Form {
        /// As it was written.
        wrote: String,
        /// How it could be.
        write: &'static str,
    },
}

/// What the numbers of a counter mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Goes up and down with its owner.
    Current,
    /// Only grows.
    Count,
    /// Within this many milliseconds.
    Rate(u64),
    /// The last one set.
    Tag,
}

impl Counter {
    /// How each may be written.
    pub const EXAMPLES: [&str; 16] = [
        "conn_cur",
        "conn_cnt",
        "conn_rate(10s)",
        "http_req_cnt",
        "http_req_rate(10s)",
        "http_err_cnt",
        "http_err_rate(1m)",
        "http_fail_cnt",
        "http_fail_rate(1m)",
        "bytes_in_cnt",
        "bytes_in_rate(1m)",
        "bytes_out_cnt",
        "bytes_out_rate(1m)",
        "gpc(0)",
        "gpc_rate(0,10s)",
        "gpt(0)",
    ];

    /// The name without what stands in parentheses.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnCur => "conn_cur",
            Self::ConnCnt => "conn_cnt",
            Self::ConnRate(_) => "conn_rate",
            Self::HttpReqCnt => "http_req_cnt",
            Self::HttpReqRate(_) => "http_req_rate",
            Self::HttpErrCnt => "http_err_cnt",
            Self::HttpErrRate(_) => "http_err_rate",
            Self::HttpFailCnt => "http_fail_cnt",
            Self::HttpFailRate(_) => "http_fail_rate",
            Self::BytesInCnt => "bytes_in_cnt",
            Self::BytesInRate(_) => "bytes_in_rate",
            Self::BytesOutCnt => "bytes_out_cnt",
            Self::BytesOutRate(_) => "bytes_out_rate",
            Self::Gpc(_) => "gpc",
            Self::GpcRate(..) => "gpc_rate",
            Self::Gpt(_) => "gpt",
        }
    }

    /// The period of a rate.
    pub fn period(self) -> Option<Duration> {
        match self {
            Self::ConnRate(period)
            | Self::HttpReqRate(period)
            | Self::HttpErrRate(period)
            | Self::HttpFailRate(period)
            | Self::BytesInRate(period)
            | Self::BytesOutRate(period)
            | Self::GpcRate(_, period) => Some(period),
            _ => None,
        }
    }

    pub(crate) fn kind(self) -> Kind {
        match (self, self.period()) {
            (Self::ConnCur, _) => Kind::Current,
            (Self::Gpt(_), _) => Kind::Tag,
            (_, Some(period)) => Kind::Rate(millis(period).max(1)),
            (_, None) => Kind::Count,
        }
    }

    /// The number that an event adds to this counter, or sets it to.
    pub(crate) fn takes(self, event: Event) -> Option<u64> {
        match (self, event) {
            (Self::ConnCnt | Self::ConnRate(_), Event::Connection)
            | (Self::HttpReqCnt | Self::HttpReqRate(_), Event::Request)
            | (Self::HttpErrCnt | Self::HttpErrRate(_), Event::Error)
            | (Self::HttpFailCnt | Self::HttpFailRate(_), Event::Failure) => Some(1),
            (Self::BytesInCnt | Self::BytesInRate(_), Event::BytesIn(n))
            | (Self::BytesOutCnt | Self::BytesOutRate(_), Event::BytesOut(n)) => Some(n),
            (Self::Gpc(own) | Self::GpcRate(own, _), Event::Gpc(which, n)) | (Self::Gpt(own), Event::Tag(which, n))
                if own == which =>
            {
                Some(n)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match (*self, self.period()) {
            (Self::GpcRate(n, period), _) => write!(f, "{name}({n},{})", format_duration(period)),
            (Self::Gpc(n) | Self::Gpt(n), _) => write!(f, "{name}({n})"),
            (_, Some(period)) => write!(f, "{name}({})", format_duration(period)),
            (_, None) => f.write_str(name),
        }
    }
}

impl FromStr for Counter {
    type Err = CounterError;

    fn from_str(text: &str) -> Result<Self, CounterError> {
        let (name, arguments) = match text.trim().split_once('(') {
            Some((name, rest)) => (name.trim_end(), Some(rest)),
            None => (text.trim(), None),
        };
        let named = |example: &&&str| example.split('(').next() == Some(name);
        let Some(write) = Self::EXAMPLES.iter().find(named) else {
            return Err(CounterError::Unknown(name.to_owned()));
        };
        let form = || CounterError::Form { wrote: text.trim().to_owned(), write };
        let arguments = match arguments {
            Some(rest) => Some(rest.strip_suffix(')').ok_or_else(form)?),
            None => None,
        };
        parse(name, arguments).ok_or_else(form)
    }
}

fn parse(name: &str, arguments: Option<&str>) -> Option<Counter> {
    let Some(arguments) = arguments else {
        return Some(match name {
            "conn_cur" => Counter::ConnCur,
            "conn_cnt" => Counter::ConnCnt,
            "http_req_cnt" => Counter::HttpReqCnt,
            "http_err_cnt" => Counter::HttpErrCnt,
            "http_fail_cnt" => Counter::HttpFailCnt,
            "bytes_in_cnt" => Counter::BytesInCnt,
            "bytes_out_cnt" => Counter::BytesOutCnt,
            _ => return None,
        });
    };
    let number = |text: &str| text.trim().parse::<u8>().ok();
    let period = |text: &str| parse_duration(text).ok().filter(|period| !period.is_zero());
    Some(match name {
        "conn_rate" => Counter::ConnRate(period(arguments)?),
        "http_req_rate" => Counter::HttpReqRate(period(arguments)?),
        "http_err_rate" => Counter::HttpErrRate(period(arguments)?),
        "http_fail_rate" => Counter::HttpFailRate(period(arguments)?),
        "bytes_in_rate" => Counter::BytesInRate(period(arguments)?),
        "bytes_out_rate" => Counter::BytesOutRate(period(arguments)?),
        "gpc" => Counter::Gpc(number(arguments)?),
        "gpt" => Counter::Gpt(number(arguments)?),
        "gpc_rate" => {
            let (n, rest) = arguments.split_once(',')?;
            Counter::GpcRate(number(n)?, period(rest)?)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_written_as_it_is_read() {
        for text in Counter::EXAMPLES {
            let counter: Counter = text.parse().expect(text);
            assert_eq!(counter.to_string(), text);
            assert!(text.starts_with(counter.name()));
        }
        assert_eq!(" gpc_rate( 3, 90s ) ".parse(), Ok(Counter::GpcRate(3, Duration::from_secs(90))));
    }

    #[test]
    fn a_text_that_is_no_counter_is_told_what_to_write() {
        let error = |text: &str| text.parse::<Counter>().expect_err(text).to_string();
        for (wrote, write) in [
            ("http_req_rate", "http_req_rate(10s)"),
            ("http_req_rate(0s)", "http_req_rate(10s)"),
            ("http_req_rate(10s", "http_req_rate(10s)"),
            ("conn_cnt(10s)", "conn_cnt"),
            ("conn_cnt()", "conn_cnt"),
            ("gpc", "gpc(0)"),
            ("gpc(256)", "gpc(0)"),
            ("gpc_rate(10s)", "gpc_rate(0,10s)"),
        ] {
            let expected = format!("`{wrote}` is not how this counter is written: write it as `{write}`");
            assert_eq!(error(wrote), expected);
        }
        assert!(error("requests").starts_with("there is no counter `requests`: write one of conn_cur, "));
    }
}
