//! The views that the admin API gives and the command line reads: one set of types, so that they cannot drift.
//! Field names are stable: scripts rely on them.
use crate::config::{KeyKind, WhenFull};
use crate::server::{AdminState, Health};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// Certificates that clients are shown; `None`: no listener has TLS.
    #[serde(default)]
    pub certificates: Option<CertificatesStatus>,
    /// Backends.
    pub backends: Vec<BackendStatus>,
    /// Tables.
    pub tables: Vec<TableStatus>,
    /// Names that servers are looked up by.
    #[serde(default)]
    pub names: Vec<NameStatus>,
    /// What is kept on disk; `None`: nothing.
    #[serde(default)]
    pub state: Option<StateStatus>,
    /// Replication; `None`: this instance stands alone.
    pub peers: Option<PeersStatus>,
}

/// A name that servers of a backend are looked up by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameStatus {
    /// Backend.
    pub backend: String,
    /// The name.
    pub name: String,
    /// Whether its last look-up found something.
    pub found: bool,
    /// Why it found nothing, or not all.
    pub error: Option<String>,
    /// Look-ups that failed so far.
    pub errors: u64,
    /// Servers made of it.
    pub servers: usize,
    /// Servers left out, because there are no more slots.
    pub left_out: usize,
}

/// A frontend.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FrontendStatus {
    /// Name.
    pub name: String,
    /// `http` or `tcp`.
    #[serde(default)]
    pub mode: String,
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

/// A certificate that clients are shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// Its frontend.
    pub frontend: String,
    /// Its listener, as configured.
    pub listen: String,
    /// Where it was read from.
    pub file: String,
    /// The DNS names that it is for.
    pub names: Vec<String>,
    /// When it ends, Unix milliseconds.
    pub not_after: u64,
    /// When what its CA says of it ends (OCSP), Unix milliseconds; `None`: clients are told nothing.
    #[serde(default)]
    pub ocsp_until: Option<u64>,
}

/// Certificates that clients are shown.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CertificatesStatus {
    /// Those in use.
    pub shown: Vec<CertificateStatus>,
    /// Why changed files cannot be used; those from before are.
    pub error: Option<String>,
    /// How often that happened.
    pub errors: u64,
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
    /// Whether health is ignored, because too few servers are up.
    #[serde(default)]
    pub panic: bool,
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
    /// The same on the other instances, of a server that drains or has a bound for all; `None`: not all have told.
    #[serde(default)]
    pub elsewhere: Option<u32>,
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
    /// Seconds until it is taken in again, when it is out because it failed too many requests.
    #[serde(default)]
    pub ejected: Option<u64>,
    /// Requests that wait for a place on it.
    #[serde(default)]
    pub queued: u32,
    /// Whether it serves only while no other can.
    #[serde(default)]
    pub backup: bool,
    /// Whether discovery knows it no more: what is open there stays, nobody comes.
    #[serde(default)]
    pub gone: bool,
    /// The name that it was found by, where it is in the file with one.
    #[serde(default)]
    pub host: Option<String>,
    /// What its agent says; `None`: it has none, or was not asked yet.
    #[serde(default)]
    pub agent: Option<AgentStatus>,
}

/// What a server's agent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Its last line.
    pub said: String,
    /// Why it could not be heard since.
    pub error: Option<String>,
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
    /// What it counts for each key.
    #[serde(default)]
    pub store: Vec<String>,
    /// Keys that are counted, pinned or not.
    #[serde(default)]
    pub counted: u64,
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
    /// The server; empty: the key is counted, not pinned.
    pub server: String,
    /// Life left in seconds.
    pub expires: f64,
    /// Node that wrote the pin, when its name is known here; else its id in hexadecimal. Empty: not pinned.
    pub node: String,
    /// When the pin was written, Unix milliseconds; 0: not pinned.
    pub written: u64,
    /// What is counted of the key over the whole cluster, by the table's `store`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, u64>,
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
    /// The certificate that peers see; `None`: links are not encrypted.
    pub tls: Option<TlsStatus>,
    /// Names of the join list.
    pub names: Vec<PeerName>,
    /// Peers, configured or met.
    pub peers: Vec<PeerStatus>,
}

/// A name of the join list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerName {
    /// As the list writes it.
    pub name: String,
    /// Whether its last look-up found something.
    pub found: bool,
    /// Look-ups that failed so far.
    pub errors: u64,
}

/// This instance's certificate for peers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TlsStatus {
    /// When it expires, Unix milliseconds.
    pub not_after: u64,
    /// Why the files as they are now are not in use; those that they were before are.
    pub error: Option<String>,
    /// How often files could not be used since the start.
    pub errors: u64,
}

/// One peer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Node name; the address until it is known.
    pub name: String,
    /// Address.
    pub addr: String,
    /// `up`, `connecting`, `down`, `refused`; `unresolved`: a name of the join list that cannot be looked up.
    pub state: String,
    /// Why, when it is not up: the last error.
    pub error: Option<String>,
    /// The error in a word: `cluster`, `name`, `table`, `certificate`, `protocol`, `malformed`, `dns`, `unreachable`,
    /// `other`.
    pub reason: Option<String>,
    /// Somebody who came and was sent away, and neither is in the list nor was ever linked.
    pub stranger: bool,
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
    /// Entries of those that found no room here, or could not be taken.
    pub refused: u64,
    /// Entries sent that it could not take.
    pub refused_by: u64,
    /// Entries changed here that it was not sent yet.
    pub backlog: u64,
    /// How long the oldest batch that is out waits for its acknowledgement, in milliseconds.
    pub lag_ms: f64,
    /// Comparisons of tables that it answered.
    pub compared: u64,
    /// Entries that repairs brought from it since it was met.
    pub repaired: u64,
    /// Last full pull from it: entries, and how long it took in milliseconds.
    pub pulled: Option<(u64, u64)>,
    /// Whether its tables hold the same pins as ours, but for what is on its way; `None`: not known.
    pub in_sync: Option<bool>,
    /// What is known of each table.
    pub tables: Vec<TableSync>,
}

/// How a table compares with a peer's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TableSync {
    /// Name.
    pub table: String,
    /// Whether both hold the same pins, but for what is on its way; `None`: not known.
    pub equal: Option<bool>,
    /// Seconds since they were compared last.
    pub compared_ago: Option<u64>,
    /// Of 1024 buckets, those with a difference that lasts.
    pub buckets_differed: u64,
    /// Entries that repairs brought from the peer since the link came up.
    pub repaired: u64,
    /// Entries of the peer that repairs found no room for, or could not take.
    pub refused: u64,
    /// What there is to know, for people.
    pub note: Option<String>,
}

/// `POST /api/peers/verify`: our tables held against the peers'.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verified {
    /// This node's name.
    pub node: String,
    /// All were compared, and no key differs.
    pub equal: bool,
    /// Live entries here in these tables.
    pub entries: u64,
    /// The tables.
    pub tables: Vec<String>,
    /// A row for each table and peer.
    pub comparisons: Vec<VerifiedTable>,
}

/// One table held against one peer's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VerifiedTable {
    /// The peer.
    pub peer: String,
    /// The table.
    pub table: String,
    /// `None`: not compared.
    pub equal: Option<bool>,
    /// Why it was not compared.
    pub error: Option<String>,
    /// Keys that differ.
    pub differing: u64,
    /// The first 1000 of them.
    pub keys: Vec<DifferingKey>,
}

/// A key that two instances hold differently.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DifferingKey {
    /// The key, as text.
    pub key: String,
    /// What this instance has; `None`: nothing.
    pub here: Option<HeldStatus>,
    /// What the peer has; `None`: nothing.
    pub there: Option<HeldStatus>,
}

/// One side's version of an entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeldStatus {
    /// The server; `None`: the entry was cleared.
    pub server: Option<String>,
    /// Node that wrote it, when its name is known here; else its id in hexadecimal.
    pub node: String,
    /// When it was written, Unix milliseconds.
    pub written: u64,
    /// Life left in seconds.
    pub expires: f64,
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
