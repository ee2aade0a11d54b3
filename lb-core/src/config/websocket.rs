//! `backend.websocket`: what WebSockets of a backend get beyond being passed on.
use std::time::Duration;

/// `websocket = { … }` of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocket {
    /// Pings of ours; `None`: none.
    pub ping: Option<Ping>,
    /// How long each step of a close may take: the end of a message, each side's answer. Default 3s.
    pub close_timeout: Duration,
    /// What keeps a socket from being idle.
    pub idle: Idle,
    /// Greatest payload of a frame, past which the socket is closed with 1009; `None`: any.
    pub max_frame: Option<u64>,
    /// Frames that break the protocol close the socket with 1002. Default false: the other end is to judge.
    pub strict: bool,
    /// A 101 whose `Sec-WebSocket-Accept` is not the right one is answered with 502. Default true.
    pub verify_accept: bool,
    /// How an upgrade is refused that finds no place.
    pub refuse: Refuse,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            ping: None,
            close_timeout: Duration::from_secs(3),
            idle: Idle::default(),
            max_frame: None,
            strict: false,
            verify_accept: true,
            refuse: Refuse::default(),
        }
    }
}

/// Pings of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// After so long without a byte from a side.
    pub every: Duration,
    /// How long its answer may take. Default 10s.
    pub timeout: Duration,
    /// Who is pinged.
    pub to: PingTo,
}

/// `websocket.ping_to`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PingTo {
    /// Client and server.
    #[default]
    Both,
    /// The client only.
    Client,
    /// The server only.
    Server,
}

/// `websocket.idle`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    /// Any frame of client or server keeps it, their pings and pongs too.
    #[default]
    Frames,
    /// Only data does.
    Data,
}

/// `websocket.refuse`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Refuse {
    /// 503 or 429 with `Retry-After`.
    #[default]
    Http,
    /// The handshake is answered, then closed with 1013: scripts in browsers see that, and no status.
    Close,
}
