//! The configuration as everything else uses it: typed, cross-checked, complete with defaults.
//!
//! | module | for |
//! | --- | --- |
//! | [`mod@file`] | what the user may write: every section and key, as one table |
//! | `affinity`, `table` | what binds a client to its server, and where that is remembered |
//! | [`check`], [`faults`] | how servers are asked; what becomes of failures |
//! | `condition` | comparisons with counters |
//! | `reader`, `env`, `suggest` | reading by that table; every mistake with its place, and what was meant |
//! | [`lower`] | from the text to a [`Config`]: [`load`] |
//! | [`schema`] | the JSON Schema of the file |
//! | `fault` | mistakes that show outside of the text, and their place in it |
//! | [`unused`] | what a file says in vain |
//! | [`diff`] | what a reload changes |
use crate::jwt::Keys;
use crate::limit::Limit;
use crate::matcher::Matcher;
use crate::pace::Pace;
use crate::rules::{Auth, Rules};
use crate::stick::KeyExpr;
use crate::tcp::{Mode, Tcp};
use ipnet::IpNet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

mod address;
mod affinity;
pub mod check;
mod condition;
pub mod diagnostic;
pub mod diff;
pub mod discovery;
mod env;
mod fault;
pub mod faults;
pub mod file;
mod file_affinity;
mod file_check;
mod file_discovery;
mod file_edge;
mod file_faults;
mod file_http2;
mod file_rules;
mod file_traffic;
mod file_websocket;
mod http2;
pub mod lower;
mod reader;
pub mod schema;
mod suggest;
mod table;
mod tls;
mod unused;
pub mod websocket;

pub use address::{ListenAddr, ServerAddr, SocketOptions};
pub use affinity::{
    Cookie, CookieMode, CookieValue, DrainMode, FailBack, OnDown, Persist, SameSite, StickAction, Sticky, TableRule,
};
pub use check::{Agent, Check, Expected, Probe, Step};
pub use condition::{Mistake, conditions};
pub use diagnostic::Diagnostic;
pub use discovery::{Origin, Template};
pub use fault::Fault;
pub use faults::Faults;
pub use http2::{Http2, Proto};
pub use lower::{load, load_with};
pub use reader::{Env, Files};
pub use table::{KeyKind, Table, WhenFull};
pub use tls::{ClientCerts, ListenTls, ProxyVersion, ServerTls, Tls, TlsVersion, Wanted};
pub use unused::unused;
pub use websocket::WebSocket;

/// A whole, valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// This instance.
    pub instance: Instance,
    /// Dashboard, REST API, metrics, CLI socket.
    pub admin: Admin,
    /// Replication; `None`: this instance stands alone.
    pub peers: Option<Peers>,
    /// What is logged, where.
    pub log: Log,
    /// What tokens are believed by whose claims are keys; `None`: no claim is a key.
    pub jwt: Option<Arc<Keys>>,
    /// Who may pass with a password, in the order of the file.
    pub auth: Vec<Arc<Auth>>,
    /// TLS with clients, for all listeners.
    pub tls: Tls,
    /// Stick tables, in the order of the file.
    pub tables: Vec<Arc<Table>>,
    /// Frontends, in the order of the file.
    pub frontends: Vec<Arc<Frontend>>,
    /// Backends, in the order of the file.
    pub backends: Vec<Arc<Backend>>,
}

/// `[instance]`
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Name of this node in the cluster. Default: the host name (given by the caller of `lower`).
    pub name: String,
    /// Worker threads; `None`: one for each core.
    pub workers: Option<usize>,
    /// How long a stop waits for open requests and tunnels. Default 30s.
    pub drain: Duration,
    /// Connections this instance accepts at a time, over all frontends. Default 100,000.
    pub maxconn: usize,
    /// Directory in which tables and decisions outlive the process; `None`: nowhere.
    pub state: Option<PathBuf>,
    /// How often they are written. Default 60s.
    pub state_interval: Duration,
    /// How fast sockets are closed where nobody says otherwise. Default 50/s.
    pub close_pace: Pace,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// HTTP address; `None`: no TCP admin.
    pub listen: Option<SocketAddr>,
    /// Unix socket of the local CLI; `None`: no socket.
    pub socket: Option<PathBuf>,
    /// Token asked of those who change something over TCP. Without one the TCP address is read-only.
    pub token: Option<String>,
}

/// `[peers]`
#[derive(Clone, Debug, PartialEq)]
pub struct Peers {
    /// Only instances with the same cluster name speak to each other.
    pub cluster: String,
    /// Where this instance listens for peers.
    pub listen: SocketAddr,
    /// Peers to dial; may hold this instance itself.
    pub join: Vec<PeerAddr>,
    /// DNS server that names of `join` are asked of; `None`: as the system does it.
    pub resolver: Option<SocketAddr>,
    /// Mutual TLS; `None` only on loopback or with `insecure = true`.
    pub tls: Option<PeerTls>,
    /// How long a starting instance waits for a peer to pull from before it serves alone. Default 10s.
    pub join_timeout: Duration,
    /// How long a miss waits for the peers' word while the tables are not pulled yet. A peer that is up answers within
    /// milliseconds; the bound is for those that are not. Default 1s.
    pub ask_timeout: Duration,
    /// How often a silent link is probed. Default 1s; a peer counts as dead after three.
    pub heartbeat: Duration,
    /// How often two peers compare their tables. Default 10s.
    pub anti_entropy: Duration,
    /// Stamps further ahead than this are refused. Default 24h.
    pub max_clock_ahead: Duration,
}

/// Where somebody is: a peer, or servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerAddr {
    /// `"10.0.0.2:8405"`
    Socket(SocketAddr),
    /// `"lb2.internal:8405"` or `"dns:lb-peers.internal:8405"`: every address the name has.
    Name {
        /// Host name.
        host: String,
        /// Port.
        port: u16,
    },
    /// `"srv:_lb-peers._tcp.shop.internal"`: the hosts and ports of its SRV records.
    Service(String),
}

impl std::fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(addr) => addr.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Service(name) => write!(f, "srv:{name}"),
        }
    }
}

/// `tls = { ca, cert, key }` of `[peers]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTls {
    /// PEM of the cluster's CA.
    pub ca: PathBuf,
    /// PEM of this node's certificate chain.
    pub cert: PathBuf,
    /// PEM of this node's private key.
    pub key: PathBuf,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// `tracing` filter: `"info"`, `"lb_peers=debug,info"`.
    pub level: String,
    /// Readable, JSON, or readable on a terminal and JSON elsewhere.
    pub format: LogFormat,
    /// A line for each request and tunnel. Default off.
    pub access: AccessLog,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `text` on a terminal, `json` elsewhere.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `log.access`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// None.
    Off,
    /// To standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

/// Timeouts of a frontend or backend, all resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Connecting to a server. Default 5s.
    pub connect: Duration,
    /// Silence of a client in the middle of a request body or while it reads an answer. Default 30s.
    pub client: Duration,
    /// Silence of a server that owes an answer. Default 30s.
    pub server: Duration,
    /// Silence of both sides of a tunnel. Default 1h.
    pub tunnel: Duration,
    /// From the first byte of a request's head to its last. Default 10s.
    pub http_request: Duration,
    /// A client connection between two requests. Default 60s.
    pub http_keep_alive: Duration,
    /// Waiting for a server with `maxconn` connections. Default: `connect`.
    pub queue: Duration,
    /// A health check. Default 2s.
    pub check: Duration,
    /// A TLS handshake with a client. Default 10s.
    pub tls_handshake: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            connect: s(5),
            client: s(30),
            server: s(30),
            tunnel: s(3600),
            http_request: s(10),
            http_keep_alive: s(60),
            queue: s(5),
            check: s(2),
            tls_handshake: s(10),
        }
    }
}

/// `[frontend.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Frontend {
    /// Name, unique.
    pub name: String,
    /// What `mode = "tcp"` needs; `None`: the mode is `http`.
    pub tcp: Option<Tcp>,
    /// Where clients arrive.
    pub listen: Vec<Listen>,
    /// Tried in order; the first that matches decides.
    pub routes: Vec<Route>,
    /// Backend where no route matches; `None`: 404.
    pub backend: Option<String>,
    /// Timeouts.
    pub timeout: Timeouts,
    /// Connections at a time. Default: the instance's.
    pub maxconn: usize,
    /// Connections at a time from one client address (the first 64 bits of one of IPv6); 0: no bound. Default 0.
    pub maxconn_per_address: usize,
    /// `X-Forwarded-For`, `X-Forwarded-Proto` to the servers. Default true.
    pub forwarded: bool,
    /// Networks whose `X-Forwarded-For` is believed (`src` is then the last address it names that is not trusted
    /// itself). Default none.
    pub trusted_proxies: Vec<IpNet>,
    /// Greatest size of a request head in bytes. Default 16 KiB.
    pub max_head: usize,
    /// Greatest number of header fields. Default 100.
    pub max_headers: usize,
    /// Bytes a second with which a client sends a body or takes an answer at least, while it is waited for; 0: no bound.
    /// Default 240.
    pub min_rate: u64,
    /// Rules on what is counted, tried in order for each request.
    pub limit: Vec<Limit>,
    /// Requests that `tarpit` rules hold at a time, in each worker. Default 1,000.
    pub max_tarpit: usize,
    /// What it does to requests and answers.
    pub rules: Rules,
    /// What one client connection of HTTP/2 may hold.
    pub http2: Http2,
}

/// One address of a frontend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listen {
    /// Address; port 0 takes a free one.
    pub addr: ListenAddr,
    /// How its socket is made.
    pub socket: SocketOptions,
    /// Networks whose connections begin with a PROXY protocol header. Default none.
    pub accept_proxy: Vec<IpNet>,
    /// TLS; `None`: plain.
    pub tls: Option<Arc<ListenTls>>,
    /// Protocols offered in the handshake, the better liked first; none without TLS.
    pub alpn: Vec<String>,
    /// Clients may begin with HTTP/2 without TLS. Default false.
    pub h2c: bool,
}

/// One route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// What it takes.
    pub when: Matcher,
    /// Where it goes.
    pub backend: String,
}

/// `[backend.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Name, unique.
    pub name: String,
    /// Its own word, or that of the frontends that lead to it.
    pub mode: Mode,
    /// The algorithm for clients that no pin binds.
    pub balance: Balance,
    /// How the algorithm spreads them.
    pub spread: Spread,
    /// Affinity, tried in order: cookie rules first, then tables.
    pub sticky: Vec<Sticky>,
    /// When affinity is kept in spite of all, when not at all, and when a client goes back.
    pub persist: Persist,
    /// What a client gets whose pinned server is down.
    pub on_down: OnDown,
    /// Whether a draining server's pinned clients stay or are moved.
    pub drain: DrainMode,
    /// Health check of servers that say nothing else; `None`: they are up until connecting fails.
    pub check: Option<Arc<Check>>,
    /// What the agents of such servers are asked; `None`: nothing.
    pub agent: Option<Arc<Agent>>,
    /// Connection attempts after the first, all servers together. Default 3.
    pub retries: u32,
    /// What is tried again, who is taken out, who waits first, who is closed.
    pub faults: Faults,
    /// After a server is marked by failed connects without a check, how long until it is tried again. Default 5s.
    pub retry_after: Duration,
    /// Requests that may wait for one server with `maxconn`. Default 1,000.
    pub max_queue: usize,
    /// `X-Real-IP` to the servers. Default false.
    pub real_ip: bool,
    /// Idle connections a worker keeps for each server. Default 64.
    pub max_idle: usize,
    /// Longest body of a request in bytes; `None`: no bound, the default.
    pub max_body: Option<u64>,
    /// Timeouts.
    pub timeout: Timeouts,
    /// What WebSockets get.
    pub websocket: WebSocket,
    /// What it does to requests and answers.
    pub rules: Rules,
    /// What the servers speak.
    pub proto: Proto,
    /// DNS server that names of servers are asked of; `None`: as the system does it.
    pub resolver: Option<SocketAddr>,
    /// What servers are made of by name.
    pub templates: Vec<Arc<Template>>,
    /// Servers; at least one where there is no template.
    pub servers: Vec<Arc<Server>>,
}

/// `backend.balance`
#[derive(Clone, Debug, PartialEq)]
pub enum Balance {
    /// Smooth weighted round robin.
    RoundRobin,
    /// Fewest connections for its weight; ties by rendezvous of the key.
    LeastConn,
    /// The least loaded of so many drawn at random, by weight.
    Random(u32),
    /// The first in the order of the file that has a place under its `maxconn`.
    First,
    /// Weighted rendezvous hash of the value; without one, of the source address.
    Hash(KeyExpr),
}

/// What bends the algorithm of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Of hashing: how much of its even part of the load a server has at most, in percent.
    pub load_bound: Option<u32>,
    /// All backups share the clients when no other server is left, not the first of them alone.
    pub all_backups: bool,
}

/// How a server that comes up gets its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowStart {
    /// Its weight grows to the whole in this time.
    pub time: Duration,
    /// Meanwhile at most so many new clients a second.
    pub pace: Option<NonZeroU32>,
}

/// `maxconn` of a server; 0: no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maxconn {
    /// From this instance.
    pub instance: usize,
    /// From all instances of the cluster together.
    pub cluster: usize,
}

/// One server of a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Name, unique in the backend: its identity in tables.
    pub name: String,
    /// Address.
    pub addr: ServerAddr,
    /// Where it comes from.
    pub origin: Origin,
    /// The host name that it was found by: TLS asks for it where nothing else is said.
    pub host: Option<String>,
    /// Share of new clients, 0 to 256. Default 1. 0: pinned clients only.
    pub weight: u32,
    /// Requests and tunnels at a time; the rest waits. Default: no bound.
    pub maxconn: Maxconn,
    /// Taken only when no other is left.
    pub backup: bool,
    /// How it gets its clients when it comes up; `None`: all at once.
    pub slow_start: Option<SlowStart>,
    /// Its value in the cookie. Default: its name.
    pub cookie: String,
    /// Which life of this server: dynamic and sealed cookies of another are not believed. Default 0.
    pub generation: u64,
    /// TLS to it; `None`: plain.
    pub tls: Option<Arc<ServerTls>>,
    /// Its connections begin with a PROXY protocol header.
    pub send_proxy: Option<ProxyVersion>,
    /// How it is checked; `None`: it is up until connecting fails.
    pub check: Option<Arc<Check>>,
    /// What its agent is asked; `None`: nothing.
    pub agent: Option<Arc<Agent>>,
    /// State it starts in when nobody has decided otherwise.
    pub state: crate::server::AdminState,
}

#[cfg(test)]
mod tests;
