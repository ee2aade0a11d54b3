//! What the workers and the control thread share: one snapshot pointer, a few atomics, the hook that asks peers.
use crate::edge::Edges;
use crate::upstream::Queues;
use arc_swap::{ArcSwap, ArcSwapOption};
use lb_core::snapshot::{Base, Slot, Snapshot};
use lb_core::time::{Steady, Timestamp};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Shared by every thread of an instance.
pub struct Shared {
    /// What all snapshots share.
    pub base: Base,
    /// The configuration that holds.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// How connections begin on each listener; swapped with the configuration, and when certificates change.
    pub edges: Arc<ArcSwap<Edges>>,
    /// The instance is leaving: answers close their connections, nothing new is kept alive.
    pub draining: AtomicBool,
    /// Client connections open now, over all frontends.
    pub connections: AtomicUsize,
    /// WebSockets that nobody has told to end, one slot a worker.
    pub websockets: Box<[Slot]>,
    /// Those who wait for servers with `maxconn`.
    pub queues: Queues,
    /// Set while the tables are not pulled yet: a miss asks the peers first.
    pub ask: ArcSwapOption<AskPeers>,
    /// Where access log lines go; `None`: nowhere.
    pub access: ArcSwapOption<AccessSink>,
}

/// Asks the peers for one key of a table; when it is done, their answer (if any) is in the table.
pub struct AskPeers(pub Box<AskFn>);

/// Table and key in, an answer to wait for out.
pub type AskFn = dyn Fn(&str, &[u8]) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync;

/// Takes finished access log lines; must not block.
pub struct AccessSink(pub Box<dyn Fn(AccessLine) + Send + Sync>);

/// One finished request or tunnel.
#[derive(Debug, serde::Serialize)]
pub struct AccessLine {
    /// Unix milliseconds when the request's first byte came.
    pub time: u64,
    /// The connection's other end.
    pub client: std::net::SocketAddr,
    /// The client: behind trusted proxies another.
    pub src: std::net::IpAddr,
    /// `TLSv1.3`, where the client came over TLS.
    pub tls: Option<&'static str>,
    /// Frontend.
    pub frontend: String,
    /// Backend, once known.
    pub backend: Option<String>,
    /// Server, once chosen.
    pub server: Option<String>,
    /// Method.
    pub method: String,
    /// Host; of a connection of TCP mode the name that its TLS asks for, where that is looked at.
    pub host: String,
    /// Target as sent.
    pub target: String,
    /// Status that the client got; 0: none.
    pub status: u16,
    /// Bytes from the client (bodies).
    pub bytes_in: u64,
    /// Bytes to the client (bodies).
    pub bytes_out: u64,
    /// From the first byte to the end, microseconds.
    pub total_us: u64,
    /// Until the server's answer began, microseconds.
    pub wait_us: Option<u64>,
    /// Why this server: `cookie`, `table:NAME`, `new`, `redispatched`, `returned`, `-`; or the rule that answered instead:
    /// `limit[N]`, `request[N]`, `BACKEND.request[N]`.
    pub why: String,
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Box<str>>,
    /// Who showed a right password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Box<str>>,
    /// How it ended: `ok`, or a reason code as in the body of our own answers, or for tunnels the side that closed.
    pub end: &'static str,
    /// Connection attempts after the first.
    pub retries: u32,
    /// Whether it became a tunnel.
    pub tunnel: bool,
    /// For a WebSocket the code of the Close frame that came first; 1005: it had none; `None`: there was no such frame.
    pub close_code: Option<u16>,
    /// For a WebSocket who ended it first: `client`, `server`, `lb`.
    pub close_by: Option<&'static str>,
    /// What the client speaks: `http/1.1`, `h2`, or `tcp` in TCP mode.
    pub protocol: &'static str,
}

/// The time that lives, stamps and cookies go by: the wall clock of the process's beginning, carried on steadily.
pub fn now() -> Timestamp {
    at(tokio::time::Instant::now())
}

/// The same, at another time than now.
pub(crate) fn at(instant: tokio::time::Instant) -> Timestamp {
    steady().at(instant.into_std())
}

/// The base of [`now`].
pub(crate) fn steady() -> Steady {
    static STEADY: OnceLock<Steady> = OnceLock::new();
    *STEADY.get_or_init(|| Steady::new(Instant::now(), wall()))
}

/// The wall clock as it is: for what people read.
pub(crate) fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(lb_core::time::millis(since))
}
