//! What a backend makes of failures: which requests are tried again, which servers are taken out, who waits, who is
//! closed.
use std::time::Duration;

/// The keys of a backend that are about failures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// What is tried again.
    pub retry_on: RetryOn,
    /// How many retries there may be; `None`: no more bound than `retries` for each request.
    pub retry_budget: Option<RetryBudget>,
    /// When a server is taken out by its answers; `None`: never.
    pub outlier: Option<Outlier>,
    /// Percent of the servers; with fewer of them up, health is ignored. 0: never.
    pub panic_threshold: u32,
    /// Who is first in a server's queue.
    pub queue_first: QueueFirst,
    /// What becomes of requests and tunnels on a server that goes down.
    pub on_marked_down: OnMarkedDown,
}

/// `backend.retry_on`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection: nothing was sent yet.
    pub connect_failure: bool,
    /// The server closed without a byte of an answer.
    pub empty_response: bool,
    /// The server did not answer in time.
    pub response_timeout: bool,
    /// The server's answer was no HTTP.
    pub junk_response: bool,
    /// Statuses, as inclusive ranges.
    pub statuses: Vec<(u16, u16)>,
}

impl Default for RetryOn {
    fn default() -> Self {
        Self {
            connect_failure: true,
            empty_response: false,
            response_timeout: false,
            junk_response: false,
            statuses: Vec::new(),
        }
    }
}

impl RetryOn {
    /// Whether an answer with this status is tried again.
    pub fn status(&self, status: u16) -> bool {
        self.statuses.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }
}

/// `backend.retry_budget`, `backend.retry_min`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Retries for a hundred requests, over ten seconds.
    pub percent: u32,
    /// Retries a second that are free.
    pub min: u32,
}

/// `backend.outlier`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlier {
    /// Which answers are failures.
    pub on: FailureKind,
    /// Failures in a row that take a server out; 0: none.
    pub consecutive: u32,
    /// Percent of failures in `interval` that take a server out; 0: none.
    pub failure_rate: u32,
    /// Requests in `interval` that a rate needs to mean something.
    pub min_requests: u32,
    /// Over which rates are taken.
    pub interval: Duration,
    /// How long it is out the first time; each further time so much longer.
    pub eject: Duration,
    /// The longest that it is out.
    pub max_eject: Duration,
    /// Percent of the backend's servers that may be out.
    pub max_ejected: u32,
}

/// `outlier.on`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub enum FailureKind {
    /// 500 to 599, and whatever is no answer.
    #[default]
    #[serde(rename = "5xx")]
    Server,
    /// 502, 503, 504, and whatever is no answer.
    #[serde(rename = "gateway")]
    Gateway,
}

impl FailureKind {
    /// As the file writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Server => "5xx",
            Self::Gateway => "gateway",
        }
    }

    /// Whether an answer with this status is a failure.
    pub fn is_failure(self, status: u16) -> bool {
        match self {
            Self::Server => (500..=599).contains(&status),
            Self::Gateway => (502..=504).contains(&status),
        }
    }
}

/// `backend.queue_first`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueFirst {
    /// Who came first.
    #[default]
    Arrived,
    /// Clients that are pinned to the server, then the others.
    Pinned,
}

/// `backend.on_marked_down`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMarkedDown {
    /// They go on.
    #[default]
    Stay,
    /// They are closed at once, so that clients come back elsewhere.
    Close,
}
