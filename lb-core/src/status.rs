//! The views that the admin API gives and the command line reads: one set of types, so that they cannot drift.
//! Field names are stable: scripts rely on them.
use crate::config::{KeyKind, WhenFull};
use crate::server::{AdminState, Health};
use serde::{Deserialize, Serialize};

/// `GET /api/status`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Node name.
    pub name: String,
    /// Release of `lb`.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// `starting`, `pulling`, `ready`, `draining`.
    pub phase: String,
    /// Seconds since the start.
    pub uptime: u64,
    /// Generation of the running configuration: 1, and one more for each reload.
    pub generation: u64,
    /// Worker threads.
    pub workers: usize,
    /// Address of the admin, when it listens on TCP.
    pub admin: Option<String>,
    /// Frontends.
    pub frontends: Vec<FrontendStatus>,
    /// Backends.
    pub backends: Vec<BackendStatus>,
    /// Tables.
    pub tables: Vec<TableStatus>,
    /// What is kept on disk; `None`: nothing.
    #[serde(default)]
    pub state: Option<StateStatus>,
    /// Replication; `None`: this instance stands alone.
    pub peers: Option<PeersStatus>,
}

/// A frontend.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FrontendStatus {
    /// Name.
    pub name: String,
    /// Addresses, with the real ports.
    pub listen: Vec<String>,
    /// `condition → backend`, for people.
    pub routes: Vec<String>,
    /// Connections open now.
    pub open: u64,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Requests so far.
    pub requests: u64,
}

/// A backend.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Name.
    pub name: String,
    /// Algorithm.
    pub balance: String,
    /// Sticky rules, for people.
    pub sticky: Vec<String>,
    /// Servers.
    pub servers: Vec<ServerStatus>,
}

/// A server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Backend.
    pub backend: String,
    /// Name.
    pub name: String,
    /// Address.
    pub addr: String,
    /// What the operator wants.
    pub state: AdminState,
    /// What checks found.
    pub health: Health,
    /// Why, when it is down: the last failed check.
    pub reason: Option<String>,
    /// Weight that holds now.
    pub weight: u32,
    /// Requests and tunnels now.
    pub active: u32,
    /// Open WebSocket and other upgraded tunnels.
    pub tunnels: u64,
    /// Requests so far.
    pub requests: u64,
    /// Failed connects and broken answers so far.
    pub errors: u64,
    /// The decision of an operator that holds, if there is one.
    pub decision: Option<DecisionStatus>,
    /// How many it takes; `None`: no bound.
    #[serde(default)]
    pub maxconn: Option<MaxconnStatus>,
}

/// How many requests and tunnels a server takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaxconnStatus {
    /// From this instance; `None`: no bound of its own.
    pub instance: Option<u32>,
    /// From all instances together; `None`: no such bound.
    pub cluster: Option<u32>,
    /// Of those, from this instance now.
    pub allowance: Option<u32>,
    /// Requests and tunnels on it from other instances, as far as they told.
    pub elsewhere: u32,
}

/// An operator's decision on a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DecisionStatus {
    /// Where it was made.
    pub node: String,
    /// Who, as given.
    pub author: String,
    /// Why, as given.
    pub reason: String,
    /// When, Unix milliseconds.
    pub at: u64,
    /// Whether it holds on this instance only.
    pub local: bool,
}

/// A table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TableStatus {
    /// Name.
    pub name: String,
    /// Type of keys.
    #[serde(rename = "type")]
    pub kind: KeyKind,
    /// Live entries.
    pub entries: u64,
    /// Greatest number.
    pub size: u64,
    /// Life, in seconds.
    pub expire: f64,
    /// What happens when full.
    pub when_full: WhenFull,
    /// Whether peers get it.
    pub replicate: bool,
    /// Counts.
    pub stores: u64,
    /// Look-ups that found a pin.
    pub hits: u64,
    /// Look-ups that found none.
    pub misses: u64,
    /// Evicted so far.
    pub evictions: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// What came of its file; `None`: nothing is kept on disk.
    #[serde(default)]
    pub state: Option<TableState>,
}

/// What a table was read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableState {
    /// Entries that came from disk.
    pub loaded: u64,
    /// Why the file was set aside, and where it is, if it was.
    pub notice: Option<String>,
}

/// The directory of `instance.state`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StateStatus {
    /// This instance's part of it.
    pub dir: String,
    /// When everything was last written, Unix milliseconds.
    pub saved: Option<u64>,
    /// Why nothing is written, if so.
    pub error: Option<String>,
    /// Files that could not be used: which, why, where they are now.
    pub set_aside: Vec<String>,
}

/// One entry: a row of `lb table show`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EntryStatus {
    /// The key, as text.
    pub key: String,
    /// The server.
    pub server: String,
    /// Life left in seconds.
    pub expires: f64,
    /// Node that wrote the pin, when its name is known here; else its id in hexadecimal.
    pub node: String,
    /// When the pin was written, Unix milliseconds.
    pub written: u64,
}

/// Replication, `GET /api/peers`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeersStatus {
    /// Cluster name.
    pub cluster: String,
    /// This node's name.
    pub node: String,
    /// Where it listens.
    pub listen: String,
    /// Whether the tables were pulled (or there was nobody to pull from).
    pub pulled: bool,
    /// How it came to be so, for people.
    pub pull: String,
    /// Peers, configured or met.
    pub peers: Vec<PeerStatus>,
}

/// One peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Node name; the address until it is known.
    pub name: String,
    /// Address.
    pub addr: String,
    /// `up`, `connecting`, `down`, `refused`.
    pub state: String,
    /// Why, when it is not up: the last error.
    pub error: Option<String>,
    /// Round trip in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Its wall clock minus ours, in milliseconds.
    pub clock_offset_ms: Option<f64>,
    /// Seconds since the link came up.
    pub up_for: Option<u64>,
    /// Entries sent to it in live updates.
    pub sent: u64,
    /// Entries of those that it acknowledged as handled.
    pub acked: u64,
    /// Entries received from it in live updates.
    pub received: u64,
    /// Entries changed here that it was not sent yet.
    pub backlog: u64,
    /// Last full pull from it: entries, and how long it took in milliseconds.
    pub pulled: Option<(u64, u64)>,
}

/// Answer to a change: what was done, for people and for scripts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    /// Things changed.
    pub changed: u64,
    /// A sentence.
    pub message: String,
}

/// Any error of the admin API.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// A sentence that says what is wrong and what to do instead.
    pub error: String,
}
